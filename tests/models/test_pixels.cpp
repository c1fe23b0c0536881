#include "convae/models/pixels.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_pixels {
namespace {

TEST(ModelRange, IsFromMinusOneToOneForTanhAndBack) {
  const torch::Tensor images = torch::tensor({0.0F, 0.25F, 1.0F});
  EXPECT_TRUE(
      torch::equal(to_model_range(images, Output::tanh), torch::tensor({-1.0F, -0.5F, 1.0F})));
  EXPECT_TRUE(
      torch::equal(to_unit_range(torch::tensor({-1.0F, -0.5F, 1.0F}), Output::tanh), images));
  for (const Output output : {Output::sigmoid, Output::linear}) {
    EXPECT_TRUE(torch::equal(to_model_range(images, output), images));
    EXPECT_TRUE(torch::equal(to_unit_range(images, output), images));
  }
}

TEST(ModelRange, ClampsWhatALinearOutputOvershoots) {
  EXPECT_TRUE(torch::equal(to_unit_range(torch::tensor({-0.5F, 0.5F, 1.5F}), Output::linear),
                           torch::tensor({0.0F, 0.5F, 1.0F})));
}

}  // namespace
}  // namespace convae::test_pixels
