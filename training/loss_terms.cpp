#include "convae/training/loss_terms.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <algorithm>
#include <string_view>

namespace convae {
namespace {

LossTerm parse_term(std::string_view text) {
  LossTerm term;
  std::string_view name = text;
  if (const std::size_t star = text.find('*'); star != std::string_view::npos) {
    const auto weight = parse_number(trimmed(text.substr(0, star)));
    if (!weight || *weight <= 0) throw OptionError("expected a weight above 0 before '*'");
    term.weight = *weight;
    name = trimmed(text.substr(star + 1));
  }
  if (const auto kind = parse_name<LossKind>(name)) {
    term.kind = *kind;
    return term;
  }
  throw OptionError(
      "expected mse, l1, charbonnier, ssim or ms-ssim, or a weighted sum such as "
      "mse + 0.2*ssim" +
      did_you_mean(name, all_names<LossKind>()));
}

}  // namespace

std::string to_string(const Loss& loss) {
  std::string text;
  for (const LossTerm& term : loss) {
    if (!text.empty()) text += " + ";
    if (term.weight != 1) text += number_text(term.weight) + "*";
    text += to_string(term.kind);
  }
  return text;
}

Loss parse_loss(const std::string& text) {
  Loss loss;
  std::string_view rest = text;
  while (true) {
    // The sign of an exponent, as in 1e+3, is no separator.
    std::size_t plus = rest.find('+');
    while (plus != std::string_view::npos && plus > 1 && (rest[plus - 1] | 32) == 'e' &&
           std::string_view("0123456789.").find(rest[plus - 2]) != std::string_view::npos) {
      plus = rest.find('+', plus + 1);
    }
    const LossTerm term = parse_term(trimmed(rest.substr(0, plus)));
    if (std::ranges::count(loss, term.kind, &LossTerm::kind) > 0) {
      throw OptionError(in_quotes(to_string(term.kind)) + " is given twice");
    }
    loss.push_back(term);
    if (plus == std::string_view::npos) return loss;
    rest.remove_prefix(plus + 1);
  }
}

bool needs_window(const Loss& loss) {
  return std::ranges::any_of(loss, [](const LossTerm& term) {
    return term.kind == LossKind::ssim || term.kind == LossKind::ms_ssim;
  });
}

}  // namespace convae
