# LibTorch as it comes: a CPU or CUDA build, from a wheel or an archive. LibTorch's own package file
# wants a CUDA toolkit where the build has CUDA; compiling and linking need none.
#
# Looks in LibTorch_ROOT, the environment's LIBTORCH, and CMAKE_PREFIX_PATH. Gives the target
# LibTorch::LibTorch, LibTorch_LIBRARY_DIR and LibTorch_VERSION.
set(oldest 2.11)
set(tested 2.13)

find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
          HINTS ${LibTorch_ROOT} $ENV{LIBTORCH} ${Torch_DIR}/../../.. PATH_SUFFIXES include NO_CACHE)
if(LibTorch_INCLUDE_DIR)
  file(REAL_PATH ${LibTorch_INCLUDE_DIR}/.. root)
  set(LibTorch_LIBRARY_DIR ${root}/lib)
  set(header ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
  if(NOT EXISTS ${header})
    message(FATAL_ERROR "LibTorch in ${root} is too old: ${oldest} or newer is needed")
  endif()
  file(STRINGS ${header} lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" lines "${lines}")
  list(JOIN lines "." LibTorch_VERSION)
  if(LibTorch_VERSION VERSION_LESS oldest)
    message(FATAL_ERROR "LibTorch ${LibTorch_VERSION} in ${root} is too old: ${oldest} or newer is needed")
  endif()
  set(about "LibTorch ${LibTorch_VERSION}")
  if(EXISTS ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so)
    string(APPEND about " with CUDA")
  endif()
  if(NOT LibTorch_FIND_QUIETLY)
    if(NOT LibTorch_VERSION MATCHES "^${tested}[.]")
      string(APPEND about " (warning: not the tested version, ${tested})")
    endif()
    message(STATUS "${about} in ${root}")
  endif()
  # torch is an empty library that needs the others, torch_cuda too where there is one: a program
  # built against either build runs with the other. Without --no-as-needed the linker drops it, and
  # CUDA is never found.
  set(libraries torch torch_cpu c10)
  list(TRANSFORM libraries REPLACE "(.+)" "${LibTorch_LIBRARY_DIR}/lib\\1.so")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_LIBRARY_DIR LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "name its folder, which holds include/ and lib/, with LIBTORCH=/path or -DLibTorch_ROOT=/path")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED GLOBAL)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(LibTorch::LibTorch INTERFACE
    -Wl,--no-as-needed ${libraries} -Wl,--as-needed)
  # The CUDA build's libraries ask for NVIDIA's, which come as packages beside torch.
  target_link_options(LibTorch::LibTorch INTERFACE -Wl,--allow-shlib-undefined
    -Wl,-rpath-link,${LibTorch_LIBRARY_DIR})
endif()
