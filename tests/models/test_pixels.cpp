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

TEST(ToFloat, RefusesOtherWholeNumbersThanThoseOfFiles) {
  EXPECT_TRUE(torch::equal(to_float(torch::full({1, 1, 2, 2}, 255, torch::kByte), torch::kCPU),
                           torch::ones({1, 1, 2, 2})));
  for (const auto type : {torch::kInt, torch::kLong, torch::kShort, torch::kBool}) {
    EXPECT_THROW(to_float(torch::ones({1, 1, 2, 2}, type), torch::kCPU), std::invalid_argument);
  }
}

TEST(ToFloat, TakesImagesWithoutValues) {
  for (const auto& shape : {std::vector<std::int64_t>{1, 0, 4, 4}, {0, 3, 4, 4}, {1, 3, 0, 4}}) {
    EXPECT_EQ(to_float(torch::zeros(shape, torch::kByte), torch::kCPU).sizes(), shape);
  }
}

}  // namespace
}  // namespace convae::test_pixels
