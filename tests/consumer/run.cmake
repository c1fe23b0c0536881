# Installs convae into a folder of the build and builds and runs the consumer against that alone.
# Needs BUILD (convae's build folder), SOURCE (this folder), TORCH (LibTorch's folder), PAGE (the page
# with the programs) and SAMPLES (images to train on).
set(CONSUMER ${BUILD}/consumer)
set(PREFIX ${CONSUMER}/prefix)
set(MINE ${CONSUMER}/build)
set(THEIRS ${PREFIX}/bin/convae)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
function(same)  # two files, or two folders of files
  execute_process(COMMAND diff -r ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
file(REMOVE_RECURSE ${CONSUMER})
# After scripts/setup, which builds the program alone.
file(REMOVE ${BUILD}/lib/libconvae.so)
run(${CMAKE_COMMAND} --build ${BUILD} --target convae_program)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${MINE} -G Ninja -DCMAKE_PREFIX_PATH=${PREFIX}
    -DLibTorch_ROOT=${TORCH} -DPAGE=${PAGE})
run(${CMAKE_COMMAND} --build ${MINE})
run(${MINE}/own_headers)

# Some of the samples are enough to compare the jobs on.
foreach(kind bag boot coat)
  file(COPY ${SAMPLES}/${kind} DESTINATION ${CONSUMER}/samples)
endforeach()
set(SAMPLES ${CONSUMER}/samples)

# What the library's jobs write is what the program's commands write, byte for byte.
set(out ${CONSUMER}/out)
set(run ${out}/theirs/mine)
run(${MINE}/train ${SAMPLES} ${out}/ours)
run(${THEIRS} train --data ${SAMPLES} --levels 16,32 --epochs 2 --output ${out}/theirs --name mine --quiet)
foreach(who ours theirs)
  run(${THEIRS} export --checkpoint ${out}/${who}/mine --format safetensors -o ${out}/${who}.safetensors --quiet)
endforeach()
same(${out}/ours.safetensors ${out}/theirs.safetensors)

# A run of the library finds its images again, but only the program keeps how it was trained.
run(${THEIRS} score --checkpoint ${out}/ours/mine --data ${SAMPLES} -o ${out}/ours/own_score --quiet)
execute_process(COMMAND ${THEIRS} train --resume ${out}/ours/mine RESULT_VARIABLE code ERROR_VARIABLE said)
if(NOT code EQUAL 1 OR NOT said MATCHES "does not keep how it was trained")
  message(FATAL_ERROR "train --resume: ${code} ${said}")
endif()

run(${MINE}/reconstruct ${run} ${SAMPLES} ${out}/ours/reconstructed)
run(${THEIRS} reconstruct --checkpoint ${run} --data ${SAMPLES} -o ${out}/theirs/reconstructed --quiet)
same(${out}/ours/reconstructed ${out}/theirs/reconstructed)

run(${MINE}/encode ${run} ${SAMPLES} ${out}/ours/latents.npy)
run(${THEIRS} encode --checkpoint ${run} --data ${SAMPLES} -o ${out}/theirs/latents.npy --quiet)
same(${out}/ours/latents.npy ${out}/theirs/latents.npy)
same(${out}/ours/latents.csv ${out}/theirs/latents.csv)

run(${MINE}/evaluate ${run} ${SAMPLES} ${out}/ours/evaluated)
run(${THEIRS} evaluate --checkpoint ${run} --data ${SAMPLES} -o ${out}/theirs/evaluated --quiet)
same(${out}/ours/evaluated ${out}/theirs/evaluated)

run(${MINE}/score ${run} ${SAMPLES} ${out}/ours/scored)
run(${THEIRS} score --checkpoint ${run} --data ${SAMPLES} -o ${out}/theirs/scored --quiet)
same(--exclude=report.html ${out}/ours/scored ${out}/theirs/scored)  # it says when it was written

run(${MINE}/export ${run} ${out}/ours/model.onnx)
run(${THEIRS} export --checkpoint ${run} --format onnx -o ${out}/theirs/model.onnx --quiet)
same(${out}/ours/model.onnx ${out}/theirs/model.onnx)

file(GLOB images ${SAMPLES}/*/*.png ${SAMPLES}/*.png)
list(GET images 0 image)
run(${MINE}/pictures ${run} ${image} ${out}/ours/picture.png)
file(RELATIVE_PATH name ${SAMPLES} ${image})
same(${out}/ours/picture.png ${out}/theirs/reconstructed/${name})

# The program finds its libraries wherever both are moved, and what belongs to it is beside it.
file(RENAME ${PREFIX} ${CONSUMER}/moved)
run(${CONSUMER}/moved/bin/convae --version)
foreach(name man/man1/convae.1 bash-completion/completions/convae zsh/site-functions/_convae
        fish/vendor_completions.d/convae.fish)
  file(SIZE ${CONSUMER}/moved/share/${name} size)
  if(size EQUAL 0)
    message(FATAL_ERROR "share/${name} is empty")
  endif()
endforeach()
