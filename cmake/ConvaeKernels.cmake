# models/kernels/kernels.cpp, once an instruction set; flat_maps.cpp chooses at run time, so that a
# program built on one machine runs on another. Only loops over floats: -O3 vectorises them.
function(convae_add_kernels name)
  add_library(convae_kernels_${name} OBJECT kernels/kernels.cpp)
  convae_own_target(convae_kernels_${name})
  target_compile_definitions(convae_kernels_${name} PRIVATE CONVAE_KERNELS=${name})
  target_compile_options(convae_kernels_${name} PRIVATE
    -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math ${ARGN})
  target_sources(convae_everything INTERFACE $<TARGET_OBJECTS:convae_kernels_${name}>)
endfunction()

convae_add_kernels(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  convae_add_kernels(avx2 -mavx2 -mfma)
  convae_add_kernels(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
                     -mprefer-vector-width=512)
  target_compile_definitions(convae_objects PRIVATE CONVAE_X86_KERNELS)
endif()
