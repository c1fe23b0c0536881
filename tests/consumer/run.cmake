# Installs convae into a folder of the build and builds and runs the consumer against that alone.
# Needs BUILD (convae's build folder), SOURCE (this folder), TORCH (LibTorch's CMake folder), PAGE (the
# page with the programs) and SAMPLES (images to train on).
set(PREFIX ${BUILD}/consumer/prefix)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
file(REMOVE_RECURSE ${BUILD}/consumer)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD}/consumer/build -G Ninja
    -DCMAKE_PREFIX_PATH=${PREFIX} -DTorch_DIR=${TORCH} -DPAGE=${PAGE} -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${BUILD}/consumer/build)

# What train writes, latents, reconstruct and the installed program read.
set(CONSUMER ${BUILD}/consumer)
file(GLOB images ${SAMPLES}/*/*.png ${SAMPLES}/*.png)
list(GET images 0 image)
run(${CONSUMER}/build/train ${SAMPLES} ${CONSUMER}/mine.safetensors)
run(${CONSUMER}/build/latents ${CONSUMER}/mine.safetensors)
run(${CONSUMER}/build/reconstruct ${CONSUMER}/mine.safetensors ${image} ${CONSUMER}/by_library.png)
run(${CONSUMER}/prefix/bin/convae reconstruct --checkpoint ${CONSUMER}/mine.safetensors
    --data ${image} -o ${CONSUMER}/by_program --quiet)
file(GLOB_RECURSE by_program ${CONSUMER}/by_program/*.png)
run(${CMAKE_COMMAND} -E compare_files ${CONSUMER}/by_library.png ${by_program})

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
