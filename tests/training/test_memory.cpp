#include "convae/data/loader.h"
#include "convae/tests/support.h"
#include "convae/training/memory.h"
#include "convae/training/trainer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace convae::test_memory {
namespace {

using test::message_of;

ModelOptions one_level() { return test::small_network("1:k2s2p0", 1); }

TEST(TrainingMemory, WeightsTakeSixteenBytesEach) {
  const std::int64_t weights = one_level().parameter_count();
  EXPECT_NO_THROW(require_memory_for_weights(one_level(), 16 * weights));
  EXPECT_NO_THROW(require_memory_for_weights(one_level(), /*free_bytes=*/0)) << "unknown";
  ModelOptions wide;
  wide.channels = 3;
  wide.levels = parse_levels("1000,1000");
  EXPECT_EQ(message_of<std::runtime_error>([&] { require_memory_for_weights(wide, 200'000'000); }),
            "--levels '1000:k3x3s2x2p1x1d1x1,1000:k3x3s2x2p1x1d1x1': 18063003 parameters need 0.3 "
            "GB for training, but 0.2 GB are free; use fewer channels");
}

TEST(TrainingMemory, ALatentThatHoldsMostOfThemIsNamed) {
  ModelOptions dense = one_level();
  dense.size = {512, 512};
  dense.latent = 4096;
  const std::string said =
      message_of<std::runtime_error>([&] { require_memory_for_weights(dense, 200'000'000); });
  EXPECT_TRUE(said.starts_with("--latent 4096: ")) << said;
  EXPECT_TRUE(test::contains(said, "a smaller --size, or more levels")) << said;
}

TEST(TrainingMemory, PrincipalComponentsAreCounted) {
  ModelOptions linear = one_level();
  linear.latent = 10'000;
  linear.size = {512, 512};
  linear.linear = Linear::pca;
  EXPECT_EQ(
      message_of<std::runtime_error>([&] { require_memory_for_weights(linear, 40'000'000'000); }),
      "--linear 'pca': 10000 components of images of 512x512 need 41.9 GB, but 40.0 GB are "
      "free; use a smaller --latent or --size");
  linear.latent = 8;
  EXPECT_NO_THROW(require_memory_for_weights(linear, 40'000'000'000));
}

TEST(TrainingMemory, BatchesAreSplitWhereMemoryIsShortAndRefusedWhereNoImageFits) {
  TrainOptions train;
  train.batch_size = 8;
  const Size size{1000, 1000};
  const std::int64_t image = one_level().training_bytes_per_image(size);
  const auto together = [&](std::int64_t images, std::int64_t free_bytes) {
    return require_memory_for_batches(one_level(), train, {{{8, 8}, 100}, {size, images}},
                                      free_bytes);
  };
  const std::int64_t most = Trainer::kMaxPixelsTogether;
  EXPECT_EQ(together(100, 20 * image), most);
  EXPECT_EQ(together(2, 3 * image), most) << "there are no more";
  EXPECT_EQ(together(100, 0), most) << "unknown";
  EXPECT_EQ(together(100, 4 * image), 3'000'000) << "a third more than what is kept";
  EXPECT_EQ(together(100, image), 1'000'000);
  EXPECT_EQ(message_of<std::runtime_error>([&] { together(1, image - 1); }),
            fmt::format("a batch of 1 images of 1000x1000 needs at least {0:.3f} GB for training, "
                        "even one after the other, but {0:.3f} GB are free; resize with --size or "
                        "cut with --crop",
                        static_cast<double>(image) / 1e9));
  EXPECT_EQ(bytes_for_batches(one_level(), train, {{{8, 8}, 100}, {size, 100}}),
            6 * (image / 3 * 4))
      << "no more than kMaxPixelsTogether";
  train.precision = Precision::bf16;
  EXPECT_EQ(together(100, 2 * image), 3'000'000);
}

TEST(AutomaticBatchSize, FollowsPixelsNumberOfImagesAndMemory) {
  TrainOptions train;
  train.batch_size = 0;
  const auto chosen = [&](const std::map<Size, std::int64_t>& images, std::int64_t memory = 0,
                          bool on_gpu = false) {
    return choose_batch_size(one_level(), train, images, memory, on_gpu);
  };
  EXPECT_EQ(chosen({{{28, 28}, 60'000}}), 64);  // 2^16 / 784 = 83.6
  EXPECT_EQ(chosen({{{64, 64}, 60'000}}), 16);
  EXPECT_EQ(chosen({{{64, 64}, 60'000}}, 0, /*on_gpu=*/true), 64);
  EXPECT_EQ(chosen({{{4, 4}, 60'000}}), 128) << "at most";
  EXPECT_EQ(chosen({{{1000, 1000}, 60'000}}), 8) << "at least";
  EXPECT_EQ(chosen({{{28, 28}, 60'000}, {{1000, 1000}, 60'000}}), 8) << "the mean of all images";
  EXPECT_EQ(chosen({{{28, 28}, 300}}), 32) << "8 steps an epoch: 37 images";
  EXPECT_EQ(chosen({{{28, 28}, 5}}), 4) << "however few there are";
  TrainOptions eight;
  eight.batch_size = 8;
  const std::int64_t bytes = bytes_for_batches(one_level(), eight, {{{1000, 1000}, 100}});
  EXPECT_EQ(chosen({{{1000, 1000}, 1000}}, 4 * bytes), 8);
  EXPECT_LT(chosen({{{1000, 1000}, 1000}}, 4 * bytes - 4), 8) << "a quarter of the memory";
  EXPECT_EQ(chosen({{{1000, 1000}, 1000}}, 1), 1);
}

TEST(TrainingMemory, InferenceTakesFewerImagesTogetherBeforeItRefusesOne) {
  const Size size{1000, 1000};
  const std::int64_t image = one_level().inference_bytes_per_image(size);
  const auto together = [&](std::int64_t free_bytes) {
    return require_memory_for_inference(one_level(), {{8, 8}, size}, free_bytes);
  };
  // Twice its maps, or what is measured: as for evaluate, 28 floats a value.
  const std::int64_t needed =
      std::max<std::int64_t>(2 * image, one_level().channels * size.area() * 28 * 4);
  EXPECT_EQ(together(0), kMaxBatchPixels) << "unknown";
  EXPECT_EQ(together(100 * needed), kMaxBatchPixels);
  EXPECT_EQ(together(3 * needed), 3'000'000);
  EXPECT_LE(together(image), 1'000'000);
  EXPECT_EQ(message_of<std::runtime_error>([&] { together(image - 1); }),
            fmt::format("an image of 1000x1000 needs at least {0:.3f} GB, but {0:.3f} GB are free; "
                        "resize with --size",
                        static_cast<double>(image) / 1e9));
  EXPECT_THROW(require_memory_for_inference(one_level(), {size}, needed - 1, /*beside=*/0,
                                            kMeasuredBytesAValue),
               std::runtime_error)
      << "one that cannot be measured";
}

TEST(TrainingMemory, MostCommonSizeIsThatOfMostImages) {
  EXPECT_EQ(most_common({{{8, 8}, 2}, {{9, 9}, 5}, {{99, 1}, 4}}), (Size{9, 9}));
  EXPECT_EQ(most_common({}), (Size{}));
}

}  // namespace
}  // namespace convae::test_memory
