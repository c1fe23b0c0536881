# Installs convae into a folder of the build and builds and runs the consumer against that alone.
# Needs BUILD (convae's build folder), SOURCE (this folder), TORCH (LibTorch's CMake folder).
set(PREFIX ${BUILD}/consumer/prefix)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
file(REMOVE_RECURSE ${BUILD}/consumer)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD}/consumer/build -G Ninja
    -DCMAKE_PREFIX_PATH=${PREFIX} -DTorch_DIR=${TORCH} -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${BUILD}/consumer/build)
run(${BUILD}/consumer/build/consumer)

# The program finds its libraries wherever both are moved, and what belongs to it is beside it.
file(RENAME ${PREFIX} ${BUILD}/consumer/moved)
run(${BUILD}/consumer/moved/bin/convae --version)
foreach(name man/man1/convae.1 bash-completion/completions/convae zsh/site-functions/_convae
        fish/vendor_completions.d/convae.fish)
  file(SIZE ${BUILD}/consumer/moved/share/${name} size)
  if(size EQUAL 0)
    message(FATAL_ERROR "share/${name} is empty")
  endif()
endforeach()
