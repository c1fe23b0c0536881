#include "convae/data/effects.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
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

constexpr Known kKnown[] = {
    {Kind::flip, "flip", 0.5, 0, 1},         {Kind::flip_vertical, "flip-vertical", 0.5, 0, 1},
    {Kind::crop, "crop", 0.8, 0.05, 1},      {Kind::brightness, "brightness", 0.1, 0, 1},
    {Kind::contrast, "contrast", 0.1, 0, 1}, {Kind::noise, "noise", 0.1, 0, 10},
    {Kind::blur, "blur", 1, 0, 100},         {Kind::cutout, "cutout", 0.25, 0, 1},
    {Kind::grid, "grid", 16, 2, 65536},      {Kind::blemish, "blemish", 0.4, 0, 1},
    {Kind::defects, "defects", 0.75, 0, 1},
};
constexpr std::size_t kAugmentations = 5;  // the first of them; the others are corruptions

Effect parse_effect(std::string_view text, std::span<const Known> known) {
  const std::size_t colon = text.find(':');
  const std::string_view name = trimmed(text.substr(0, colon));
  const auto found =
      std::ranges::find_if(known, [&](const Known& candidate) { return name == candidate.name; });
  if (found == known.end()) {
    std::vector<const char*> names;
    for (const Known& candidate : known) names.push_back(candidate.name);
    throw OptionError(fmt::format("expected NAME or NAME:AMOUNT, comma-separated, with names {}",
                                  fmt::join(names, ", ")));
  }
  if (colon == std::string_view::npos) return {found->kind, found->usual};
  const auto amount = parse_number(trimmed(text.substr(colon + 1)));
  if (!amount || *amount < found->low || *amount > found->high) {
    throw OptionError(fmt::format("expected a number from {} to {} after '{}:'",
                                  number_text(found->low), number_text(found->high), found->name));
  }
  return {found->kind, *amount};
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

}  // namespace

bool has(const Effects& effects, Effect::Kind kind) {
  return std::ranges::find(effects, kind, &Effect::kind) != effects.end();
}

std::string to_string(const Effects& effects) {
  std::string text;
  for (const Effect& effect : effects) {
    const auto* known = std::ranges::find(kKnown, effect.kind, &Known::kind);
    text +=
        fmt::format("{}{}:{}", text.empty() ? "" : ",", known->name, number_text(effect.amount));
  }
  return text;
}

Effects parse_augmentations(const std::string& text) {
  return parse(text, std::span(kKnown).first(kAugmentations));
}

Effects parse_corruptions(const std::string& text) {
  return parse(text, std::span(kKnown).subspan(kAugmentations));
}

}  // namespace convae
