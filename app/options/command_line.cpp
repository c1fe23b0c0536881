#include "convae/app/options/command_line.h"

#include "convae/app/commands/commands.h"
#include "convae/app/options/config_file.h"
#include "convae/app/options/option_table.h"

#include <cxxopts.hpp>
#include <fmt/core.h>

#include <algorithm>

namespace convae::app {
namespace {

cxxopts::Options make_parser(const Command& command) {
  const Options defaults = defaults_of(command.name);
  cxxopts::Options parser("convae " + std::string(command.name), command.summary);
  parser.custom_help(command.usage);
  parser.set_width(100);
  parser.allow_unrecognised_options();  // refuse_unknown() knows the nearest
  for (const OptionSpec* option : options_of(command.name)) {
    auto value = cxxopts::value<std::string>();
    if (option->is_switch()) value->implicit_value("true");
    const std::string shown = option->get(defaults);
    const std::string help = option->help + (shown.empty() ? "" : " [" + shown + "]");
    const std::string group =
        option->group == Group::call ? "" : std::string("[") + to_string(option->group) + "]";
    const std::string letter = option->letter.empty() ? "" : option->letter + ",";
    parser.add_options(group)(letter + option->name, help, value, option->value_name);
  }
  parser.add_options("")("h,help", "show this");
  return parser;
}

/// `--skip-bad false` → `--skip-bad=false`: cxxopts never takes the next word for a switch.
std::vector<std::string> join_switch_values(const std::vector<std::string>& words) {
  std::vector<std::string> joined;
  for (const std::string& word : words) {
    const bool is_flag = !joined.empty() && joined.back().starts_with("--");
    const OptionSpec* option = is_flag ? find_option(words[0], joined.back().substr(2)) : nullptr;
    if (option != nullptr && option->is_switch() && (word == "true" || word == "false")) {
      joined.back() += "=" + word;
    } else {
      joined.push_back(word);
    }
  }
  return joined;
}

[[noreturn]] void refuse_unknown(const std::string& command, const std::string& word) {
  const std::string flag = word.substr(0, word.find('='));
  const bool is_long = flag.starts_with("--");
  throw OptionError(fmt::format(
      "unknown option '{}'{} (convae {} --help lists all)", printable(flag),
      is_long ? did_you_mean(flag.substr(2), option_names(command), "--") : "", command));
}

cxxopts::ParseResult parse(const Command& command, const std::vector<std::string>& words) {
  // "convae train …": cxxopts skips the first word, as the program's name.
  std::vector<const char*> argv(words.size());
  std::ranges::transform(words, argv.begin(), [](const auto& word) { return word.c_str(); });
  try {
    return make_parser(command).parse(static_cast<int>(argv.size()), argv.data());
  } catch (const cxxopts::exceptions::exception& error) {
    throw OptionError(printable(error.what()));
  }
}

/// A time takes the place of epochs and steps, and a flag that of what a file says.
void settle_length(TrainOptions& train, const cxxopts::ParseResult& flags) {
  if (train.time <= 0) return;
  for (const char* other : {"epochs", "max-steps"}) {
    if (flags.count(other) == 0) continue;
    require_option(flags.count("time") == 0,
                   fmt::format("--time and --{} exclude each other: leave one out", other));
    train.time = 0;
  }
}

}  // namespace

Options defaults_of(const std::string& command) {
  Options options;
  if (command != "train") options.run.output.clear();
  return options;
}

CommandLine read_command_line(const std::vector<std::string>& words, const Options& base) {
  const Command& command = find_command(words.at(0));
  // After "--", words that begin with a dash are names.
  const auto end = std::find(words.begin(), words.end(), "--");
  const auto result = parse(command, join_switch_values({words.begin(), end}));
  CommandLine line;
  line.command = command.name;
  line.words = words;
  line.operands = result.unmatched();
  line.options = base;
  for (const std::string& word : line.operands) {
    if (word.size() > 1 && word[0] == '-') refuse_unknown(line.command, word);
  }
  line.help = result.count("help") > 0;
  if (line.help) return line;
  if (end != words.end()) line.operands.insert(line.operands.end(), end + 1, words.end());
  if (line.operands.size() > command.operands) {
    throw OptionError("unexpected word " + in_quotes(line.operands[command.operands]) +
                      ": options start with --");
  }
  for (const auto& argument : result.arguments()) {
    if (argument.key() == "config") {
      line.given.merge(read_config_file(argument.value(), line.options));
    }
  }
  std::set<std::string> lists;  // whose flags were read: the first replaces what was there
  for (const auto& argument : result.arguments()) {
    const OptionSpec& option = *find_option(line.command, argument.key());
    const bool is_more = option.value.kind == ValueKind::list && !lists.insert(option.name).second;
    require_option(option.group != Group::call || option.value.kind != ValueKind::string ||
                       !argument.value().empty(),
                   "--" + argument.key() + " '': expected " + option.value_name);
    const std::string before = is_more ? option.get(line.options) + kBetween : "";
    try {
      option.value.set(line.options, before + argument.value());
    } catch (const OptionError& error) {
      throw OptionError("--" + argument.key() + " '" + printable(argument.value()) +
                        "': " + error.what());
    }
    line.given.insert(argument.key());
  }
  settle_length(line.options.train, result);
  const bool trains = line.command == "train" || line.options.call.folds > 0;
  require_option(line.options.train.batch_size != 0 || trains ||
                     find_option(line.command, "batch-size") == nullptr,
                 "--batch-size 'auto': only training chooses it; give a number");
  line.options.model.levels = parse_levels(line.options.levels.list, line.options.levels.defaults);
  ModelOptions& model = line.options.model;
  const bool adds = model.residual || model.linear != Linear::none;
  if (adds && !line.has("output-activation")) model.output = Output::linear;
  return line;
}

std::string help_text(const std::string& command) {
  if (!command.empty()) return make_parser(find_command(command)).help();
  std::string text =
      "convae trains convolutional autoencoders on folders of images; every image comes back\n"
      "at exactly its own size.\n\n"
      "Usage:\n  convae COMMAND [options]\n\nCommands:\n";
  for (const Command& info : command_list()) {
    text += fmt::format("  {:<14}{}\n", info.name, info.summary);
  }
  text += "\nExit codes:\n";
  for (const auto& [code, meaning] : kExitCodes) text += fmt::format("  {:<14}{}\n", code, meaning);
  return text +
         "\nconvae COMMAND --help lists a command's options; convae --version says which this "
         "is.\n";
}

}  // namespace convae::app
