#include "convae/training/losses.h"

#include "convae/metrics/similarity.h"
#include "convae/models/kernels/flat_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/custom_function.h>

namespace convae {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LossAndGradient {
  double loss = 0;
  Maps dx;
  torch::Tensor dbias;  // (C)
};

template <typename T>
LossAndGradient loss_and_gradient(const Maps& x, const torch::Tensor& bias, const Maps& targets,
                                  Output output, LossKind kind, double scale) {
  const auto& kernel = kernels_of_this_processor().of<T>().loss[static_cast<std::size_t>(output)]
                                                               [static_cast<std::size_t>(kind)];
  const Pieces pieces(x, x[0].size(1));
  const std::vector<float> bias_lanes = pieces.lanes(numbers(bias, pieces.channels(), 0));
  const kernels::Lanes lanes{pieces.width(), bias_lanes.data(), nullptr, nullptr};
  LossAndGradient result;
  std::vector<double> scales;
  for (const torch::Tensor& map : x) {
    result.dx.push_back(at::empty_like(map));
    scales.push_back(scale * static_cast<double>(map.size(0)) / static_cast<double>(map.numel()));
  }
  std::vector<double> losses(pieces.size());
  const auto sums = pieces.sums<1>([&](const Pieces::Piece& piece, const auto& sum) {
    losses[pieces.index(piece)] =
        scales[piece.map] * kernel(values<T>(x[piece.map]) + piece.begin,
                                   values<float>(targets[piece.map]) + piece.begin, piece.count,
                                   lanes, static_cast<float>(scales[piece.map]),
                                   values<T>(result.dx[piece.map]) + piece.begin, sum[0]);
  });
  result.dbias = to_tensor(sums[0], at::kFloat);
  for (const double loss : losses) result.loss += loss;
  return result;
}

struct FusedLoss : torch::autograd::Function<FusedLoss> {
  static torch::Tensor forward(AutogradContext* context, at::TensorList open,
                               const torch::Tensor& bias, const Maps* targets, Output output,
                               LossKind kind, double scale) {
    const Maps x = channels_last(open.vec());
    const Maps wanted = channels_last(*targets);
    LossAndGradient result = with_type(x[0], [&]<typename T>(T) {
      return loss_and_gradient<T>(x, bias, wanted, output, kind, scale);
    });
    // The gradient costs almost nothing here, and saves reading the maps again.
    variable_list saved = std::move(result.dx);
    saved.push_back(result.dbias);
    context->save_for_backward(std::move(saved));
    return at::full({}, result.loss, at::kDouble);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    variable_list result = context->get_saved_variables();
    const auto factor = gradients[0].item<double>();
    if (factor != 1) {
      for (torch::Tensor& gradient : result) gradient = gradient * factor;
    }
    result.resize(result.size() + 4);  // targets, output, kind, scale
    return result;
  }
};

/// Of the model's range → [0,1], without the limits of to_unit_range(): gradients must pass.
torch::Tensor unlimited_unit_range(const torch::Tensor& images, Output output) {
  return output == Output::tanh ? (images + 1) / 2 : images;
}

torch::Tensor term_of_images(const torch::Tensor& reconstruction, const torch::Tensor& target,
                             LossKind kind, Output output) {
  constexpr double kCharbonnierEpsilon = 1e-3;
  const auto mean = [](const torch::Tensor& values) { return values.mean({1, 2, 3}); };
  switch (kind) {
    case LossKind::mse: return mean((reconstruction - target).square());
    case LossKind::l1: return mean((reconstruction - target).abs());
    case LossKind::charbonnier:
      return mean(
          ((reconstruction - target).square() + kCharbonnierEpsilon * kCharbonnierEpsilon).sqrt());
    case LossKind::ssim:
    case LossKind::ms_ssim: {
      const auto measure = kind == LossKind::ssim ? ssim : ms_ssim;
      return 1 - measure(unlimited_unit_range(reconstruction, output),
                         unlimited_unit_range(target, output));
    }
  }
  return {};
}

}  // namespace

torch::Tensor image_losses(const torch::Tensor& reconstruction, const torch::Tensor& target,
                           const Loss& loss, Output output) {
  torch::Tensor sum;
  for (const LossTerm& term : loss) {
    const torch::Tensor losses = term_of_images(reconstruction, target, term.kind, output);
    sum = sum.defined() ? sum + term.weight * losses : term.weight * losses;
  }
  return sum;
}

torch::Tensor detection_losses(const torch::Tensor& logits, const torch::Tensor& labels) {
  const torch::Tensor entropies =
      at::binary_cross_entropy_with_logits(logits, labels, /*weight=*/{}, /*pos_weight=*/{},
                                           at::Reduction::None)
          .flatten(1);
  const torch::Tensor changes = labels.flatten(1);
  const torch::Tensor of_changes = (entropies * changes).sum(1) / (changes.sum(1) + kFewPixels);
  return kDetectionWeight * (entropies.mean(1) + kChangesWeight * of_changes);
}

bool is_fused(const Loss& loss) {
  return loss.size() == 1 && (loss[0].kind == LossKind::mse || loss[0].kind == LossKind::l1);
}

torch::Tensor fused_loss(const Maps& open, const torch::Tensor& last_bias, const Maps& targets,
                         Output output, LossKind kind, double scale) {
  return FusedLoss::apply(at::TensorList(open), last_bias, &targets, output, kind, scale);
}

}  // namespace convae
