# libconvae: what other C++ programs link. Its headers are those listed here; all else is hidden.
add_library(convae SHARED)
add_library(convae::convae ALIAS convae)
set(public_headers convae.h)
file(GLOB_RECURSE public_headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS
     core/*.h data/*.h models/*.h metrics/*.h training/*.h inference/*.h evaluation/*.h inspection/*.h exporting/*.h reporting/*.h)
list(APPEND public_headers convae.h)
list(TRANSFORM public_headers PREPEND ${CONVAE_INCLUDE_DIR}/convae/)
target_sources(convae PUBLIC FILE_SET HEADERS BASE_DIRS ${CONVAE_INCLUDE_DIR} FILES ${public_headers})
target_link_libraries(convae PUBLIC torch PRIVATE convae_everything)
target_compile_features(convae PUBLIC cxx_std_20)
set_target_properties(convae PROPERTIES LINKER_LANGUAGE CXX)
