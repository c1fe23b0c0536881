# What all of convae's own targets share.

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Includes read "convae/models/geometry.h", in the tree as after installation: `convae` is a link to
# the tree.
set(CONVAE_INCLUDE_DIR ${CMAKE_BINARY_DIR}/generated/include)
file(MAKE_DIRECTORY ${CONVAE_INCLUDE_DIR})
file(CREATE_LINK ${PROJECT_SOURCE_DIR} ${CONVAE_INCLUDE_DIR}/convae SYMBOLIC)

# Program and library find LibTorch beside them in a package (cmake/ConvaePackage.cmake), else where
# it is, and libconvae_mpi.so beside the library; CMake's own search for such folders leaves out
# those inside the checkout. A wheel's lie in site-packages/convae/{bin,lib}, beside torch.
file(REAL_PATH ${LibTorch_LIBRARY_DIR} CONVAE_TORCH_LIBRARIES)
set(CONVAE_PACKAGE_RPATH
  $ORIGIN/convae:$ORIGIN/../${CMAKE_INSTALL_LIBDIR}/convae:$ORIGIN:$ORIGIN/../${CMAKE_INSTALL_LIBDIR})
set(CMAKE_INSTALL_RPATH ${CONVAE_PACKAGE_RPATH}:${CONVAE_TORCH_LIBRARIES})
if(CONVAE_WHEEL)
  set(CMAKE_INSTALL_RPATH $ORIGIN/../../torch/lib)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

function(convae_own_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF DEFINE_SYMBOL ""
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(${target} PRIVATE ${CONVAE_INCLUDE_DIR})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic
    $<$<BOOL:${CONVAE_WERROR}>:-Werror>
    # GCC 12 sees overflows in std::string's operator+ that are not there (GCC bug 105651).
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict -Wno-stringop-overflow>)
  if(CONVAE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${CONVAE_SANITIZE}
                           -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
    target_link_options(${target} PRIVATE -fsanitize=${CONVAE_SANITIZE})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # What the sanitizers add makes GCC 12 see errors in <regex> and <string> that are not there.
      target_compile_options(${target} PRIVATE -Wno-error)
    endif()
    if(CONVAE_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${target} PRIVATE -Wno-tsan)  # a fence in libstdc++'s shared_ptr
    endif()
  endif()
endfunction()

# Reading LibTorch's headers takes longer than compiling most sources, so several are compiled at a
# time. Helpers in unnamed namespaces therefore have names of their own.
function(convae_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${CONVAE_UNITY} UNITY_BUILD_BATCH_SIZE 24)
endfunction()
