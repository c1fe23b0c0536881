# What connects several processes, each a module that the program loads when it is started as one of
# them, and runs without otherwise. The wheel, which fits no one MPI or CUDA, has none.
if(CONVAE_WHEEL)
  return()
endif()

function(convae_engine name source)
  add_library(${name} MODULE training/engines/${source})
  convae_own_target(${name})
  add_dependencies(convae_program ${name})
  install(TARGETS ${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# MPI, where there is one to build with (Debian: libopenmpi-dev).
# -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON leaves it out.
set(MPI_CXX_SKIP_MPICXX ON)  # only MPI's functions in C
find_package(MPI QUIET COMPONENTS CXX)
if(MPI_CXX_FOUND)
  message(STATUS "MPI ${MPI_CXX_VERSION}: training can run in several processes")
  convae_engine(convae_mpi mpi.cpp)
  target_link_libraries(convae_mpi PRIVATE MPI::MPI_CXX)
  # It needs no LibTorch, only MPI, wherever that is.
  set_target_properties(convae_mpi PROPERTIES INSTALL_RPATH "" INSTALL_RPATH_USE_LINK_PATH ON)
else()
  message(STATUS "No MPI: training runs in one process (Debian: libopenmpi-dev)")
endif()

# NCCL, which comes with a LibTorch that has CUDA. Its headers and CUDA's come as NVIDIA's packages
# beside torch (nvidia-nccl, -cuda-runtime, -cuda-cccl, -cublas, -cusparse, -cusolver), or with a
# toolkit.
if(NOT EXISTS ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so)
  return()
endif()
file(GLOB nvidia_folders ${LibTorch_INCLUDE_DIR}/../../nvidia/*/include)
set(NCCL_INCLUDE_DIRS)
foreach(header nccl.h cuda_runtime_api.h nv/target cublas_v2.h cublasLt.h cusparse.h cusolverDn.h)
  find_path(folder_of_${header} ${header} NO_CACHE HINTS ${nvidia_folders}
            PATHS /usr/local/cuda/include PATH_SUFFIXES cccl)
  if(NOT folder_of_${header})
    message(STATUS "No ${header}: GPUs cannot train together")
    return()
  endif()
  list(APPEND NCCL_INCLUDE_DIRS ${folder_of_${header}})
endforeach()
list(REMOVE_DUPLICATES NCCL_INCLUDE_DIRS)
message(STATUS "NCCL: GPUs can train together")
convae_engine(convae_nccl nccl.cpp)
target_include_directories(convae_nccl SYSTEM PRIVATE ${NCCL_INCLUDE_DIRS})
target_compile_definitions(convae_nccl PRIVATE USE_C10D_NCCL)
target_link_libraries(convae_nccl PRIVATE LibTorch::LibTorch convae_fmt
  ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so ${LibTorch_LIBRARY_DIR}/libc10_cuda.so)
