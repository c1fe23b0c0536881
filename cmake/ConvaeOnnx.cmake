# The writer of ONNX files: protobuf's classes for the schema that libonnx-dev brings, and the one
# source that uses them. LibTorch has the same classes inside, made by an older protobuf whose
# headers lie among its own. So this is compiled without LibTorch in sight, and its package has a
# name of its own, so that no two classes of the process share theirs; the bytes written are the
# same.
set(schema_dir ${CMAKE_BINARY_DIR}/generated/onnx)
file(MAKE_DIRECTORY ${schema_dir})
add_custom_command(OUTPUT ${schema_dir}/onnx.pb.cc ${schema_dir}/onnx.pb.h
  COMMAND sed -E "s/^package [a-z_]+;/package convae_onnx;/" ${ONNX_SCHEMA} > ${schema_dir}/onnx.proto
  COMMAND ${PROTOC} --proto_path=${schema_dir} --cpp_out=lite:${schema_dir} ${schema_dir}/onnx.proto
  DEPENDS ${ONNX_SCHEMA} VERBATIM COMMENT "Compiling the ONNX schema")

add_library(convae_onnx OBJECT onnx_graph.cpp ${schema_dir}/onnx.pb.cc)
convae_own_target(convae_onnx)
set_source_files_properties(${schema_dir}/onnx.pb.cc PROPERTIES COMPILE_OPTIONS -w)
target_include_directories(convae_onnx SYSTEM PRIVATE ${schema_dir})
target_link_libraries(convae_onnx PRIVATE PkgConfig::protobuf_lite)
target_sources(convae_everything INTERFACE $<TARGET_OBJECTS:convae_onnx>)
