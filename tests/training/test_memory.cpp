#include "convae/tests/support.h"
#include "convae/training/memory.h"

#include <gtest/gtest.h>

namespace convae::test_memory {
namespace {

using test::message_of;

ModelOptions one_level() {
  ModelOptions model;
  model.channels = 1;
  model.levels = parse_levels("1:k2s2p0");
  return model;
}

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

TEST(TrainingMemory, BatchesAreBoundByTheLargestAndTheImagesThereAre) {
  TrainOptions train;
  train.batch_size = 8;
  const Size size{1000, 1000};
  const std::int64_t image = one_level().training_bytes_per_image(size);
  const auto refusal = [&](std::int64_t images, std::int64_t free_bytes) {
    return message_of<std::runtime_error>([&] {
      require_memory_for_batches(one_level(), train, {{{8, 8}, 100}, {size, images}}, free_bytes);
    });
  };
  EXPECT_NO_THROW(require_memory_for_batches(one_level(), train, {{size, 100}}, 8 * image));
  EXPECT_NO_THROW(require_memory_for_batches(one_level(), train, {{size, 2}}, 2 * image));
  EXPECT_NO_THROW(require_memory_for_batches(one_level(), train, {{size, 100}}, 0)) << "unknown";
  EXPECT_EQ(refusal(100, 3 * image),
            "a batch of 8 images of 1000x1000 needs at least 0.1 GB for training, but 0.0 GB are "
            "free; set --batch-size 3 or less, resize with --size or cut with --crop");
  EXPECT_EQ(refusal(1, image - 1),
            "a batch of 1 images of 1000x1000 needs at least 0.0 GB for training, but 0.0 GB are "
            "free; resize with --size or cut with --crop");
  train.precision = Precision::bf16;
  EXPECT_NO_THROW(require_memory_for_batches(one_level(), train, {{size, 100}}, 4 * image));
}

TEST(TrainingMemory, MostCommonSizeIsThatOfMostImages) {
  EXPECT_EQ(most_common({{{8, 8}, 2}, {{9, 9}, 5}, {{99, 1}, 4}}), (Size{9, 9}));
  EXPECT_EQ(most_common({}), (Size{}));
}

}  // namespace
}  // namespace convae::test_memory
