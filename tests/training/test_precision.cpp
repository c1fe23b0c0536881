#include "convae/core/errors.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/precision.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_precision {
namespace {

using test::small_network;

TEST(Precision, ProcessorsGainWhereLevelsAreWideAndOfTheUsualKind) {
  const auto gains = [](const char* levels) {
    return gains_from_bf16(small_network(levels), c10::kCPU);
  };
  EXPECT_TRUE(gains_from_bf16(ModelOptions{}, c10::kCPU));
  EXPECT_TRUE(gains("16,32:k5s2p2"));
  EXPECT_TRUE(gains("32:k3s1p1"));
  EXPECT_FALSE(gains("8,16")) << "narrow";
  EXPECT_FALSE(gains("32,64:k3s3p1")) << "pytorch issue 169688";
  EXPECT_FALSE(gains("32,64:k3s1x3p1"));
  EXPECT_FALSE(gains("32:k3s2p2d2,64")) << "pytorch issue 183815";
}

TEST(Precision, AutomaticDependsOnDeviceAndNetworkAlone) {
  const auto chosen = [](Precision asked, const char* levels) {
    return choose_precision(asked, small_network(levels), c10::kCPU, {});
  };
  const Precision fast = has_fast_bf16(c10::kCPU) ? Precision::bf16 : Precision::fp32;
  EXPECT_EQ(chosen(Precision::automatic, "32,64"), fast);
  EXPECT_EQ(chosen(Precision::automatic, "4,8"), Precision::fp32);
  EXPECT_EQ(chosen(Precision::bf16, "4,8"), Precision::bf16);
  EXPECT_EQ(chosen(Precision::fp32, "32,64"), Precision::fp32);
  EXPECT_THROW(chosen(Precision::tf32, "32,64"), OptionError);
}

TEST(Precision, SlowInstructionsAreSaid) {
  std::string said;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& text) { said = text; };
  choose_precision(Precision::bf16, small_network("32"), c10::kCPU, callbacks);
  EXPECT_EQ(said.empty(), has_fast_bf16(c10::kCPU)) << said;
}

struct Case {
  const char* levels;
  Size size;
};

/// Output and all gradients of a network, one after the other.
torch::Tensor pass(Autoencoder& net, const torch::Tensor& images, Precision precision) {
  net->zero_grad();
  torch::Tensor output;
  {
    const Autocast autocast(c10::kCPU, precision);
    output = net->forward(images).to(torch::kFloat);
  }
  torch::mse_loss(output, images).backward();
  std::vector<torch::Tensor> all = {output.detach().flatten()};
  for (const torch::Tensor& weight : net->parameters()) all.push_back(weight.grad().flatten());
  return torch::cat(all);
}

/// Cases in which LibTorch 2.13 is wrong or slow on some processors, and plain ones.
class BFloat16 : public testing::TestWithParam<Case> {};

TEST_P(BFloat16, ComputesWhatFloatDoes) {
  ModelOptions options = small_network(GetParam().levels);
  options.norm = Norm::none;  // batch normalisation of few values makes much of small differences
  const Size size = GetParam().size;
  torch::manual_seed(3);
  Autoencoder net(options);
  const torch::Tensor images =
      torch::rand({4, 3, size.h, size.w}).contiguous(torch::MemoryFormat::ChannelsLast);
  const torch::Tensor exact = pass(net, images, Precision::fp32);
  const torch::Tensor rounded = pass(net, images, Precision::bf16);
  const double error = ((rounded - exact).norm() / exact.norm()).item<double>();
  EXPECT_GT(error, 0) << "it did not compute in bfloat16";
  EXPECT_LT(error, 0.01);
  const auto outputs = images.numel();
  const torch::Tensor gradients = exact.slice(0, outputs);
  EXPECT_LT(((rounded.slice(0, outputs) - gradients).norm() / gradients.norm()).item<double>(),
            0.05);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BFloat16,
    testing::Values(Case{"32,64", {24, 25}}, Case{"7,33", {17, 9}},
                    Case{"16,32,64,64", {16, 16}},  // maps one pixel wide
                    Case{"32,64", {33, 1}},         // images one pixel wide
                    Case{"16:k7s2p3,32:k7s2p3", {5, 6}}, Case{"32:k3s3p1,64:k3s3p1", {28, 30}},
                    Case{"32:k3s2p2d2,64:k3s2p2d2", {24, 24}},
                    Case{"32:k2s2p0", {128, 2}},  // one pixel of several
                    Case{"16:k3s3p1", {96, 3}}, Case{"16:k4s4p0,32:k4s4p0", {96, 16}},
                    Case{"16:k3x1s1x2p0x1d1x3", {6, 1}}, Case{"32:k4s2p1,64:k4s2p1", {24, 26}},
                    Case{"32:k1s1p0,32:r1", {12, 12}}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace convae::test_precision
