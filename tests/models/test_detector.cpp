/// The detector against the same network made of LibTorch's own functions.
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace convae::test_detector {
namespace {

namespace F = torch::nn::functional;
using test::contains;
using test::difference;
using test::message_of;
using test::uniform;

ModelOptions options_with(const std::string& widths, std::int64_t channels = 3) {
  ModelOptions options = test::small_network("4", channels);
  options.detector = parse_widths(widths);
  return options;
}

/// With weights and statistics that are not what they start as.
Detector detector_of(const ModelOptions& options) {
  torch::manual_seed(3);
  Detector detector(options);
  torch::NoGradGuard no_grad;
  std::uint64_t seed = 1;
  for (auto& item : detector->named_parameters()) {
    item.value().add_(0.1 * test::gaussian(item.value().sizes(), seed++));
  }
  for (auto& item : detector->named_buffers()) {
    if (!contains(item.key(), "running")) continue;
    item.value().copy_(0.5 + uniform(item.value().sizes(), seed++));
  }
  return detector;
}

/// The detector of widths {a, b}, step by step.
class Reference {
public:
  Reference(Detector detector, const ModelOptions& options) : options_(options) {
    for (const auto& item : detector->named_parameters()) all_[item.key()] = item.value();
    for (const auto& item : detector->named_buffers()) all_[item.key()] = item.value();
    training_ = detector->is_training();
  }

  torch::Tensor logits(const torch::Tensor& image, const torch::Tensor& made) const {
    const std::int64_t h = image.size(2), w = image.size(3);
    torch::Tensor x =
        torch::cat({image - 0.5, made - 0.5, 4 * (image - made), 4 * (image - blurred(image))}, 1);
    x = F::pad(x, F::PadFuncOptions({0, w % 2, 0, h % 2}).mode(torch::kReplicate));
    x = F::pixel_unshuffle(x, F::PixelUnshuffleFuncOptions(2));
    const torch::Tensor top = block("keep0", block("down0", x, 1), 1);
    const torch::Tensor deep = block("keep1", block("down1", top, 2), 1);
    // What of the output_padding is missing shows in the size.
    const std::vector<std::int64_t> padding = {(top.size(2) + 1) % 2, (top.size(3) + 1) % 2};
    const torch::Tensor up = finish(
        "up0",
        torch::conv_transpose2d(deep, at("up0.conv.weight"), at("up0.conv.bias"), 2, 1, padding));
    const torch::Tensor merged = block("merge0", torch::cat({up, top}, 1), 1);
    x = torch::conv2d(merged, at("last.conv.weight"), at("last.conv.bias"), 1, 1);
    x = torch::pixel_shuffle(x, 2);
    return x.narrow(2, 0, h).narrow(3, 0, w);
  }

private:
  const torch::Tensor& at(const std::string& name) const { return all_.at(name); }

  static torch::Tensor blurred(const torch::Tensor& image) {
    const torch::Tensor place = torch::arange(-12, 13).to(torch::kFloat);
    torch::Tensor kernel = (-(place.view({-1, 1}).square() + place.square()) / 32).exp();
    kernel = (kernel / kernel.sum()).expand({image.size(1), 1, 25, 25});
    const torch::Tensor padded =
        F::pad(image, F::PadFuncOptions({12, 12, 12, 12}).mode(torch::kReplicate));
    return F::conv2d(padded, kernel, F::Conv2dFuncOptions().groups(image.size(1)));
  }

  torch::Tensor block(const std::string& name, const torch::Tensor& x, std::int64_t stride) const {
    return finish(name,
                  torch::conv2d(x, at(name + ".conv.weight"), at(name + ".conv.bias"), stride, 1));
  }

  torch::Tensor finish(const std::string& name, const torch::Tensor& x) const {
    if (options_.norm == Norm::none) return torch::silu(x);
    const torch::Tensor weight = at(name + ".norm.weight"), bias = at(name + ".norm.bias");
    if (options_.norm == Norm::group) {
      return torch::silu(torch::group_norm(x, group_count(x.size(1)), weight, bias));
    }
    if (training_)
      return torch::silu(torch::batch_norm(x, weight, bias, {}, {}, true, 0, 1e-5, false));
    return torch::silu(torch::batch_norm(x, weight, bias, at(name + ".norm.running_mean"),
                                         at(name + ".norm.running_var"), false, 0, 1e-5, false));
  }

  ModelOptions options_;
  std::map<std::string, torch::Tensor> all_;
  bool training_ = false;
};

TEST(DetectorTest, IsTheNetworkOfLibTorchsOwnFunctions) {
  for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
    for (const std::int64_t channels : {1, 3}) {
      for (const Size size : {Size{24, 26}, {25, 31}, {9, 5}}) {
        ModelOptions options = options_with("4,6", channels);
        options.norm = norm;
        Detector detector = detector_of(options);
        const torch::Tensor image = uniform({2, channels, size.h, size.w}, 1);
        const torch::Tensor made = uniform({2, channels, size.h, size.w}, 2);
        detector->train();
        EXPECT_LT(difference(detector->forward(image, made),
                             Reference(detector, options).logits(image, made)),
                  2e-4)
            << to_string(norm) << " " << to_string(size);
        detector->eval();
        const torch::NoGradGuard no_grad;
        EXPECT_LT(difference(detector->forward(image, made),
                             torch::sigmoid(Reference(detector, options).logits(image, made))),
                  1e-5)
            << to_string(norm) << " " << to_string(size);
      }
    }
  }
}

TEST(DetectorTest, MapHasTheImagesSizeWhateverThatIs) {
  for (const char* widths : {"4", "4,6", "3,4,5,6"}) {
    Detector detector = detector_of(options_with(widths));
    for (const Size size : {Size{1, 1}, {1, 7}, {2, 2}, {5, 3}, {24, 25}, {97, 41}}) {
      const torch::Tensor image = uniform({2, 3, size.h, size.w}, 1);
      detector->eval();
      const torch::Tensor map = detector->forward(image, image);
      EXPECT_EQ(map.sizes(), (std::vector<std::int64_t>{2, 1, size.h, size.w})) << widths;
      EXPECT_TRUE((map >= 0).logical_and(map <= 1).all().item<bool>()) << widths;
      detector->train();
      detector->forward(image, image).sum().backward();
    }
  }
}

TEST(DetectorTest, GradientsReachItsWeightsAndNothingElse) {
  Autoencoder net(options_with("4,6"));
  net->train();
  const torch::Tensor image = uniform({2, 3, 17, 20}, 1);
  net->detect(image, net->forward(image)).square().mean().backward();
  for (const auto& item : net->named_parameters()) {
    const bool is_its = item.key().starts_with("detector.");
    ASSERT_EQ(item.value().grad().defined(), is_its) << item.key();
    // A bias before batch normalisation changes nothing.
    const bool is_moot = item.key().ends_with("conv.bias") && !contains(item.key(), "last");
    if (!is_its || is_moot) continue;
    EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
  }
}

TEST(DetectorTest, SeveralSizesAtOnceAreAsOneByOneWithoutBatchStatistics) {
  Detector detector = detector_of(options_with("4,6"));
  detector->eval();
  const torch::NoGradGuard no_grad;
  const Maps images = {uniform({2, 3, 13, 16}, 1), uniform({1, 3, 8, 7}, 2)};
  const Maps made = {uniform({2, 3, 13, 16}, 3), uniform({1, 3, 8, 7}, 4)};
  const Maps together = detector->logits(images, made);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_LT(difference(together[i], detector->logits({images[i]}, {made[i]})[0]), 1e-5);
  }
}

