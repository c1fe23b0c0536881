# cmake --install: the program, the library, its headers and a package that find_package() finds.
include(CMakePackageConfigHelpers)

install(TARGETS convae EXPORT convaeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS convae_cli LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS convae_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(folder models data training exporting reporting inspection)
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/convae/${folder}
          FILES_MATCHING PATTERN "*.h"
          PATTERN "samples" EXCLUDE PATTERN "codecs.h" EXCLUDE PATTERN "pixel_rows.h" EXCLUDE
          PATTERN "kernels.h" EXCLUDE PATTERN "flat_maps.h" EXCLUDE PATTERN "parallel.h" EXCLUDE
          PATTERN "subpixel.h" EXCLUDE
          PATTERN "onnx_graph.h" EXCLUDE PATTERN "description.h" EXCLUDE
          PATTERN "channels.h" EXCLUDE PATTERN "locations.h" EXCLUDE PATTERN "places.h" EXCLUDE
          PATTERN "report_data.h" EXCLUDE PATTERN "report_template.h" EXCLUDE)
endforeach()
install(FILES convae.h ${CMAKE_CURRENT_BINARY_DIR}/generated/convae_version.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/convae)
install(EXPORT convaeTargets NAMESPACE convae:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)
configure_package_config_file(cmake/convaeConfig.cmake.in convaeConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)
write_basic_package_version_file(convaeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convaeConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/convaeConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/convae)

# Manual page and completions come out of the program's own table of options, when it is installed.
install(CODE "
  set(program \"$<TARGET_FILE:convae_program>\")
  set(made \"${CMAKE_CURRENT_BINARY_DIR}/generated/install\")
  set(mandir \"${CMAKE_INSTALL_MANDIR}\")
  set(datadir \"${CMAKE_INSTALL_DATADIR}\")")
install(SCRIPT cmake/InstallDocuments.cmake)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

include(ConvaePackage)
