#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

namespace convae::test_autoencoder {
namespace {

using test::contains;
using test::difference;
using test::message_of;
using test::small_network;
using test::uniform;
using Names = std::vector<std::string>;
using Sizes = std::vector<std::int64_t>;

TEST(AutoencoderTest, GivesEverySizeBackInSuccessiveCallsOfOneModel) {
  Autoencoder net(small_network());
  for (const bool training : {true, false}) {
    net->train(training);
    for (const Size size : {Size{24, 24}, Size{25, 25}, Size{1, 1}, Size{7, 13}, Size{481, 321},
                            Size{24, 25}, Size{1, 64}, Size{24, 24}}) {
      for (const std::int64_t images : {1, 2}) {
        const torch::Tensor x = uniform({images, 3, size.h, size.w}, 1);
        const torch::Tensor y = net->forward(x);
        EXPECT_EQ(y.sizes(), x.sizes()) << to_string(size);
        EXPECT_TRUE(torch::isfinite(y).all().item<bool>()) << to_string(size);
      }
    }
  }
}

TEST(AutoencoderTest, GivesEverySizeBackForAnyKernelStridePaddingAndDilation) {
  torch::NoGradGuard no_grad;
  for (const char* levels :
       {"2:k1s1p0", "2:k3s1p1", "2:k2s2p0,3:k2s2p0", "2:k3x5s2x1p1x2d1,3:k3", "2:k4s2p1,3:k4s2p1",
        "2:k5s3p2d2,3:k3s2p1", "2:k3s4p1,3:k2s5p0", "2:k7s5p3d3", "2:k1s3p0,3:k1s2p2",
        "2:k2x3s3x2p0x4d4x1,2:k3x1s1x4p2x0"}) {
    ModelOptions options = small_network(levels, 1);
    options.norm = Norm::none;
    Autoencoder net(options);
    net->eval();
    const Size smallest = smallest_input(options.levels);
    for (std::int64_t h = smallest.h; h < smallest.h + 12; ++h) {
      // One axis steps by 1 and the other by 5, which is prime to all strides but 5.
      const std::int64_t w = smallest.w + 5 * (h - smallest.h);
      const torch::Tensor x = uniform({1, 1, h, w}, 1);
      EXPECT_EQ(net->forward(x).sizes(), x.sizes()) << levels << " at " << to_string(Size{h, w});
      const torch::Tensor t = x.transpose(2, 3);
      if (t.size(2) >= smallest.h && t.size(3) >= smallest.w) {
        EXPECT_EQ(net->forward(t).sizes(), t.sizes()) << levels << " at " << to_string(Size{w, h});
      }
    }
  }
}

void copy_weights(Autoencoder& from, Autoencoder& to) {
  torch::NoGradGuard no_grad;
  const auto source = from->named_parameters();
  for (auto& item : to->named_parameters()) item.value().copy_(source[item.key()]);
}

TEST(AutoencoderTest, PartsOfABatchEqualTheWholeBatchInTraining) {
  ModelOptions convolutional = small_network(), dense = small_network();
  convolutional.latent_channels = 2;
  dense.latent = 5;
  dense.size = {9, 12};
  for (const ModelOptions& options : {small_network(), convolutional, dense}) {
    Autoencoder whole(options), parts(options);
    copy_weights(whole, parts);
    const torch::Tensor x = uniform({5, 3, 9, 12}, 1);
    const torch::Tensor y = whole->forward(x);
    const Maps z = parts->forward(Maps{x.narrow(0, 0, 2), x.narrow(0, 2, 3)});
    EXPECT_LE(difference(torch::cat(z), y), 1e-5);
    const torch::Tensor target = uniform(x.sizes(), 2);
    torch::mse_loss(y, target).backward();
    torch::mse_loss(torch::cat(z), target).backward();
    const auto expected = whole->named_parameters();
    for (const auto& item : parts->named_parameters()) {
      EXPECT_LE(difference(item.value().grad(), expected[item.key()].grad()), 1e-5) << item.key();
    }
    const auto statistics = whole->named_buffers();
    for (const auto& item : parts->named_buffers()) {
      EXPECT_LE(difference(item.value(), statistics[item.key()]), 1e-5) << item.key();
    }
  }
}

TEST(AutoencoderTest, LatentChannelsNarrowTheMap) {
  ModelOptions options = small_network();
  options.latent_channels = 2;
  Autoencoder net(options);
  for (const Size size : {Size{24, 25}, Size{5, 40}}) {
    const torch::Tensor latent = net->encoder->forward(uniform({2, 3, size.h, size.w}, 1));
    EXPECT_EQ(latent.sizes(), (Sizes{2, 2, (size.h + 7) / 8, (size.w + 7) / 8}));
    EXPECT_EQ(net->decoder->forward(latent, size).sizes(), (Sizes{2, 3, size.h, size.w}));
  }
}

TEST(AutoencoderTest, DenseLatentIsOneVectorAnImage) {
  ModelOptions options = small_network();
  options.latent = 7;
  options.size = {24, 25};
  Autoencoder net(options);
  const torch::Tensor latent = net->encoder->forward(uniform({2, 3, 24, 25}, 1));
  EXPECT_EQ(latent.sizes(), (Sizes{2, 7}));
  EXPECT_EQ(net->decoder->forward(latent, {24, 25}).sizes(), (Sizes{2, 3, 24, 25}));
}

TEST(AutoencoderTest, DenseLatentRefusesOtherSizes) {
  ModelOptions options = small_network();
  options.latent = 7;
  options.size = {24, 25};
  Autoencoder net(options);
  EXPECT_EQ(message_of<GeometryError>([&] {
              net->forward(uniform({1, 3, 25, 24}, 1));
            }),
            "this model has a dense latent and takes images of 24x25 only, but got 25x24");
  EXPECT_EQ(message_of<GeometryError>([&] {
              net->decoder->forward(torch::zeros({1, 7}), {9, 9});
            }),
            "this model has a dense latent and gives images of 24x25 only, but 9x9 was asked for");
  EXPECT_TRUE(contains(message_of<c10::Error>([&] {
                         net->decoder->forward(torch::zeros({1, 6}), {24, 25});
                       }),
                       "the decoder takes (N, 7), but got [1, 6]"));
}

TEST(AutoencoderTest, RefusesOtherChannelsAndShapes) {
  Autoencoder net(small_network());
  EXPECT_TRUE(contains(message_of<c10::Error>([&] {
                         net->encoder->forward(uniform({1, 1, 8, 8}, 1));
                       }),
                       "the encoder takes (N, 3, H, W), but got [1, 1, 8, 8]"));
  EXPECT_TRUE(contains(message_of<c10::Error>([&] {
                         net->encoder->forward(uniform({3, 8, 8}, 1));
                       }),
                       "the encoder takes (N, 3, H, W), but got [3, 8, 8]"));
  EXPECT_TRUE(contains(message_of<c10::Error>([&] {
                         net->decoder->forward(torch::zeros({1, 7, 1, 1}), {8, 8});
                       }),
                       "the decoder takes (N, 8, h, w), but got [1, 7, 1, 1]"));
}

TEST(AutoencoderTest, RefusesALatentOfAnotherImage) {
  Autoencoder net(small_network());
  EXPECT_EQ(message_of<GeometryError>([&] {
              net->decoder->forward(torch::zeros({1, 8, 3, 3}), {25, 24});
            }),
            "an image of 25x24 has a latent of 4x3, but got 3x3");
}

TEST(AutoencoderTest, RefusesImagesTooSmallForTheLevels) {
  Autoencoder net(small_network("4:k5p0,6:k5p0"));
  const std::string message = message_of<GeometryError>([&] {
    net->forward(uniform({1, 3, 13, 12}, 1));
  });
  EXPECT_TRUE(contains(message, "input 13x12 cannot pass level 2: its width is 4")) << message;
  EXPECT_TRUE(contains(message, "use an input of at least 13x13")) << message;
}

TEST(AutoencoderTest, KeepsWeightsAndMapsChannelsLast) {
  ModelOptions options = small_network();
  options.latent_channels = 3;
  Autoencoder net(options);
  for (const auto& item : net->named_parameters()) {
    if (item.value().dim() == 4) {
      EXPECT_TRUE(item.value().is_contiguous(torch::MemoryFormat::ChannelsLast)) << item.key();
    }
  }
  const torch::Tensor x = uniform({2, 3, 16, 18}, 1);  // planes
  EXPECT_TRUE(net->encoder->forward(x).is_contiguous(torch::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(net->forward(x).is_contiguous(torch::MemoryFormat::ChannelsLast));
}

Names names_of(const ModelOptions& options) {
  Autoencoder net(options);
  Names names = net->named_parameters().keys();
  for (const std::string& name : net->named_buffers().keys()) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

TEST(AutoencoderTest, NamesAreThoseOfTheCheckpointFormat) {
  ModelOptions options = small_network("4,6");
  options.norm = Norm::none;
  const Names convolutions = {"decoder.0.conv.bias", "decoder.0.conv.weight",
                              "decoder.1.conv.bias", "decoder.1.conv.weight",
                              "encoder.0.conv.bias", "encoder.0.conv.weight",
                              "encoder.1.conv.bias", "encoder.1.conv.weight"};
  EXPECT_EQ(names_of(options), convolutions);

  const auto with = [](Names names, const Names& more) {
    names.insert(names.end(), more.begin(), more.end());
    std::sort(names.begin(), names.end());
    return names;
  };
  options.latent_channels = 2;
  EXPECT_EQ(names_of(options),
            with(convolutions, {"encoder.latent.bias", "encoder.latent.weight",
                                "decoder.latent.conv.bias", "decoder.latent.conv.weight"}));
  options.latent_channels = 0;
  options.latent = 2;
  options.size = {8, 8};
  EXPECT_EQ(names_of(options),
            with(convolutions, {"encoder.latent.bias", "encoder.latent.weight",
                                "decoder.latent.linear.bias", "decoder.latent.linear.weight"}));
  options.latent = 0;
  Names parts = {"weight", "bias"};
  for (const Norm norm : {Norm::group, Norm::batch}) {
    options.norm = norm;
    if (norm == Norm::batch)
      parts = with(parts, {"running_mean", "running_var", "num_batches_tracked"});
    Names norms;
    for (const std::string& block : Names{"encoder.0", "encoder.1", "decoder.0"}) {
      for (const std::string& part : parts) norms.push_back(block + ".norm." + part);
    }
    EXPECT_EQ(names_of(options), with(convolutions, norms));
  }
}

TEST(AutoencoderTest, RunningStatisticsMoveOnceAStep) {
  Autoencoder net(small_network());
  const auto statistics = [&] {
    std::vector<torch::Tensor> all;
    for (const auto& item : net->named_buffers()) all.push_back(item.value().clone());
    return all;
  };
  const auto before = statistics();
  net->begin_step();
  net->forward(uniform({2, 3, 8, 9}, 1));
  net->forward(uniform({1, 3, 12, 7}, 2));
  const auto within = statistics();
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], within[i]));
  net->commit_statistics();
  for (const auto& item : net->named_buffers()) {
    if (item.key().ends_with("num_batches_tracked")) {
      EXPECT_EQ(item.value().item<std::int64_t>(), 1) << item.key();
    } else if (item.key().ends_with("running_mean")) {
      EXPECT_GT(item.value().abs().max().item<float>(), 0) << item.key();
    }
  }
}

TEST(AutoencoderTest, SeveralThreadsMayUseOneModelAtOnce) {
  Autoencoder net(small_network("4,8"));
  net->eval();
  const auto reconstructed = [&](std::int64_t side) {
    const torch::NoGradGuard no_grad;
    return reconstruct_images(net, test::uniform({2, net->options().channels, side, side + 3}, 5));
  };
  std::vector<std::int64_t> wrong(4, 0);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto side = static_cast<std::int64_t>(17 + i);
      const torch::Tensor first = reconstructed(side);
      for (int round = 0; round < 20; ++round) {
        if (!test::identical(reconstructed(side), first)) ++wrong[i];
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, std::vector<std::int64_t>(4, 0));
}

TEST(AutoencoderTest, CloneIsTheSameNetworkWithWeightsOfItsOwn) {
  for (const bool training : {true, false}) {
    Autoencoder net(small_network());
    net->forward(uniform({2, 3, 16, 16}, 1));  // moves the running statistics
    net->train(training);
    Autoencoder copy(std::dynamic_pointer_cast<AutoencoderImpl>(net->clone()));
    EXPECT_EQ(copy->is_training(), training);
    const torch::Tensor x = uniform({2, 3, 13, 9}, 2);
    EXPECT_TRUE(torch::equal(copy->forward(x), net->forward(x)));
    const torch::Tensor before = net->named_parameters()["encoder.0.conv.weight"].clone();
    {
      torch::NoGradGuard no_grad;
      for (torch::Tensor& parameter : copy->parameters()) parameter.zero_();
    }
    EXPECT_TRUE(torch::equal(net->named_parameters()["encoder.0.conv.weight"], before));
    copy->forward(x).sum().backward();
    EXPECT_TRUE(copy->parameters()[0].grad().defined());
    EXPECT_FALSE(net->parameters()[0].grad().defined());
  }
}

}  // namespace
}  // namespace convae::test_autoencoder
