#include "app/option_spec.h"

#include <sstream>

namespace convae::app {

const char* to_string(Group group) {
  switch (group) {
    case Group::data:
      return "data";
    case Group::model:
      return "model";
    case Group::train:
      return "train";
    case Group::run:
      return "run";
    case Group::call:
      return "call";
  }
  return "";
}

std::string OptionSpec::flag() const { return flags.substr(flags.find(',') + 1); }

bool OptionSpec::is_for(std::string_view command) const {
  std::istringstream words(commands);
  for (std::string candidate; words >> candidate;) {
    if (candidate == command) return true;
  }
  return false;
}

}  // namespace convae::app
