# libconvae_mpi.so, where there is an MPI to build it with (Debian: libopenmpi-dev). The program loads
# it when it is started as one of several processes, and runs without it otherwise.
# -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON leaves it out; the wheel, which fits no one MPI, always does.
if(CONVAE_WHEEL)
  return()
endif()
set(MPI_CXX_SKIP_MPICXX ON)  # only MPI's functions in C
find_package(MPI QUIET COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  message(STATUS "No MPI: training runs in one process (Debian: libopenmpi-dev)")
  return()
endif()
message(STATUS "MPI ${MPI_CXX_VERSION}: training can run in several processes")
add_library(convae_mpi MODULE training/engines/mpi.cpp)
convae_own_target(convae_mpi)
target_link_libraries(convae_mpi PRIVATE MPI::MPI_CXX)
# It needs no LibTorch, only MPI, wherever that is.
set_target_properties(convae_mpi PROPERTIES INSTALL_RPATH "" INSTALL_RPATH_USE_LINK_PATH ON)
add_dependencies(convae_program convae_mpi)
install(TARGETS convae_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
