# Makes a C++ source of the pages in reporting/, each with the head, foot, style and script that all share.
# Needs FOLDER (reporting/) and OUTPUT (the source to write).
foreach(part page_head.html page_foot.html page.css page.js)
  file(READ ${FOLDER}/${part} ${part})
endforeach()
set(source "#include <string_view>\n\nnamespace convae {\n")
foreach(name report scores)
  file(READ ${FOLDER}/${name}.html page)
  file(READ ${FOLDER}/${name}.js script)
  string(REPLACE "@PAGE_HEAD@" "${page_head.html}" page "${page}")
  string(REPLACE "@PAGE_FOOT@" "${page_foot.html}" page "${page}")
  string(REPLACE "@PAGE_STYLE@" "${page.css}" page "${page}")
  string(REPLACE "@PAGE_SCRIPT@" "${page.js}\n${script}" page "${page}")
  string(APPEND source "extern const std::string_view k_${name}_page;
const std::string_view k_${name}_page = R\"TEMPLATE(${page})TEMPLATE\";
")
endforeach()
file(WRITE ${OUTPUT} "${source}}  // namespace convae\n")
