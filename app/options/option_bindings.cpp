#include "convae/app/options/option_bindings.h"

#include "convae/app/options/spelling.h"
#include "convae/core/text.h"

#include <algorithm>

namespace convae::app {
namespace {

std::string list(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  return text;
}

}  // namespace

OptionSpec head(Group group, const char* flags, const char* commands, const char* value_name,
                const char* help) {
  const std::string_view all(flags);
  return {group,
          std::string(all.substr(all.find(',') + 1)),
          flags,
          commands,
          value_name,
          help,
          ValueKind::text,
          {},
          {},
          {}};
}

OptionSpec text(OptionSpec spec, Member<std::string> member) {
  spec.kind = ValueKind::string;
  spec.set = [member](Options& o, const std::string& value) { member(o) = value; };
  spec.get = [member](const Options& o) { return read(member, o); };
  return spec;
}

OptionSpec number(OptionSpec spec, Member<double> member) {
  spec.kind = ValueKind::number;
  spec.set = [member](Options& o, const std::string& value) {
    const auto parsed = parse_number(value);
    if (!parsed) throw UsageError("expected a number");
    member(o) = *parsed;
  };
  spec.get = [member](const Options& o) { return number_text(read(member, o)); };
  return spec;
}

OptionSpec boolean(OptionSpec spec, Member<bool> member) {
  spec.kind = ValueKind::boolean;
  spec.choices = {"true", "false"};
  spec.set = [member](Options& o, const std::string& value) {
    if (value != "true" && value != "false") throw UsageError("expected true or false");
    member(o) = value == "true";
  };
  spec.get = [member](const Options& o) { return read(member, o) ? "true" : "false"; };
  return spec;
}

[[noreturn]] void not_a_choice(const std::string& value, const std::vector<std::string>& choices) {
  throw UsageError("expected " + list(choices) + did_you_mean(value, choices));
}

OptionSpec word(OptionSpec spec, Member<std::string> member,
                const std::vector<std::string>& words) {
  spec.choices = words;
  spec.set = [member, words](Options& o, const std::string& value) {
    if (std::find(words.begin(), words.end(), value) == words.end()) not_a_choice(value, words);
    member(o) = value;
  };
  spec.get = [member](const Options& o) { return read(member, o); };
  return spec;
}

OptionSpec parsed(OptionSpec spec, std::function<void(Options&, const std::string&)> set,
                  std::function<std::string(const Options&)> get) {
  spec.set = [set = std::move(set)](Options& o, const std::string& value) {
    try {
      set(o, value);
    } catch (const OptionError& error) {
      throw UsageError(error.what());
    }
  };
  spec.get = std::move(get);
  return spec;
}

OptionSpec pair(OptionSpec spec, Member<Size> member) {
  spec.set = [member](Options& o, const std::string& value) {
    const auto parsed = parse_size(value);
    if (!parsed) throw UsageError("expected N or HxW, such as 3 or 3x5");
    member(o) = *parsed;
  };
  spec.get = [member](const Options& o) { return to_string(read(member, o)); };
  return spec;
}

OptionSpec image_size(OptionSpec spec, Member<Size> member, const char* unset) {
  spec.set = [member, unset](Options& o, const std::string& value) {
    const auto parsed = parse_size(value);
    if (value == unset) {
      member(o) = {};
    } else if (parsed && parsed->h >= 1 && parsed->w >= 1 && parsed->h <= kMaxSide &&
               parsed->w <= kMaxSide) {
      member(o) = {parsed->h, parsed->w};
    } else {
      throw UsageError(std::string("expected ") + unset +
                       ", N or HxW with sides of at least 1, such as 96 or 96x128");
    }
  };
  spec.get = [member, unset](const Options& o) {
    const Size size = read(member, o);
    return size.h > 0 ? to_string(size) : std::string(unset);
  };
  return spec;
}

OptionSpec level_list(OptionSpec spec) {
  spec.set = [](Options& o, const std::string& value) {
    try {
      parse_levels(value, LevelSpec{});
    } catch (const GeometryError& error) {
      throw UsageError(error.what());
    }
    o.levels.list = value;
  };
  spec.get = [](const Options& o) { return o.levels.list; };
  return spec;
}

}  // namespace convae::app
