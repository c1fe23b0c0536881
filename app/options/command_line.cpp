#include "convae/app/options/command_line.h"

#include "convae/app/options/config_file.h"
#include "convae/app/options/option_table.h"
#include "convae/app/options/spelling.h"
#include "convae/core/files.h"

#include <cxxopts.hpp>
#include <fmt/core.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace convae::app {
namespace {

std::string default_text(const OptionSpec& option) {
  static const Options defaults;
  return option.get(defaults);
}

cxxopts::Options make_parser(const CommandInfo& command) {
  cxxopts::Options parser("convae " + std::string(command.name), command.summary);
  parser.custom_help(command.usage);
  parser.set_width(100);
  for (const OptionSpec& option : option_table()) {
    if (!option.is_for(command.name)) continue;
    auto value = cxxopts::value<std::string>();
    if (option.kind == ValueKind::boolean) value->implicit_value("true");
    const std::string shown = default_text(option);
    const std::string help = option.help + (shown.empty() ? "" : " [" + shown + "]");
    const std::string group =
        option.group == Group::call ? "" : std::string("[") + to_string(option.group) + "]";
    parser.add_options(group)(option.flags, help, value, option.value_name);
  }
  parser.add_options("")("h,help", "show this");
  return parser;
}

const CommandInfo& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const CommandInfo& command : command_list()) {
    if (name == command.name) return command;
    names.emplace_back(command.name);
  }
  throw UsageError("unknown command '" + printable(name) + "'" + did_you_mean(name, names) +
                   (nearest(name, names).empty() ? "; convae --help lists them" : ""));
}

std::vector<std::string> flags_of(const std::string& command) {
  std::vector<std::string> flags = {"help"};
  for (const OptionSpec& option : option_table()) {
    if (option.is_for(command)) flags.push_back(option.flag());
  }
  return flags;
}

const OptionSpec* find_flag(const std::string& command, const std::string& flag) {
  for (const OptionSpec& option : option_table()) {
    if (option.is_for(command) && option.flag() == flag) return &option;
  }
  return nullptr;
}

bool is_boolean_flag(const std::string& command, const std::string& word) {
  if (!word.starts_with("--")) return false;
  const OptionSpec* option = find_flag(command, word.substr(2));
  return option != nullptr && option->kind == ValueKind::boolean;
}

/// `--skip-bad false` → `--skip-bad=false`: cxxopts never takes the next word for a switch.
std::vector<std::string> join_switch_values(const std::string& command,
                                            const std::vector<std::string>& words) {
  std::vector<std::string> joined;
  for (std::size_t i = 0; i < words.size(); ++i) {
    joined.push_back(words[i]);
    const bool has_value =
        i + 1 < words.size() && (words[i + 1] == "true" || words[i + 1] == "false");
    if (is_boolean_flag(command, words[i]) && has_value) joined.back() += "=" + words[++i];
  }
  return joined;
}

cxxopts::ParseResult parse(cxxopts::Options& parser, const std::string& command,
                           const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"convae"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  try {
    return parser.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const cxxopts::exceptions::no_such_option&) {
    for (const std::string& word : words) {
      const std::string flag = word.substr(0, word.find('='));
      const std::string name =
          flag.substr(std::min<std::size_t>(flag.find_first_not_of('-'), flag.size()));
      const bool is_long = flag.starts_with("--") && name.size() > 1;
      if (is_long && name != "help" && find_flag(command, name) == nullptr) {
        const std::string near = nearest(name, flags_of(command));
        const std::string hint = near.empty() ? "" : "; did you mean '--" + near + "'?";
        throw UsageError(fmt::format("unknown option '--{}'{} (convae {} --help lists all)",
                                     printable(name), hint, command));
      }
    }
    for (const std::string& word : words) {
      if (word.size() > 1 && word[0] == '-' && word[1] != '-' && word[1] != 'o' && word[1] != 'h') {
        throw UsageError("unknown option '" + printable(word) + "' (convae " + command +
                         " --help lists all)");
      }
    }
    throw UsageError("an option is unknown (convae " + command + " --help lists all)");
  } catch (const cxxopts::exceptions::exception& error) {
    throw UsageError(printable(error.what()));
  }
}

