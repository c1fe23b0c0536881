#pragma once

#include "convae/app/options/option_spec.h"

#include <charconv>
#include <optional>
#include <string>
#include <vector>

/// The ways an option is bound to a member of Options. Each takes the head() of an option and fills
/// in its kind, its choices, and how it is set and read.
namespace convae::app {

/// Gives the member an option is bound to.
template <typename T>
using Member = T& (*)(Options&);

template <typename T>
const T& read(Member<T> member, const Options& options) {
  return member(const_cast<Options&>(options));  // the accessor only forms a reference
}

/// The head of an option.
OptionSpec head(Group group, const char* flags, const char* commands, const char* value_name,
                const char* help);

OptionSpec text(OptionSpec spec, Member<std::string> member);
OptionSpec number(OptionSpec spec, Member<double> member);
OptionSpec boolean(OptionSpec spec, Member<bool> member);

template <typename Integer>
OptionSpec integer(OptionSpec spec, Member<Integer> member) {
  spec.kind = ValueKind::integer;
  spec.set = [member](Options& o, const std::string& value) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), member(o));
    if (error != std::errc{} || end != value.data() + value.size()) {
      throw UsageError("expected a whole number");
    }
  };
  spec.get = [member](const Options& o) { return std::to_string(read(member, o)); };
  return spec;
}

[[noreturn]] void not_a_choice(const std::string& value, const std::vector<std::string>& choices);

/// One of an enum's values, by name.
template <NamedEnum Enum>
OptionSpec choice(OptionSpec spec, Member<Enum> member) {
  spec.choices = all_names<Enum>();
  spec.set = [member](Options& o, const std::string& value) {
    const auto parsed = parse_name<Enum>(value);
    if (!parsed) not_a_choice(value, all_names<Enum>());
    member(o) = *parsed;
  };
  spec.get = [member](const Options& o) { return std::string(to_string(read(member, o))); };
  return spec;
}

/// The same for an option that has to be given.
template <NamedEnum Enum>
OptionSpec needed_choice(OptionSpec spec, Member<std::optional<Enum>> member) {
  spec.choices = all_names<Enum>();
  spec.set = [member](Options& o, const std::string& value) {
    const auto parsed = parse_name<Enum>(value);
    if (!parsed) not_a_choice(value, all_names<Enum>());
    member(o) = parsed;
  };
  spec.get = [member](const Options& o) {
    const std::optional<Enum>& value = read(member, o);
    return value ? std::string(to_string(*value)) : std::string();
  };
  return spec;
}

/// One of a list of words.
OptionSpec word(OptionSpec spec, Member<std::string> member, const std::vector<std::string>& words);

/// A text with a grammar of its own, whose parser throws std::invalid_argument.
OptionSpec parsed(OptionSpec spec, std::function<void(Options&, const std::string&)> set,
                  std::function<std::string(const Options&)> get);

/// N or HxW of a level: kernel, stride, padding, dilation.
OptionSpec pair(OptionSpec spec, Member<Size> member);

/// N or HxW in pixels, or a word for "unset".
OptionSpec image_size(OptionSpec spec, Member<Size> member, const char* unset);

/// The levels; checked in full only once kernel, stride, padding and dilation are known.
OptionSpec level_list(OptionSpec spec);

}  // namespace convae::app
