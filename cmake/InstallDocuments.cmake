# At install time: what `convae man` and `convae completion` print, where man and the shells look.
# Needs program, made (a folder to write to), mandir and datadir (relative to the prefix).
# Debian's zsh looks below /usr only in vendor-completions; elsewhere site-functions is usual.
set(zsh_folder site-functions)
if(CMAKE_INSTALL_PREFIX MATCHES "/usr$")
  set(zsh_folder vendor-completions)
endif()

function(install_output name folder)
  execute_process(COMMAND ${program} ${ARGN} OUTPUT_FILE ${made}/${name} COMMAND_ERROR_IS_FATAL ANY)
  file(INSTALL ${made}/${name} DESTINATION ${CMAKE_INSTALL_PREFIX}/${folder})
endfunction()

file(MAKE_DIRECTORY ${made})
install_output(convae.1 ${mandir}/man1 man)
install_output(convae ${datadir}/bash-completion/completions completion bash)
install_output(_convae ${datadir}/zsh/${zsh_folder} completion zsh)
install_output(convae.fish ${datadir}/fish/vendor_completions.d completion fish)
