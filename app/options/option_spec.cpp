#include "convae/app/options/option_spec.h"

#include <sstream>

namespace convae::app {

std::string OptionSpec::flag() const { return flags.substr(flags.find(',') + 1); }

bool OptionSpec::is_for(std::string_view command) const {
  std::istringstream words(commands);
  for (std::string candidate; words >> candidate;) {
    if (candidate == command) return true;
  }
  return false;
}

}  // namespace convae::app
