#include "convae/app/commands/commands.h"
#include "convae/app/options/config_file.h"
#include "convae/core/text.h"
#include "convae/inference/model.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace convae::app {
namespace {

/// What a run was trained with, `auto` resolved, is in its configuration; that of one made with the
/// library says no more than which images it was trained on.
void add_training(nlohmann::ordered_json& json, const std::string& config) {
  Options options;
  try {
    if (!read_config(config, "its configuration", options).contains("epochs")) return;
  } catch (const OptionError&) {
    return;  // the rest can be said
  }
  json["batch-size"] = options.train.batch_size;
  json["lr"] = options.train.lr;
}

void print_lines(const nlohmann::ordered_json& json) {
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
  require_option(!line.operands.empty(),
                 "info needs a run folder or a checkpoint, such as: convae info runs/latest");
  const Model model = load(line.operands[0]);
  auto json = nlohmann::ordered_json::parse(description_json(model));
  add_training(json, model.info().config);
  if (line.options.call.json) {
    std::puts(json.dump().c_str());
  } else {
    json["file"] = model.path().string();  // print_lines() escapes it
    print_lines(json);
  }
  return kDone;
}

}  // namespace convae::app
