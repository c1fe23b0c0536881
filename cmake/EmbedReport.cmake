# Makes a C++ source of reporting/report.html with its style and script in it.
# Needs FOLDER (reporting/) and OUTPUT (the source to write).
file(READ ${FOLDER}/report.html page)
file(READ ${FOLDER}/report.css style)
file(READ ${FOLDER}/report.js script)
string(REPLACE "@REPORT_STYLE@" "${style}" page "${page}")
string(REPLACE "@REPORT_SCRIPT@" "${script}" page "${page}")
file(WRITE ${OUTPUT} "#include <string_view>

namespace convae {
extern const std::string_view kReportTemplate;
const std::string_view kReportTemplate = R\"TEMPLATE(${page})TEMPLATE\";
}  // namespace convae
")
