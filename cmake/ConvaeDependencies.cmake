# Finds what convae links. LibTorch: scripts/setup leaves a link `.libtorch` in the checkout; another
# is named with the environment's LIBTORCH or -DLibTorch_ROOT.
if(NOT DEFINED LibTorch_ROOT AND NOT DEFINED ENV{LIBTORCH} AND EXISTS ${PROJECT_SOURCE_DIR}/.libtorch)
  set(LibTorch_ROOT ${PROJECT_SOURCE_DIR}/.libtorch)
endif()
find_package(LibTorch REQUIRED)

find_package(PkgConfig REQUIRED)
find_package(spdlog REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(jpeg REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(spng REQUIRED IMPORTED_TARGET spng)
pkg_check_modules(tiff REQUIRED IMPORTED_TARGET libtiff-4)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(webp REQUIRED IMPORTED_TARGET libwebp libwebpdemux libwebpmux)
pkg_check_modules(exif REQUIRED IMPORTED_TARGET libexif)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(archive REQUIRED IMPORTED_TARGET libarchive)

# The program's allocator. A step allocates and frees thousands of tensors, the same each time: with
# glibc's, one of 32 images of 28x28 takes 1.1 times as long, and one of large images a few per cent
# more time and memory. Sanitizers have their own.
if(NOT CONVAE_SANITIZE)
  find_library(TCMALLOC_LIBRARY libtcmalloc_minimal.a REQUIRED)
endif()

add_library(convae_codecs INTERFACE)
target_link_libraries(convae_codecs INTERFACE PkgConfig::jpeg PkgConfig::spng PkgConfig::tiff
                      PkgConfig::webp PkgConfig::exif PkgConfig::zlib)

# convae pack.
add_library(convae_archive INTERFACE)
if(CONVAE_WHEEL)
  # The shared one brings libxml2 and ICU, 36 MB. Of the static one only the writer of tar is linked;
  # the table of all formats, of which it uses one function, is in archive_formats.cpp.
  add_library(convae_archive_formats OBJECT python/wheel/archive_formats.cpp)
  target_compile_options(convae_archive_formats PRIVATE -fPIC -fvisibility=hidden)
  target_link_libraries(convae_archive INTERFACE $<TARGET_OBJECTS:convae_archive_formats>
                        -l:libarchive.a -Wl,--exclude-libs,ALL)
else()
  target_link_libraries(convae_archive INTERFACE PkgConfig::archive)
endif()

# Only core, imgproc and photo: OpenCV's own package file comes with all modules and their 139
# libraries. Without photo, evaluate --corrupt leaves out non-local means.
find_path(OPENCV_INCLUDE_DIR opencv2/imgproc.hpp PATH_SUFFIXES opencv4 REQUIRED)
add_library(convae_opencv INTERFACE)
target_include_directories(convae_opencv SYSTEM INTERFACE ${OPENCV_INCLUDE_DIR})
set(opencv_name opencv_)
if(CONVAE_WHEEL)
  set(opencv_name libopencv_)
  set(opencv_suffix .a)
endif()
find_library(OPENCV_CORE_LIBRARY ${opencv_name}core${opencv_suffix} REQUIRED)
find_library(OPENCV_IMGPROC_LIBRARY ${opencv_name}imgproc${opencv_suffix} REQUIRED)
find_library(OPENCV_PHOTO_LIBRARY ${opencv_name}photo${opencv_suffix})
if(OPENCV_PHOTO_LIBRARY AND EXISTS ${OPENCV_INCLUDE_DIR}/opencv2/photo.hpp)
  target_compile_definitions(convae_opencv INTERFACE CONVAE_OPENCV_PHOTO)
  target_link_libraries(convae_opencv INTERFACE ${OPENCV_PHOTO_LIBRARY})
endif()
target_link_libraries(convae_opencv INTERFACE ${OPENCV_IMGPROC_LIBRARY} ${OPENCV_CORE_LIBRARY})
if(CONVAE_WHEEL)
  # Debian's shared OpenCV needs OpenGL and X11. Of the static one only what is used is linked, and
  # that has no OpenGL but for one function, which no_opengl.cpp has.
  add_library(convae_no_opengl OBJECT python/wheel/no_opengl.cpp)
  target_compile_options(convae_no_opengl PRIVATE -fPIC -fvisibility=hidden)
  target_link_libraries(convae_opencv INTERFACE
    $<TARGET_OBJECTS:convae_no_opengl> -l:libtbb.so.12 -l:liblapack.so.3 -l:libblas.so.3 -lz -Wl,--gc-sections
    -Wl,--exclude-libs,ALL)
endif()

find_path(CXXOPTS_INCLUDE_DIR cxxopts.hpp REQUIRED)
add_library(convae_cxxopts INTERFACE)
target_include_directories(convae_cxxopts SYSTEM INTERFACE ${CXXOPTS_INCLUDE_DIR})
# Its own parser for option names compiles much faster than std::regex.
target_compile_definitions(convae_cxxopts INTERFACE CXXOPTS_NO_REGEX)

# LibTorch brings a newer fmt in its own include folder, which would be found before the one that
# Debian's spdlog was built with. A folder of its own, searched first, settles it.
find_path(FMT_INCLUDE_DIR fmt/core.h PATHS /usr/include /usr/local/include REQUIRED NO_DEFAULT_PATH)
set(CONVAE_FMT_DIR ${CMAKE_BINARY_DIR}/generated/fmt_of_spdlog)
file(MAKE_DIRECTORY ${CONVAE_FMT_DIR})
file(CREATE_LINK ${FMT_INCLUDE_DIR}/fmt ${CONVAE_FMT_DIR}/fmt SYMBOLIC)
add_library(convae_fmt INTERFACE)
target_include_directories(convae_fmt BEFORE INTERFACE $<BUILD_INTERFACE:${CONVAE_FMT_DIR}>)
find_library(FMT_LIBRARY fmt REQUIRED)
target_link_libraries(convae_fmt INTERFACE ${FMT_LIBRARY})
# Without it, hidden visibility hides fmt's own types.
target_compile_definitions(convae_fmt INTERFACE FMT_SHARED)
add_library(convae_spdlog INTERFACE)
target_link_libraries(convae_spdlog INTERFACE convae_fmt spdlog::spdlog)

# By pkg-config and its prefix: CMake's own search would find LibTorch's headers and protoc.
pkg_check_modules(protobuf_lite REQUIRED IMPORTED_TARGET protobuf-lite)
find_program(PROTOC protoc PATHS ${protobuf_lite_PREFIX}/bin REQUIRED NO_DEFAULT_PATH)
find_file(ONNX_SCHEMA NAMES onnx/onnx.proto onnx/onnx-ml.proto
          PATHS ${protobuf_lite_PREFIX}/include /usr/include /usr/local/include
          REQUIRED NO_DEFAULT_PATH)
