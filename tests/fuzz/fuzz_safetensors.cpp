#include "convae/training/safetensors.h"

#include <cstddef>
#include <cstdint>

/// Any bytes are parsed, or refused with SafetensorsError; everything else is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  try {
    convae::parse_safetensors({bytes, count}, "fuzz");
  } catch (const convae::SafetensorsError&) {  // the file is refused, as it should be
  }
  return 0;
}
