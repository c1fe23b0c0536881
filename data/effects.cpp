#include "convae/data/effects.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace convae {
namespace {

using Kind = Effect::Kind;

struct Known {
  Kind kind;
  const char* name;
  double usual;  ///< amount where none is given
  double low, high;
};

constexpr std::array kAugmentations = {
    Known{Kind::flip, "flip", 0.5, 0, 1}, Known{Kind::flip_vertical, "flip-vertical", 0.5, 0, 1},
    Known{Kind::crop, "crop", 0.8, 0.05, 1}, Known{Kind::brightness, "brightness", 0.1, 0, 1},
    Known{Kind::contrast, "contrast", 0.1, 0, 1}};

constexpr std::array kCorruptions = {
    Known{Kind::noise, "noise", 0.1, 0, 10}, Known{Kind::blur, "blur", 1, 0, 100},
    Known{Kind::cutout, "cutout", 0.25, 0, 1}, Known{Kind::grid, "grid", 16, 2, 65536},
    Known{Kind::blemish, "blemish", 0.4, 0, 1}};

Effect parse_effect(std::string_view text, std::span<const Known> known) {
  const std::size_t colon = text.find(':');
  const std::string_view name = trimmed(text.substr(0, colon));
  std::string names;
  for (const Known& candidate : known) {
    names += (names.empty() ? "" : ", ") + std::string(candidate.name);
    if (name != candidate.name) continue;
    Effect effect{candidate.kind, candidate.usual};
    if (colon == std::string_view::npos) return effect;
    const auto amount = parse_number(trimmed(text.substr(colon + 1)));
    if (amount && *amount >= candidate.low && *amount <= candidate.high) {
      effect.amount = *amount;
      return effect;
    }
    throw OptionError(fmt::format("expected a number from {} to {} after '{}:'",
                                  number_text(candidate.low), number_text(candidate.high),
                                  candidate.name));
  }
  throw OptionError("expected NAME or NAME:AMOUNT, comma-separated, with names " + names);
}

Effects parse(std::string_view text, std::span<const Known> known) {
  Effects effects;
  if (trimmed(text).empty() || trimmed(text) == "none") return effects;
  while (true) {
    const std::size_t comma = text.find(',');
    effects.push_back(parse_effect(trimmed(text.substr(0, comma)), known));
    if (comma == std::string_view::npos) return effects;
    text.remove_prefix(comma + 1);
  }
}

std::string name_of(Kind kind) {
  for (const std::span<const Known> list :
       {std::span<const Known>(kAugmentations), std::span<const Known>(kCorruptions)}) {
    const auto known = std::ranges::find(list, kind, &Known::kind);
    if (known != list.end()) return known->name;
  }
  return "";
}

}  // namespace

std::string to_string(const Effects& effects) {
  std::string text;
  for (const Effect& effect : effects) {
    text += (text.empty() ? "" : ",") + name_of(effect.kind) + ":" + number_text(effect.amount);
  }
  return text;
}

Effects parse_augmentations(const std::string& text) { return parse(text, kAugmentations); }

Effects parse_corruptions(const std::string& text) { return parse(text, kCorruptions); }

}  // namespace convae