TEST(DetectorTest, LeavesTheAutoencoderAsItIs) {
  torch::manual_seed(5);
  Autoencoder without(options_with(""));
  torch::manual_seed(5);
  Autoencoder with(options_with("4,6"));
  const torch::Tensor image = uniform({2, 3, 17, 20}, 1);
  EXPECT_TRUE(test::identical(without->forward(image), with->forward(image)));
  EXPECT_FALSE(without->detector);
  EXPECT_TRUE(contains(message_of<c10::Error>([&] { without->detect(image, image); }),
                       "this model has no detector"));
}

TEST(DetectorTest, IsClonedAndPartOfAStepsStatistics) {
  for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
    for (const char* widths : {"5", "4,6,8"}) {
      ModelOptions options = options_with(widths);
      options.norm = norm;
      Autoencoder net(options);
      Autoencoder copy(std::dynamic_pointer_cast<AutoencoderImpl>(net->clone()));
      const torch::Tensor image = uniform({1, 3, 12, 14}, 1);
      EXPECT_TRUE(test::identical(net->detect(image, image), copy->detect(image, image)));
    }
  }
  Autoencoder net(options_with("4"));
  net->begin_step();
  const torch::Tensor image = uniform({1, 3, 12, 14}, 1);
  net->detect(image, image);
  const torch::Tensor seen = net->named_buffers()["detector.down0.norm.num_batches_tracked"];
  EXPECT_EQ(seen.item<int>(), 0);
  net->commit_statistics();
  EXPECT_EQ(seen.item<int>(), 1);
}

TEST(DetectorTest, TakesMemory) {
  const ModelOptions without = options_with(""), with = options_with("16,32");
  const Size size{96, 97};
  // Both outputs of down0, keep0 and merge0 alone: 16 channels at half the size.
  EXPECT_GT(with.training_bytes_per_image(size) - without.training_bytes_per_image(size),
            3 * 2 * 16 * 48 * 49 * 4);
  EXPECT_GE(with.inference_bytes_per_image(size), without.inference_bytes_per_image(size));
}

TEST(DetectorWidths, AreReadAndRefused) {
  EXPECT_EQ(widths_text(parse_widths(" 16, 32,64 ")), "16,32,64");
  EXPECT_TRUE(parse_widths("none").empty());
  EXPECT_TRUE(
      contains(message_of<OptionError>([] { parse_widths("16,,32"); }), "such as 16,32,64"));
  EXPECT_TRUE(contains(message_of<OptionError>([] { parse_widths("16x"); }), "such as 16,32,64"));
  EXPECT_TRUE(contains(message_of<OptionError>([] { Autoencoder net(options_with("16,0")); }),
                       "detector must be 1 to 12 numbers of channels"));
  EXPECT_TRUE(contains(
      message_of<OptionError>([] { Autoencoder net(options_with("1,1,1,1,1,1,1,1,1,1,1,1,1")); }),
      "is 1,1,1"));
}

}  // namespace
}  // namespace convae::test_detector
