# What reporting/ is made of beside its sources: the reports' pages, put together of their templates,
# style and scripts, and TensorBoard's messages.

set(report_dir ${CMAKE_BINARY_DIR}/generated/report)
set(report_parts page_head.html page_foot.html page.css page.js report.html report.js scores.html scores.js)
list(TRANSFORM report_parts PREPEND ${PROJECT_SOURCE_DIR}/reporting/)
add_custom_command(OUTPUT ${report_dir}/report_page.cpp
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${PROJECT_SOURCE_DIR}/reporting
          -DOUTPUT=${report_dir}/report_page.cpp -P ${PROJECT_SOURCE_DIR}/cmake/EmbedReport.cmake
  DEPENDS ${report_parts} ${PROJECT_SOURCE_DIR}/cmake/EmbedReport.cmake VERBATIM COMMENT "Putting the reports' pages together")

# event_file.cpp is compiled without LibTorch in sight, for the reasons ConvaeOnnx.cmake gives; that
# also finds protoc and protobuf_lite.
set(events_dir ${CMAKE_BINARY_DIR}/generated/events)
file(MAKE_DIRECTORY ${events_dir})
add_custom_command(OUTPUT ${events_dir}/events.pb.cc ${events_dir}/events.pb.h
  COMMAND ${PROTOC} --proto_path=${PROJECT_SOURCE_DIR}/reporting --cpp_out=${events_dir}
          ${PROJECT_SOURCE_DIR}/reporting/events.proto
  DEPENDS ${PROJECT_SOURCE_DIR}/reporting/events.proto VERBATIM COMMENT "Compiling TensorBoard's messages")
add_library(convae_events OBJECT event_file.cpp ${events_dir}/events.pb.cc ${report_dir}/report_page.cpp)
convae_own_target(convae_events)
set_source_files_properties(${events_dir}/events.pb.cc PROPERTIES COMPILE_OPTIONS -w)
target_include_directories(convae_events SYSTEM PRIVATE ${events_dir})
target_link_libraries(convae_events PRIVATE PkgConfig::protobuf_lite)
target_sources(convae_everything INTERFACE $<TARGET_OBJECTS:convae_events>)
