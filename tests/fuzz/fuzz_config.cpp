#include "convae/app/options/config_file.h"
#include "convae/core/errors.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

/// Any text is a configuration or refused with OptionError; one that is accepted reads back the
/// same after it was written.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  using namespace convae::app;
  Options options;
  try {
    read_config({reinterpret_cast<const char*>(bytes), count}, "fuzz", options);
  } catch (const convae::OptionError&) {  // refused, as it should be
    return 0;
  }
  const std::string written = write_config(options);
  Options again;
  read_config(written, "written", again);
  if (write_config(again) != written) std::abort();
  return 0;
}
