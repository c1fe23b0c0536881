// The manual page, made from the list of commands and the table of options.
#include "convae/app/commands/commands.h"
#include "convae/app/options/option_table.h"
#include "convae/core/version.h"

#include <fmt/format.h>

#include <cstdio>

namespace convae::app {
namespace {

/// Text as roff takes it: no character of it is a request, an escape or a hyphen to break at.
/// UTF-8 becomes \[uXXXX], which every roff reads without being told the encoding.
std::string roff(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0xc0) {
      const int more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      unsigned point = byte & (0x3fU >> more);
      for (int k = 0; k < more; ++k)
        point = point << 6 | (static_cast<unsigned char>(text[++i]) & 0x3fU);
      result += fmt::format("\\[u{:04X}]", point);
    } else if (byte == '\\') {
      result += "\\e";
    } else if (byte == '-') {
      result += "\\-";
    } else {
      // A dot or quote that begins a line would make it a request.
      if (i == 0 && (byte == '.' || byte == '\'')) result += "\\&";
      result += static_cast<char>(byte);
    }
  }
  return result;
}

/// " [runs]"; "" where there is none. What `train` alone has by default is said so.
std::string default_text(const OptionSpec& option) {
  const std::string value = option.get(defaults_of("train"));
  if (value.empty()) return "";
  const bool is_shared = option.get(defaults_of("")) == value;
  return fmt::format(" [{}{}]", is_shared ? "" : "train: ", roff(value));
}

std::string option_text(const OptionSpec& option) {
  std::string commands;
  for (const char c : option.commands) commands += c == ' ' ? ", " : std::string(1, c);
  return fmt::format(".TP\n{} \\-\\-{} \" {}\"\n{}{}.\n.br\nOf: {}.\n",
                     option.letter.empty() ? ".BR" : ".BR \\-" + option.letter + " \", \"",
                     roff(option.name), roff(option.value_name), roff(option.help),
                     default_text(option), roff(commands));
}

constexpr std::pair<Group, const char*> kGroupTitles[] = {
    {Group::data, "Images ([data] in a file for \\-\\-config)"},
    {Group::model, "Network ([model])"},
    {Group::train, "Training ([train])"},
    {Group::run, "Runs and results ([run])"},
    {Group::call, "Single calls (only as flags)"}};

constexpr const char* kExamples = R"(.SH EXAMPLES
.nf
convae train \-\-data photos \-\-epochs 100
convae train \-\-resume runs/photos
convae reconstruct \-\-checkpoint runs/latest \-\-data photos \-o out
convae shapes \-\-input 3x25x24
.fi
)";

}  // namespace

int run_man(const CommandLine& /*line*/) {
  std::string commands, options, codes;
  for (const Command& command : command_list()) {
    commands += fmt::format(".TP\n.BI convae\\~{} \" {}\"\n{}\n", roff(command.name),
                            roff(command.usage), roff(command.summary));
  }
  for (const auto& [group, title] : kGroupTitles) {
    options += fmt::format(".SS {}\n", title);
    for (const OptionSpec* option : options_of(group)) {
      if (!option->commands.empty()) options += option_text(*option);
    }
  }
  for (const auto& [code, meaning] : kExitCodes) {
    codes += fmt::format(".TP\n.B {}\n{}\n", roff(code), roff(meaning));
  }
  std::fputs(fmt::format(".TH CONVAE 1 \"\" \"convae {}\" \"User Commands\"\n"
                         ".SH NAME\nconvae \\- train convolutional autoencoders on folders of "
                         "images\n"
                         ".SH SYNOPSIS\n.B convae\n.I COMMAND\n.RI [ options ]\n"
                         ".SH DESCRIPTION\n"
                         "convae trains convolutional autoencoders on a folder of images and gives "
                         "every image back at exactly its own size, odd or even.\n"
                         "Results go to the standard output, the log to the standard error.\n"
                         ".SH COMMANDS\n{}"
                         ".PP\nconvae\n.I COMMAND\n\\-\\-help lists a command's options.\n"
                         ".SH OPTIONS\nA default is given in brackets. The same words are keys in "
                         "the tables of a TOML file for \\-\\-config; flags override it.\n"
                         "{}.SH \"EXIT STATUS\"\n{}{}",
                         kVersion, commands, options, codes, kExamples)
                 .c_str(),
             stdout);
  return kDone;
}

}  // namespace convae::app
