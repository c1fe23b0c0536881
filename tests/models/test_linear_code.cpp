#include "convae/models/autoencoder.h"
#include "convae/models/pixels.h"
#include "convae/tests/support.h"
#include "convae/training/precision.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_linear_code {
namespace {

constexpr Size kSize{11, 14};

ModelOptions linear(const char* levels = "4,6:r1", Norm norm = Norm::batch) {
  ModelOptions options = test::small_network(levels);
  options.norm = norm;
  options.latent = 5;
  options.size = kSize;
  options.linear = Linear::pca;
  options.output = Output::linear;
  return options;
}

/// A map of latents, each of a block of 6x4 pixels.
ModelOptions linear_map() {
  ModelOptions options = linear("4:s3x2,6:r1");
  options.latent = 0;
  options.size = {0, 0};
  options.latent_channels = 5;
  return options;
}

torch::Tensor some_images() { return torch::rand({4, 3, kSize.h, kSize.w}); }

/// Orthonormal components and a mean, in both halves of a network.
void give_components(Autoencoder& net, std::int64_t count) {
  const std::int64_t numbers = 3 * kSize.h * kSize.w;
  const torch::Tensor columns = std::get<0>(torch::linalg_qr(torch::randn({numbers, count})));
  const torch::Tensor components = columns.t().reshape({count, 3, kSize.h, kSize.w});
  const torch::Tensor mean = torch::rand({3, kSize.h, kSize.w});
  net->encoder->linear()->set(mean, components);
  net->decoder->linear()->set(mean, components);
}

torch::Tensor projected(const Autoencoder& net, const torch::Tensor& images) {
  std::map<std::string, torch::Tensor> buffers;
  for (const auto& item : net->encoder->linear()->named_buffers()) {
    buffers[item.key()] = item.value().to(torch::kDouble).flatten(item.key() == "mean" ? 0 : 1);
  }
  const torch::Tensor rows = images.to(torch::kDouble).flatten(1) - buffers["mean"];
  const torch::Tensor& components = buffers["components"];
  return (buffers["mean"] + rows.matmul(components.t()).matmul(components)).view(images.sizes());
}

class LinearCodeTest : public ::testing::Test {
protected:
  void SetUp() override { torch::manual_seed(3); }
};

TEST_F(LinearCodeTest, CodesAreProjectionsAlsoInALowerPrecision) {
  Autoencoder net(linear());
  give_components(net, 5);
  const torch::Tensor images = some_images();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const Autocast autocast(torch::kCPU, precision);
    const LinearCode code = net->encoder->linear();
    const torch::Tensor given = code->decode(code->encode(images), kSize);
    EXPECT_EQ(given.scalar_type(), torch::kFloat);
    EXPECT_TRUE(given.is_contiguous(torch::MemoryFormat::ChannelsLast));
    EXPECT_LE((given - projected(net, images)).abs().max().item<double>(), 1e-5);
  }
}

TEST_F(LinearCodeTest, OfAMapCodesEachBlockAndRepeatsTheEdge) {
  Autoencoder net(linear_map());
  const torch::Tensor columns = std::get<0>(torch::linalg_qr(torch::randn({3 * 6 * 4, 5})));
  const torch::Tensor mean = torch::rand({3, 1, 1});
  for (LinearCode code : {net->encoder->linear(), net->decoder->linear()}) {
    code->set(mean, columns.t().reshape({5, 3, 6, 4}));
  }
  const torch::Tensor images = some_images();  // 11x14: two blocks by four, a row and two columns
  const torch::Tensor whole = torch::replication_pad2d(images, {0, 2, 0, 1}) - mean;
  const auto blocks = [](const torch::Tensor& x) {
    return torch::nn::functional::unfold(
        x, torch::nn::functional::UnfoldFuncOptions({6, 4}).stride({6, 4}));
  };
  const torch::Tensor code = net->encoder->linear()->encode(images);
  EXPECT_EQ(code.sizes(), (std::vector<std::int64_t>{4, 5, 2, 4}));
  EXPECT_TRUE(torch::allclose(code.flatten(2), columns.t().matmul(blocks(whole)), 1e-4, 1e-5));
  const torch::Tensor image = net->decoder->linear()->decode(code, kSize);
  EXPECT_EQ(image.sizes(), images.sizes());
  EXPECT_TRUE(image.is_contiguous(torch::MemoryFormat::ChannelsLast));
  const torch::Tensor expected = torch::nn::functional::fold(
      columns.matmul(code.flatten(2)),
      torch::nn::functional::FoldFuncOptions({12, 16}, {6, 4}).stride({6, 4}));
  EXPECT_TRUE(torch::allclose(image, expected.slice(2, 0, 11).slice(3, 0, 14) + mean, 1e-4, 1e-5));

  const torch::Tensor given = net->forward(images);
  EXPECT_EQ(given.sizes(), images.sizes());
  EXPECT_LE((given - image).square().mean().item<double>(), 1e-3);
  EXPECT_EQ(net->encoder->forward(images).sizes(), code.sizes());
  for (const Size size : {Size{1, 1}, Size{2, 9}, Size{13, 5}}) {
    EXPECT_EQ(net->forward(torch::rand({2, 3, size.h, size.w})).sizes(),
              (std::vector<std::int64_t>{2, 3, size.h, size.w}));
  }
  std::int64_t weights = 0;
  for (const torch::Tensor& weight : net->parameters()) weights += weight.numel();
  EXPECT_EQ(weights, net->options().parameter_count());
}

