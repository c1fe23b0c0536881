#include "convae/data/effects.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
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
  bool takes_range = false;
  bool is_whole = false;
};

constexpr Known kKnown[] = {
    {Kind::flip, "flip", 0.5, 0, 1},
    {Kind::flip_vertical, "flip-vertical", 0.5, 0, 1},
    {Kind::crop, "crop", 0.8, 0.05, 1},
    {Kind::brightness, "brightness", 0.1, 0, 1},
    {Kind::contrast, "contrast", 0.1, 0, 1},
    {Kind::noise, "noise", 0.1, 0, 10, true},
    {Kind::shot, "shot", 100, 1, 50000, true},
    {Kind::blur, "blur", 1, 0, 100, true},
    {Kind::jpeg, "jpeg", 30, 1, 100, true, true},
    {Kind::shrink, "shrink", 2, 2, 64, false, true},
    {Kind::cutout, "cutout", 0.25, 0, 1},
    {Kind::grid, "grid", 16, 2, 65536},
    {Kind::blemish, "blemish", 0.4, 0, 1},
    {Kind::defects, "defects", 0.75, 0, 1},
};
constexpr std::size_t kAugmentations = 5;  // the first of them; the others are corruptions

/// Where `sign` stands between two numbers and not in one of them, as in 1e-3-0.2.
std::size_t find_between(std::string_view text, char sign) {
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (text[at] == sign && text[at - 1] != 'e' && text[at - 1] != 'E') return at;
  }
  return std::string_view::npos;
}

/// The amount of an effect; nullopt for what it does not take.
std::optional<Effect> parse_amount(std::string_view text, const Known& known) {
  const auto number = [&](std::string_view part, double low, double high) {
    const auto value = parse_number(trimmed(part));
    const bool fits = value && *value >= low && *value <= high &&
                      (!known.is_whole || *value == std::floor(*value));
    return fits ? value : std::nullopt;
  };
  double read_noise = 0;
  if (const auto plus = find_between(text, '+');
      known.kind == Kind::shot && plus != std::string_view::npos) {
    const auto given = number(text.substr(plus + 1), 0, known.high);
    if (!given) return std::nullopt;
    read_noise = *given;
    text = text.substr(0, plus);
  }
  const std::size_t dash = known.takes_range ? find_between(text, '-') : std::string_view::npos;
  const auto least = number(text.substr(0, dash), known.low, known.high);
  if (!least) return std::nullopt;
  if (dash == std::string_view::npos) return Effect{known.kind, *least, *least, read_noise};
  const auto most = number(text.substr(dash + 1), *least, known.high);
  if (!most) return std::nullopt;
  return Effect{known.kind, *least, *most, read_noise};
}

std::string expected_amount(const Known& known) {
  return fmt::format(
      "expected a {}number from {} to {}{}{} after '{}:'", known.is_whole ? "whole " : "",
      number_text(known.low), number_text(known.high),
      known.takes_range ? ", or a range LOW-HIGH of such," : "",
      known.kind == Kind::shot ? " with or without read noise, such as 100+2," : "", known.name);
}

Effect parse_effect(std::string_view text, std::span<const Known> known) {
  const std::size_t colon = text.find(':');
  const std::string_view name = trimmed(text.substr(0, colon));
  const auto found =
      std::ranges::find_if(known, [&](const Known& candidate) { return name == candidate.name; });
  if (found == known.end()) {
    std::vector<std::string> names;
    for (const Known& candidate : known) names.emplace_back(candidate.name);
    throw OptionError(fmt::format("expected NAME or NAME:AMOUNT, comma-separated, with names {}{}",
                                  fmt::join(names, ", "), did_you_mean(name, names)));
  }
  if (colon == std::string_view::npos) return {found->kind, found->usual};
  const auto effect = parse_amount(trimmed(text.substr(colon + 1)), *found);
  if (!effect) throw OptionError(expected_amount(*found));
  return *effect;
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
    if (effect.most > effect.amount) text += "-" + number_text(effect.most);
    if (effect.read_noise > 0) text += "+" + number_text(effect.read_noise);
  }
  return text;
}

void require_augmentations(const Effects& effects) {
  require_reads_back("augment", to_string(effects), parse_augmentations);
}

void require_corruptions(const Effects& effects) {
  require_reads_back("corrupt", to_string(effects), parse_corruptions);
}

Effects parse_augmentations(const std::string& text) {
  return parse(text, std::span(kKnown).first(kAugmentations));
}

Effects parse_corruptions(const std::string& text) {
  return parse(text, std::span(kKnown).subspan(kAugmentations));
}

}  // namespace convae
