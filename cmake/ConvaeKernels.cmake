# models/kernels.cpp, once an instruction set; models/kernels_for.cpp chooses at run time, so that
# a program built on one machine runs on another. Only loops over floats: -O3 vectorises them.
function(convae_add_kernels name)
  add_library(convae_kernels_${name} OBJECT models/kernels.cpp)
  convae_own_target(convae_kernels_${name})
  target_include_directories(convae_kernels_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(convae_kernels_${name} PRIVATE CONVAE_KERNELS=${name})
  target_compile_options(convae_kernels_${name} PRIVATE
    -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math ${ARGN})
  target_sources(convae PRIVATE $<TARGET_OBJECTS:convae_kernels_${name}>)
endfunction()

convae_add_kernels(baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  convae_add_kernels(avx2 -mavx2 -mfma)
  convae_add_kernels(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
                     -mprefer-vector-width=512)
  set_source_files_properties(models/kernels_for.cpp PROPERTIES
    COMPILE_DEFINITIONS CONVAE_X86_KERNELS)
endif()

# parallel.cpp must share LibTorch's pool of OpenMP threads: its own copy of libgomp is linked.
# clang would call another library; what it builds (the fuzz targets) runs on one thread.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  file(GLOB CONVAE_LIBGOMP ${TORCH_INSTALL_PREFIX}/lib/libgomp*.so*)
  if(NOT CONVAE_LIBGOMP)
    set(CONVAE_LIBGOMP gomp)
  endif()
  set_source_files_properties(models/parallel.cpp PROPERTIES COMPILE_OPTIONS -fopenmp)
  target_link_libraries(convae PRIVATE ${CONVAE_LIBGOMP})
endif()