/// `--output` is the folder of results, but design and TOML also know the decoder's `output`: its
/// three words, given to --output in training, mean that one.
const OptionSpec* meant_option(const std::string& command, const std::string& flag,
                               const std::string& value) {
  if (command == "train" && flag == "output") {
    const OptionSpec* activation = find_option(Group::model, "output");
    const auto& words = activation->choices;
    if (std::find(words.begin(), words.end(), value) != words.end()) return activation;
  }
  return find_flag(command, flag);
}

}  // namespace

const std::vector<CommandInfo>& command_list() {
  static const std::vector<CommandInfo> commands = {
      {"train", "Trains an autoencoder on a folder of images and writes a run folder.",
       "--data DIR [options]"},
      {"reconstruct", "Writes the reconstruction of every image at exactly its size.",
       "--checkpoint RUN --data DIR -o OUT [options]"},
      {"encode", "Writes the latents of a folder of images as a NumPy array.",
       "--checkpoint RUN --data DIR -o latents.npy [options]"},
      {"decode", "Turns latents back into images.",
       "--checkpoint RUN --latents latents.npy -o OUT [options]"},
      {"sample", "Draws images from a variational model.", "--checkpoint RUN -o OUT [options]"},
      {"interpolate", "Walks from one image to another through their latents.",
       "A B --checkpoint RUN -o OUT [options]"},
      {"export", "Writes the model for other programs: ONNX, TorchScript or plain weights.",
       "--checkpoint RUN --format FORMAT -o FILE [options]"},
      {"evaluate", "Measures reconstructions beside PCA, JPEG and the mean image.",
       "--checkpoint RUN --data DIR [--json] [-o OUT] [options]"},
      {"score", "Says how anomalous images are, after a network that was trained on good ones.",
       "--checkpoint RUN --data DIR -o OUT [options]"},
      {"shapes", "Shows sizes and output_padding level by level.", "--input CxHxW [options]"},
      {"info", "Says what a checkpoint holds.", "RUN_OR_FILE [--json]"},
      {"bench", "Measures this machine: training step and inference beside the bare convolutions.",
       "[--input CxHxW] [options]"},
      {"completion", "Prints the completion script of a shell.", "bash|zsh|fish"},
      {"man", "Prints the manual page.", ""}};
  return commands;
}

CommandLine read_command_line(const std::vector<std::string>& words, const Options& base) {
  CommandLine line;
  line.options = base;
  line.words = words;
  line.command = find_command(words.at(0)).name;
  cxxopts::Options parser = make_parser(find_command(line.command));
  const auto result = parse(parser, line.command,
                            join_switch_values(line.command, {words.begin() + 1, words.end()}));
  if (result.count("help") > 0) {
    line.help = true;
    return line;
  }
  std::vector<std::string> loose = result.unmatched();
  if (line.command == "info" && loose.size() == 1) {
    line.options.call.checkpoint = loose[0];
    loose.clear();
  }
  if (line.command == "completion" && !loose.empty()) {
    line.shell = loose[0];
    loose.erase(loose.begin());
  }
  if (line.command == "interpolate") line.images = std::exchange(loose, {});
  if (!loose.empty()) {
    throw UsageError("unexpected word '" + printable(loose[0]) + "': options start with --");
  }
  for (const auto& argument : result.arguments()) {
    if (argument.key() == "config") {
      line.given.merge(read_config_file(argument.value(), line.options));
    }
  }
  for (const auto& argument : result.arguments()) {
    const OptionSpec* option = meant_option(line.command, argument.key(), argument.value());
    try {
      option->set(line.options, argument.value());
    } catch (const UsageError& error) {
      throw UsageError("--" + argument.key() + " '" + printable(argument.value()) +
                       "': " + error.what());
    }
    line.given.insert(option->flag());
  }
  line.options.model.levels = parse_levels(line.options.levels.list, line.options.levels.defaults);
  return line;
}

std::string help_text(const std::string& command) {
  if (!command.empty()) return make_parser(find_command(command)).help();
  std::ostringstream text;
  text << "convae trains convolutional autoencoders on folders of images; every image comes back\n"
          "at exactly its own size.\n\n"
          "Usage:\n  convae COMMAND [options]\n\nCommands:\n";
  for (const CommandInfo& info : command_list()) {
    text << "  " << info.name << std::string(14 - std::string(info.name).size(), ' ')
         << info.summary << "\n";
  }
  text << "\nconvae COMMAND --help lists a command's options; convae --version says which this "
          "is.\n";
  return text.str();
}

}  // namespace convae::app
