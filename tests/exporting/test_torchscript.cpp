#include "convae/exporting/export.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"

#include <torch/script.h>

namespace convae::test_torchscript {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;
using test::uniform;

ModelOptions small() { return test::small_network("4,6:k4x5s3x2p2x4d1x2"); }

/// A model whose norms are not what they start as.
Model model_of(const ModelOptions& options) {
  torch::manual_seed(1);
  Autoencoder net(options);
  const Size size = options.latent > 0 ? options.size : Size{20, 31};
  for (std::uint64_t step = 0; step < 3; ++step) {
    net->forward(uniform({4, options.channels, size.h, size.w}, step));
  }
  return Model(net);
}

torch::jit::Module exported(const Model& model, Part part = Part::autoencoder) {
  const TemporaryFolder folder;
  const auto file = folder / "model.pt";
  export_model(file, model, {.format = ExportFormat::torchscript, .part = part, .size = {}});
  return torch::jit::load(file.string());
}

void expect_close(const torch::Tensor& got, const torch::Tensor& expected) {
  EXPECT_LE(test::difference(got, expected), 1e-5);
}

void expect_same_model(const ModelOptions& options, const std::vector<Size>& sizes) {
  const torch::NoGradGuard no_grad;
  Model model = model_of(options);
  torch::jit::Module script = exported(model);
  torch::jit::Module encoder = exported(model, Part::encoder);
  torch::jit::Module decoder = exported(model, Part::decoder);
  for (const Size size : sizes) {
    SCOPED_TRACE(to_string(size));
    const torch::Tensor images = uniform({3, options.channels, size.h, size.w}, 9);
    const torch::Tensor latent = model.net()->encoder->forward(images);
    const torch::Tensor reconstruction = model.net()->forward(images);
    std::vector<c10::IValue> to_decode = {latent};
    if (options.latent == 0) to_decode.emplace_back(std::vector<std::int64_t>{size.h, size.w});
    expect_close(script.forward({images}).toTensor(), reconstruction);
    expect_close(script.run_method("encode", images).toTensor(), latent);
    expect_close(script.get_method("decode")(to_decode).toTensor(), reconstruction);
    expect_close(encoder.forward({images}).toTensor(), latent);
    expect_close(decoder.forward(to_decode).toTensor(), reconstruction);
  }
}

const std::vector<Size> kSizes = {{33, 57}, {64, 64}, {1, 1}, {24, 25}};

TEST(TorchScript, EveryOrderActivationNormAndOutputGivesTheModelsReconstruction) {
  for (const Order order : {Order::conv_bn_act, Order::conv_act_bn}) {
    for (const Norm norm : {Norm::batch, Norm::group, Norm::none}) {
      for (const Activation activation :
           {Activation::silu, Activation::relu, Activation::leaky_relu, Activation::gelu}) {
        ModelOptions options = small();
        options.order = order;
        options.norm = norm;
        options.activation = activation;
        SCOPED_TRACE(std::string(to_string(order)) + " " + to_string(norm) + " " +
                     to_string(activation));
        expect_same_model(options, {{33, 57}});
      }
    }
  }
  for (const Output output : {Output::sigmoid, Output::tanh, Output::linear}) {
    ModelOptions options = small();
    options.output = output;
    expect_same_model(options, kSizes);
  }
}

TEST(TorchScript, OneChannelAndOneLevelWork) {
  expect_same_model(test::small_network("2", 1), kSizes);
  ModelOptions options = test::small_network("1", 1);
  options.norm = Norm::group;  // which is exact in one layout alone
  expect_same_model(options, {{481, 321}});
}

TEST(TorchScript, ABottleneckOfAnyKindWorks) {
  for (const bool variational : {false, true}) {
    for (const Norm norm : {Norm::batch, Norm::group}) {
      ModelOptions options = small();
      options.variational = variational;
      options.norm = norm;
      options.latent_channels = 3;
      expect_same_model(options, kSizes);
      options.latent_channels = 0;
      options.latent = 7;
      options.size = {33, 57};
      expect_same_model(options, {{33, 57}});
    }
  }
}

TEST(TorchScript, ShortcutsAndResidualBlocksWork) {
  for (const char* levels : {"4,6:r2", "4:k4s2p1,6:k3s3p1,5:k3x5s1x2p1x2r1", "2:s1,12:s1"}) {
    for (const Norm norm : {Norm::batch, Norm::group}) {
      ModelOptions options = small();
      options.levels = parse_levels(levels);
      options.shortcut = Shortcut::shuffle;
      options.norm = norm;
      expect_same_model(options, {{33, 57}, {64, 64}, {24, 25}, {7, 6}});
    }
  }
}

TEST(TorchScript, WhatCannotWorkIsRefusedWithAReason) {
  ModelOptions options = small();
  options.levels = parse_levels("4:k4p0");
  torch::jit::Module script = exported(model_of(options));
  const auto reason = [&](const char* method, std::vector<c10::IValue> inputs) {
    return message_of<std::exception>([&] { script.get_method(method)(std::move(inputs)); });
  };
  using Size = std::vector<std::int64_t>;
  EXPECT_TRUE(contains(reason("forward", {torch::rand({1, 3, 3, 9})}), "images of 4x4 and larger"));
  EXPECT_TRUE(contains(reason("forward", {torch::rand({1, 1, 9, 9})}), "(N, 3, H, W)"));
  EXPECT_TRUE(contains(reason("decode", {torch::rand({1, 4, 3, 3}), Size{20, 20}}),
                       "for images of that size"));
  EXPECT_TRUE(contains(reason("decode", {torch::rand({1, 4, 3, 3}), Size{8}}), "[height, width]"));

  options = small();
  options.latent = 4;
  options.size = {8, 9};
  script = exported(model_of(options));
  EXPECT_TRUE(contains(reason("forward", {torch::rand({1, 3, 9, 9})}), "images of 8x9 only"));
  EXPECT_TRUE(contains(reason("decode", {torch::rand({1, 5})}), "(N, 4)"));
}

}  // namespace
}  // namespace convae::test_torchscript
