# cmake --install: the program, the library, its headers and a package that find_package() finds.
include(CMakePackageConfigHelpers)

install(TARGETS convae EXPORT convaeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS convae_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
add_dependencies(convae_program convae)  # scripts/setup builds the program, and installing takes both
install(EXPORT convaeTargets NAMESPACE convae:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)
configure_package_config_file(cmake/convaeConfig.cmake.in convaeConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)
write_basic_package_version_file(convaeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convaeConfig.cmake cmake/FindLibTorch.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/convaeConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)

if(CONVAE_WHEEL)
  return()
endif()

# Manual page and completions come out of the program's own table of options, when it is installed.
install(CODE "
  set(program \"$<TARGET_FILE:convae_program>\")
  set(made \"${CMAKE_CURRENT_BINARY_DIR}/generated/install\")
  set(mandir \"${CMAKE_INSTALL_MANDIR}\")
  set(datadir \"${CMAKE_INSTALL_DATADIR}\")")
install(SCRIPT cmake/InstallDocuments.cmake)
install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs configs DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN Doxyfile EXCLUDE)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

include(ConvaePackage)
