#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"

#include <array>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// How a reconstruction is compared with its image; see image_losses() for the formulas.
enum class LossKind { mse, l1, charbonnier, ssim, ms_ssim };
constexpr auto names(LossKind) {
  return std::to_array<Name<LossKind>>({{LossKind::mse, "mse"},
                                        {LossKind::l1, "l1"},
                                        {LossKind::charbonnier, "charbonnier"},
                                        {LossKind::ssim, "ssim"},
                                        {LossKind::ms_ssim, "ms-ssim"}});
}

/// One summand of a loss.
struct LossTerm {
  LossKind kind = LossKind::mse;
  double weight = 1;
  friend bool operator==(const LossTerm&, const LossTerm&) = default;
};

/// A weighted sum, never empty.
using Loss = std::vector<LossTerm>;

/// "mse + 0.2*ssim".
std::string to_string(const Loss& loss);

/// The inverse: NAME or WEIGHT*NAME, separated by +, with or without blanks; weights are above 0.
/// Throws OptionError saying what was expected.
Loss parse_loss(const std::string& text);

/// Whether a term needs images of at least kSimilarityWindow a side.
bool needs_window(const Loss& loss);

}  // namespace convae