TEST_F(LinearCodeTest, AFreshNetworkGivesNearlyTheProjection) {
  for (const auto& [levels, norm, shortcut] :
       {std::tuple("4,6:r1", Norm::batch, Shortcut::none),
        std::tuple("4,6:r1", Norm::group, Shortcut::none),
        std::tuple("4,6:r1", Norm::none, Shortcut::none),
        std::tuple("4,6:r1", Norm::batch, Shortcut::shuffle),
        std::tuple("5:k5x4s1x2p2x1,6", Norm::none, Shortcut::shuffle)}) {
    for (const std::int64_t count : {5, 2}) {
      ModelOptions options = linear(levels, norm);
      options.shortcut = shortcut;
      Autoencoder net(options);
      give_components(net, count);
      const torch::Tensor images = some_images();
      const torch::Tensor given = net->forward(images);
      EXPECT_EQ(given.sizes(), images.sizes());
      const double change = (given - projected(net, images)).square().mean().item<double>();
      EXPECT_GT(change, 0);
      EXPECT_LE(change, 1e-3);
    }
  }
}

TEST_F(LinearCodeTest, TheLatentIsTheSumOfBothPathsAndTheImageTheSumOfBothWaysBack) {
  Autoencoder net(linear());
  give_components(net, 5);
  net->eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor images = some_images();
  const torch::Tensor code = net->encoder->linear()->encode(images);
  const torch::Tensor latent = net->encoder->forward(images);
  ASSERT_FALSE(torch::equal(code, latent));
  const torch::Tensor image = net->decoder->linear()->decode(latent, kSize);
  const torch::Tensor given = net->decoder->forward(latent, kSize);
  // Without what the last convolution adds, the image is what is left.
  for (const auto& item : net->named_parameters()) {
    if (item.key().starts_with("decoder.1.conv.")) item.value().zero_();
    if (item.key().starts_with("encoder.latent.")) item.value().zero_();
  }
  EXPECT_TRUE(torch::allclose(net->decoder->forward(latent, kSize), image));
  EXPECT_FALSE(torch::allclose(given, image));
  EXPECT_TRUE(torch::allclose(net->encoder->forward(images), code));
}

TEST_F(LinearCodeTest, OpenMapsCloseToTheSame) {
  Autoencoder net(linear());
  give_components(net, 5);
  net->eval();
  const torch::NoGradGuard no_grad;
  const Maps latents = net->encoder->forward(Maps{some_images()});
  const std::vector<Size> sizes{kSize};
  EXPECT_TRUE(torch::allclose(net->decoder->close(net->decoder->forward_open(latents, sizes))[0],
                              net->decoder->forward(latents, sizes)[0], 1e-5, 1e-6));
}

TEST_F(LinearCodeTest, EveryWeightLearns) {
  for (const Norm norm : {Norm::batch, Norm::none}) {
    Autoencoder net(linear("4,6:r1", norm));
    give_components(net, 5);
    const torch::Tensor images = some_images();
    (net->forward(images) - images).square().mean().backward();
    for (const auto& item : net->named_parameters()) {
      ASSERT_TRUE(item.value().grad().defined()) << item.key();
      // A bias before batch normalisation has no effect.
      if (item.key().ends_with("bias")) continue;
      EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
    }
  }
}

TEST_F(LinearCodeTest, LatentsOfAnotherShapeAreRefusedAsByOtherDecoders) {
  Autoencoder dense(linear()), map(linear_map());
  const auto refusal = [](Autoencoder& net, std::vector<std::int64_t> shape) {
    return test::message_of<c10::Error>([&] { net->decoder->forward(torch::zeros(shape), kSize); });
  };
  EXPECT_TRUE(test::contains(refusal(dense, {1, 7}), "the decoder takes (N, 5), but got [1, 7]"));
  EXPECT_TRUE(test::contains(refusal(map, {1, 5}), "takes (N, 5, h, w), but got [1, 5]"));
  EXPECT_TRUE(test::contains(refusal(map, {1, 4, 2, 4}), "but got [1, 4, 2, 4]"));
}

TEST_F(LinearCodeTest, AnotherKindOfModelIsRefused) {
  const auto refusal = [](auto change) {
    ModelOptions options = linear();
    change(options);
    return test::message_of<OptionError>([&] { options.validate(); });
  };
  EXPECT_EQ(refusal([](ModelOptions& o) { o.latent = 0; }),
            "linear pca goes past the convolutions of a bottleneck: set latent or "
            "latent-channels, or linear none");
  EXPECT_EQ(refusal([](ModelOptions& o) { o.output = Output::sigmoid; }),
            "linear pca: the network predicts a difference, which can be negative; "
            "output-activation must be linear, but is sigmoid");
  EXPECT_TRUE(test::contains(refusal([](ModelOptions& o) { o.variational = true; }),
                             "linear pca is not for a variational model"));
  const auto refusal_of_map = [&](const char* levels) {
    return refusal([&](ModelOptions& o) {
      o = linear_map();
      o.levels = parse_levels(levels);
    });
  };
  EXPECT_EQ(refusal_of_map("4,6:k4"),
            "linear pca with latent-channels needs levels whose kernel spans 1 + 2 padding pixels, "
            "such as k3p1 or k5p2, but that of level 2 (k4 s2 p1) does not; change it, or use "
            "linear none");
  EXPECT_TRUE(test::contains(refusal_of_map("4,4,4,4,4,4,4,4"), "blocks of 256x256"));
}

}  // namespace
}  // namespace convae::test_linear_code
