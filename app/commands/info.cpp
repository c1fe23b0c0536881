#include "convae/app/commands/commands.h"
#include "convae/core/text.h"
#include "convae/inference/model.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace convae::app {
namespace {

void print_lines(const std::string& description) {
  const auto json = nlohmann::ordered_json::parse(description);
  for (const auto& [key, value] : json.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (key == "levels")
      text = fmt::format("{}", fmt::join(value.get<std::vector<std::string>>(), ","));
    if (value.is_null()) text = key == "size" ? "any" : "none";
    std::printf("%-16s %s\n", key.c_str(), printable(text).c_str());
  }
}

}  // namespace

int run_info(const CommandLine& line) {
  if (line.operands.empty()) {
    throw OptionError("info needs a run folder or a checkpoint, such as: convae info runs/latest");
  }
  const std::string description = description_json(load(line.operands[0]));
  if (line.options.call.json) {
    std::puts(description.c_str());
  } else {
    print_lines(description);
  }
  return kDone;
}

}  // namespace convae::app
