# cpack, or scripts/package: convae with the LibTorch it was built against, which no distribution
# has, as .deb and .tar.gz. What Debian has is depended upon.
set(CPACK_PACKAGE_VENDOR convae)
set(CPACK_PACKAGE_CONTACT "the convae maintainers <convae@example.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_FILE_NAME convae-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_STRIP_FILES ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "openmpi-bin")

# Runs on what is to be packed, before it is.
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_BINARY_DIR}/generated/PackLibtorch.cmake)
configure_file(cmake/PackLibtorch.cmake.in ${CPACK_PRE_BUILD_SCRIPTS} @ONLY)
include(CPack)
