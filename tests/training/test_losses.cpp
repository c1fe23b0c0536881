#include "convae/training/losses.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <tuple>

namespace convae::test_losses {
namespace {

using LossCase = std::tuple<Output, LossKind, std::int64_t>;
class FusedLossTest : public testing::TestWithParam<LossCase> {};

torch::Tensor output_of(const torch::Tensor& x, Output output) {
  if (output == Output::sigmoid) return torch::sigmoid(x);
  return output == Output::tanh ? torch::tanh(x) : x;
}

TEST_P(FusedLossTest, EqualsLibTorchInValueAndGradient) {
  const auto [output, kind, channels] = GetParam();
  torch::manual_seed(5);
  const double scale = 0.125;
  Maps fused;
  Maps plain;
  Maps targets;
  for (const auto& [n, h, w] :
       std::vector<std::array<std::int64_t, 3>>{{3, 17, 12}, {1, 1, 1}, {2, 90, 71}}) {
    fused.push_back((torch::randn({n, channels, h, w}) * 3)
                        .contiguous(torch::MemoryFormat::ChannelsLast)
                        .requires_grad_());
    plain.push_back(fused.back().detach().to(torch::kDouble).requires_grad_());
    targets.push_back(torch::rand({n, channels, h, w}));
  }
  const torch::Tensor bias = torch::randn({channels}).requires_grad_();
  const torch::Tensor plain_bias = bias.detach().to(torch::kDouble).requires_grad_();

  const torch::Tensor loss = fused_loss(fused, bias, targets, output, kind, scale);
  torch::Tensor expected = torch::zeros({}, torch::kDouble);
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const torch::Tensor out = output_of(plain[i] + plain_bias.view({1, -1, 1, 1}), output);
    const torch::Tensor difference = out - targets[i].to(torch::kDouble);
    const torch::Tensor errors = kind == LossKind::mse ? difference.square() : difference.abs();
    expected = expected + errors.mean({1, 2, 3}).sum() * scale;
  }
  EXPECT_NEAR(loss.item<double>() / expected.item<double>(), 1, 1e-6);

  // A factor other than one must reach the gradients.
  (loss * 3).backward();
  (expected * 3).backward();
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const torch::Tensor wanted = plain[i].grad();
    EXPECT_LE((fused[i].grad() - wanted).abs().max().item<double>(),
              1e-4 * wanted.abs().max().item<double>() + 1e-9);
  }
  const torch::Tensor wanted = plain_bias.grad();
  EXPECT_LE((bias.grad() - wanted).abs().max().item<double>(),
            1e-4 * wanted.abs().max().item<double>() + 1e-8);
}

INSTANTIATE_TEST_SUITE_P(
    All, FusedLossTest,
    testing::Combine(testing::Values(Output::sigmoid, Output::tanh, Output::linear),
                     testing::Values(LossKind::mse, LossKind::l1), testing::Values(1, 3, 5)));

TEST(FusedLossOfNaN, NotANumberIsNotHidden) {
  for (const Output output : {Output::sigmoid, Output::tanh, Output::linear}) {
    Maps open{torch::zeros({1, 3, 4, 4}).contiguous(torch::MemoryFormat::ChannelsLast)};
    open[0][0][1][2][2] = std::numeric_limits<float>::quiet_NaN();
    const Maps targets{torch::zeros({1, 3, 4, 4})};
    for (const LossKind kind : {LossKind::mse, LossKind::l1}) {
      EXPECT_TRUE(
          std::isnan(fused_loss(open, torch::zeros({3}), targets, output, kind, 1).item<double>()));
    }
  }
}

}  // namespace
}  // namespace convae::test_losses
