#include "convae/app/shell/man_page.h"

#include "convae/app/options/command_line.h"
#include "convae/app/options/option_table.h"
#include "convae/core/version.h"

#include <fmt/core.h>

#include <sstream>

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

const char* title_of(Group group) {
  switch (group) {
    case Group::data:
      return "Images ([data] in a file for \\-\\-config)";
    case Group::model:
      return "Network ([model])";
    case Group::train:
      return "Training ([train])";
    case Group::run:
      return "Runs and results ([run])";
    case Group::call:
      return "Single calls (only as flags)";
  }
  return "";
}

std::string commands_text() {
  std::string text;
  for (const CommandInfo& command : command_list()) {
    text += fmt::format(".TP\n.BI convae\\~{} \" {}\"\n{}\n", roff(command.name),
                        roff(command.usage), roff(command.summary));
  }
  return text;
}

std::string option_text(const OptionSpec& option) {
  static const Options defaults;
  const bool has_short = option.flag().size() < option.flags.size();
  std::string text = ".TP\n";
  if (has_short)
    text += fmt::format(".BR \\-{} \", \"", option.flags.substr(0, 1));
  else
    text += ".BR";
  text += fmt::format(" \\-\\-{}", roff(option.flag()));
  text += fmt::format(" \" {}\"\n{}", roff(option.value_name), roff(option.help));
  const std::string value = option.get(defaults);
  if (!value.empty()) text += fmt::format(" [{}]", roff(value));
  std::istringstream commands(option.commands);
  std::string names;
  for (std::string name; commands >> name;) names += (names.empty() ? "" : ", ") + name;
  return text + fmt::format(".\n.br\nOf: {}.\n", roff(names));
}

std::string options_text() {
  std::string text;
  for (const Group group : {Group::data, Group::model, Group::train, Group::run, Group::call}) {
    text += fmt::format(".SS {}\n", title_of(group));
    for (const OptionSpec& option : option_table()) {
      if (option.group == group) text += option_text(option);
    }
  }
  return text;
}

constexpr const char* kExitCodes = R"(.SH "EXIT STATUS"
.TP
.B 0
Done, also where files were skipped.
.TP
.B 1
Failed at run time.
.TP
.B 2
Bad usage or configuration: one line names the option, the value and what is expected.
.TP
.BR 130 ", " 143
Stopped by Ctrl\-C or SIGTERM, after saving.
)";

constexpr const char* kExamples = R"(.SH EXAMPLES
.nf
convae train \-\-data photos \-\-epochs 100
convae train \-\-resume runs/photos
convae reconstruct \-\-checkpoint runs/latest \-\-data photos \-o out
convae shapes \-\-input 3x25x24
.fi
)";

}  // namespace

std::string man_page() {
  return fmt::format(
             ".TH CONVAE 1 \"\" \"convae {}\" \"User Commands\"\n"
             ".SH NAME\nconvae \\- train convolutional autoencoders on folders of images\n"
             ".SH SYNOPSIS\n.B convae\n.I COMMAND\n.RI [ options ]\n"
             ".SH DESCRIPTION\n"
             "convae trains convolutional autoencoders on a folder of images and gives every image "
             "back at exactly its own size, odd or even.\n"
             "Results go to the standard output, the log to the standard error.\n"
             ".SH COMMANDS\n",
             kVersion) +
         commands_text() +
         ".PP\nconvae\n.I COMMAND\n\\-\\-help lists a command's options.\n"
         ".SH OPTIONS\nA default is given in brackets. The same words are keys in the tables of a "
         "TOML file for \\-\\-config; flags go before it.\n" +
         options_text() + kExitCodes + kExamples;
}

}  // namespace convae::app
