# Packs convae as users get it, unpacks it elsewhere and runs it: the thin archive with a LibTorch put
# beside it, the other with nothing of this machine's LibTorch in sight. Needs BUILD (convae's build folder) and TORCH_LIBRARIES (LibTorch's lib).
set(PLACE ${BUILD}/package_test)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
# The thin archive, with a LibTorch put where install.md says.
file(REMOVE_RECURSE ${PLACE})
file(MAKE_DIRECTORY ${PLACE})
run(${CMAKE_CPACK_COMMAND} --config ${BUILD}/CPackConfig.cmake -G TGZ -B ${PLACE}/thin
    -D CPACK_CONVAE_THIN=ON)
file(GLOB archive ${PLACE}/thin/*.tar.gz)
file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${PLACE}/thin/unpacked)
file(GLOB prefix ${PLACE}/thin/unpacked/*)
file(CREATE_LINK ${TORCH_LIBRARIES} ${prefix}/lib/convae SYMBOLIC)
run(env -i ${prefix}/bin/convae shapes --config ${prefix}/share/doc/convae/configs/photos.toml
    --input 3x24x25)

if(EXISTS ${TORCH_LIBRARIES}/libtorch_cuda.so)
  message("SKIPPED: packages are made with the CPU build of LibTorch, and this one has CUDA")
  return()
endif()
# gzip takes long over LibTorch, and shows nothing that the thin archive did not.
run(${CMAKE_CPACK_COMMAND} --config ${BUILD}/CPackConfig.cmake -G TZST -B ${PLACE}/packages)
file(GLOB archive ${PLACE}/packages/*.tar.zst)
file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${PLACE}/unpacked)
file(GLOB prefix ${PLACE}/unpacked/*)
run(env -i ${prefix}/bin/convae shapes --input 3x24x25)

file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${prefix}/bin/convae LIBRARIES ${prefix}/lib/libconvae.so
     RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing)
if(missing)
  message(FATAL_ERROR "not found: ${missing}")
endif()
list(FILTER found INCLUDE REGEX "torch|c10|gomp")
foreach(library ${found})
  file(REAL_PATH ${library} real)
  if(NOT real MATCHES "^${prefix}/lib/convae/")
    message(FATAL_ERROR "the package uses ${library} of this machine")
  endif()
endforeach()
list(LENGTH found count)
if(count LESS 3)
  message(FATAL_ERROR "LibTorch's libraries are not among what the package uses: ${found}")
endif()
file(REMOVE_RECURSE ${PLACE})
