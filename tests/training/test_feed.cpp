/// What a thread prepares ahead is what the loader and the corruption give.
#include "convae/models/pixels.h"
#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/feed.h"

#include <gtest/gtest.h>

namespace convae::test_training {
namespace {

class FeedTest : public TrainerTest, public testing::WithParamInterface<bool> {
protected:
  static Loader loader_of(ImageDataset& images, std::int64_t workers = 2) {
    return {images,
            plan_training_epoch(images, /*batch_size=*/4, /*seed=*/1, /*epoch=*/1),
            {},
            workers};
  }
};

TEST_P(FeedTest, GivesTheLoadersStepsCorrupted) {
  ImageDataset same = dataset();
  Loader loader = loader_of(images_), other = loader_of(same);
  const CorruptionRule rule{parse_corruptions("noise:0.2"), 3, 1};
  Feed feed(loader, rule, {}, GetParam());
  while (const auto expected = other.next()) {
    const auto step = feed.next();
    ASSERT_TRUE(step && step->size() == expected->size());
    for (std::size_t i = 0; i < step->size(); ++i) {
      const MicroBatch& batch = (*step)[i];
      EXPECT_EQ(batch.indices, (*expected)[i].indices);
      EXPECT_TRUE(torch::equal(batch.images, (*expected)[i].images));
      const torch::Tensor clean = to_float(batch.images, torch::kCPU);
      EXPECT_TRUE(torch::equal(batch.corrupted, corrupt(clean, rule, batch.indices)));
    }
  }
  EXPECT_FALSE(feed.next());
  EXPECT_FALSE(feed.next());
}

TEST_P(FeedTest, LeavesCleanImagesAlone) {
  Loader loader = loader_of(images_);
  const CorruptionRule none;
  Feed feed(loader, none, {}, GetParam());
  EXPECT_FALSE(feed.next()->at(0).corrupted.defined());
}  // ends in the middle: the thread is not waited for in vain

TEST_P(FeedTest, HandsOnWhatTheLoaderThrows) {
  ImageDataset images = uniform_dataset(12);
  ImageDataset::Options strict;
  strict.skip_bad = false;
  strict.cache = Cache::none;
  ImageDataset refusing(entries_of(folder_ / "uniform"), strict);
  write_text(folder_ / "uniform" / name_of(5), "");
  Loader loader = loader_of(refusing);
  const CorruptionRule none;
  Feed feed(loader, none, {}, GetParam());
  const std::string message = message_of<std::runtime_error>([&] {
    while (feed.next()) {
    }
  });
  EXPECT_TRUE(contains(message, name_of(5))) << message;
}

INSTANTIATE_TEST_SUITE_P(OnThisThreadAndAhead, FeedTest, testing::Bool());

}  // namespace
}  // namespace convae::test_training
