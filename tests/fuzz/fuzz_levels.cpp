#include "convae/models/geometry.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

/// Any text is a list of levels or refused with GeometryError; levels that are accepted have plans
/// that come back to their input, and read back from their own text.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  using namespace convae;
  try {
    const std::string_view text(reinterpret_cast<const char*>(bytes), count);
    const auto levels = parse_levels(text, LevelSpec{});
    for (const LevelSpec& level : levels) {
      if (parse_level(to_string(level), LevelSpec{}) != level) std::abort();
    }
    const Plan plan = plan_sizes(levels, {25, 24}, 3);
    for (const LevelPlan& level : plan.levels) {
      if (level.output_padding.h < 0 || level.output_padding.w < 0) std::abort();
    }
  } catch (const GeometryError&) {  // refused, as it should be
  }
  return 0;
}
