#include "convae/data/loader.h"
#include "convae/tests/support.h"

#include <ATen/Parallel.h>

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

namespace convae::test_loader {
namespace {

using test::as_int;
using test::entries_of;
using test::message_of;
using test::noise;
using test::TemporaryFolder;
using test::write_image;
using test::write_text;
using Indices = std::vector<std::int64_t>;

std::string name_of(std::size_t index) {
  return std::string(1, static_cast<char>('a' + index / 26)) + static_cast<char>('a' + index % 26) +
         ".png";
}

ImageDataset::Options uncached(bool skip_bad = true) {
  return {.cache = Cache::none, .skip_bad = skip_bad};
}

/// A data set without files: plans look at headers only.
ImageDataset listed(const std::vector<Size>& sizes) {
  std::vector<ImageEntry> entries;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    entries.push_back({{name_of(i), ""}, {.height = sizes[i].h, .width = sizes[i].w}});
  }
  return ImageDataset(std::move(entries), uncached());
}

Indices flat(const std::vector<Step>& plan) {
  Indices all;
  for (const Step& step : plan) {
    for (const MicroBatch& batch : step) {
      all.insert(all.end(), batch.indices.begin(), batch.indices.end());
    }
  }
  return all;
}

Indices sorted(Indices indices) {
  std::sort(indices.begin(), indices.end());
  return indices;
}

Indices counting(std::int64_t begin, std::int64_t end) {
  Indices all;
  for (std::int64_t i = begin; i < end; ++i) all.push_back(i);
  return all;
}

const std::vector<Size> kMixed = {{4, 4}, {5, 4}, {4, 4}, {4, 5}, {5, 4}, {4, 4},
                                  {4, 4}, {6, 6}, {5, 4}, {4, 4}, {4, 5}};

TEST(TrainingPlan, TakesEveryImageOnceInStepsOfTheBatchSize) {
  const ImageDataset dataset = listed(kMixed);
  for (const std::int64_t batch_size : {1, 3, 4, 11, 100}) {
    const std::vector<Step> plan = plan_training_epoch(dataset, batch_size, /*seed=*/3, 1);
    EXPECT_EQ(sorted(flat(plan)), counting(0, 11));
    EXPECT_EQ(std::ssize(plan), (11 + batch_size - 1) / batch_size);
    for (std::size_t i = 0; i + 1 < plan.size(); ++i) EXPECT_EQ(image_count(plan[i]), batch_size);
  }
}

TEST(TrainingPlan, GroupsTheImagesOfAStepBySize) {
  const ImageDataset dataset = listed(kMixed);
  for (const Step& step : plan_training_epoch(dataset, 6, /*seed=*/1, 1)) {
    std::set<Size> seen;
    for (const MicroBatch& batch : step) {
      const Size size = dataset.image_size(batch.indices.at(0));
      EXPECT_TRUE(seen.insert(size).second) << "two micro-batches of one size";
      for (const std::int64_t index : batch.indices) EXPECT_EQ(dataset.image_size(index), size);
      EXPECT_FALSE(batch.images.defined());
    }
  }
}

TEST(TrainingPlan, OrderDependsOnSeedAndEpochOnly) {
  const std::vector<Size> sizes(40, Size{4, 4});
  const ImageDataset dataset = listed(sizes);
  const Indices order = flat(plan_training_epoch(dataset, 1, /*seed=*/5, /*epoch=*/2));
  EXPECT_NE(order, counting(0, 40));
  for (const std::int64_t batch_size : {1, 7, 64}) {
    EXPECT_EQ(flat(plan_training_epoch(listed(sizes), batch_size, 5, 2)), order);
  }
  EXPECT_NE(flat(plan_training_epoch(dataset, 1, 5, 3)), order);
  EXPECT_NE(flat(plan_training_epoch(dataset, 1, 6, 2)), order);
}

TEST(TrainingPlan, PutsEveryImageInEveryPlaceAboutEquallyOften) {
  const ImageDataset dataset = listed(std::vector<Size>(4, Size{4, 4}));
  std::map<std::pair<std::int64_t, std::int64_t>, int> count;  // (place, image)
  for (int epoch = 0; epoch < 4000; ++epoch) {
    const Indices order = flat(plan_training_epoch(dataset, 4, /*seed=*/0, epoch));
    for (std::int64_t place = 0; place < 4; ++place) ++count[{place, order[place]}];
  }
  ASSERT_EQ(count.size(), 16U);
  // Five standard deviations of a binomial count are 137.
  for (const auto& [where, times] : count) EXPECT_NEAR(times, 1000, 137);
}

TEST(TrainingPlan, GoesOnFromAPosition) {
  const ImageDataset dataset = listed(std::vector<Size>(10, Size{4, 4}));
  const Indices all = flat(plan_training_epoch(dataset, 4, 1, 1));
  for (const std::int64_t position : {0, 1, 4, 9, 10}) {
    const std::vector<Step> rest = plan_training_epoch(dataset, 3, 1, 1, position);
    EXPECT_EQ(flat(rest), Indices(all.begin() + position, all.end()));
    EXPECT_EQ(std::ssize(rest), (10 - position + 2) / 3);
  }
  EXPECT_TRUE(plan_training_epoch(dataset, 3, 1, 1, /*position=*/1000).empty());
}

TEST(PlanInOrder, PutsImagesOfOneSizeNextToEachOther) {
  const ImageDataset dataset = listed(kMixed);
  const std::vector<Step> plan = plan_in_order(dataset, 3);
  EXPECT_EQ(flat(plan), (Indices{0, 2, 5, 6, 9, 3, 10, 1, 4, 8, 7}));
  for (const Step& step : plan) {
    ASSERT_EQ(step.size(), 1U);
    EXPECT_LE(image_count(step), 3);
    for (const std::int64_t index : step[0].indices) {
      EXPECT_EQ(dataset.image_size(index), dataset.image_size(step[0].indices[0]));
    }
  }
  EXPECT_EQ(plan.size(), 5U);  // 3 + 2, 2, 3, 1
}

TEST(PlanInOrder, KeepsBatchesWithinMaxPixels) {
  std::vector<Size> sizes(6, Size{10, 10});
  sizes.push_back({50, 50});
  sizes.push_back({50, 50});
  const std::vector<Step> plan = plan_in_order(listed(sizes), 4, /*max_pixels=*/250);
  std::vector<std::int64_t> counts;
  for (const Step& step : plan) counts.push_back(image_count(step));
  EXPECT_EQ(counts, (std::vector<std::int64_t>{2, 2, 2, 1, 1}));
}

TEST(PlanInOrder, CountsPixelsAtTheSizeTheNetworkSees) {
  const std::vector<Size> small(4, Size{10, 10});
  const std::vector<Step> plan =
      plan_in_order(listed(small), 4, /*max_pixels=*/800, /*network_size=*/{20, 20});
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(image_count(plan[0]), 2);
}

/// Eleven images of mixed sizes, 8 and 16 bit; two of them turn out bad when they are read.
class LoaderTest : public testing::Test {
protected:
  LoaderTest() {
    for (std::size_t i = 0; i < kMixed.size(); ++i) {
      torch::Tensor image = noise(3, kMixed[i].h, kMixed[i].w, i);
      if (i == 5) image = as_int(image).mul(200).to(torch::kUInt16);
      images_.push_back(image);
      write_image(folder_ / name_of(i), image);
    }
    entries_ = entries_of(folder_.path());
  }

  void spoil(std::size_t index) { write_text(folder_ / name_of(index), ""); }

  std::vector<Step> deliver(std::int64_t workers, View crop = {}, Cache cache = Cache::none,
                            Size crop_size = {}) {
    ImageDataset dataset(entries_, {.crop = crop_size, .cache = cache});
    Loader loader(dataset, plan_training_epoch(dataset, 4, /*seed=*/2, /*epoch=*/1), crop, workers);
    std::vector<Step> steps;
    while (auto step = loader.next()) steps.push_back(std::move(*step));
    EXPECT_FALSE(loader.next());  // the end stays the end
    return steps;
  }

  TemporaryFolder folder_;
  std::vector<torch::Tensor> images_;
  std::vector<ImageEntry> entries_;
};

void expect_same(const std::vector<Step>& a, const std::vector<Step>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), b[i].size());
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      EXPECT_EQ(a[i][j].indices, b[i][j].indices);
      EXPECT_EQ(a[i][j].images.scalar_type(), b[i][j].images.scalar_type());
      EXPECT_TRUE(torch::equal(as_int(a[i][j].images), as_int(b[i][j].images)));
    }
  }
}

TEST_F(LoaderTest, DeliversThePixelsOfThePlannedImages) {
  ImageDataset dataset(entries_, uncached());
  const std::vector<Step> plan = plan_training_epoch(dataset, 4, 2, 1);
  const std::vector<Step> steps = deliver(/*workers=*/2);
  EXPECT_EQ(flat(steps), flat(plan));
  for (const Step& step : steps) {
    for (const MicroBatch& batch : step) {
      ASSERT_EQ(batch.images.size(0), std::ssize(batch.indices));
      EXPECT_TRUE(batch.images.is_contiguous(torch::MemoryFormat::ChannelsLast));
      for (std::size_t i = 0; i < batch.indices.size(); ++i) {
        const torch::Tensor& original = images_[batch.indices[i]];
        const bool widened = original.scalar_type() != batch.images.scalar_type();
        EXPECT_TRUE(torch::equal(as_int(batch.images[i]), as_int(original) * (widened ? 257 : 1)));
      }
    }
  }
}

TEST_F(LoaderTest, DeliversTheSameWithAnyNumberOfWorkersAndAnyCache) {
  spoil(3);
  spoil(6);
  const View crop{/*random=*/true, /*seed=*/4, /*epoch=*/1};
  const std::vector<Step> alone = deliver(0, crop, Cache::none, {3, 2});
  EXPECT_EQ(sorted(flat(alone)), (Indices{0, 1, 2, 4, 5, 7, 8, 9, 10}));
  for (const std::int64_t workers : {1, 3}) {
    expect_same(deliver(workers, crop, Cache::none, {3, 2}), alone);
    expect_same(deliver(workers, crop, Cache::ram, {3, 2}), alone);
  }
}

TEST_F(LoaderTest, SecondEpochFromMemoryEqualsTheFirst) {
  ImageDataset dataset(entries_, {.cache = Cache::ram});
  std::vector<std::vector<Step>> epochs(2);
  for (auto& steps : epochs) {
    Loader loader(dataset, plan_in_order(dataset, 4), {}, /*workers=*/3);
    while (auto step = loader.next()) steps.push_back(std::move(*step));
  }
  EXPECT_EQ(flat(epochs[0]).size(), 11U);
  expect_same(epochs[0], epochs[1]);
}

TEST_F(LoaderTest, WidensEightBitImagesBesideSixteenBitOnes) {
  ImageDataset dataset(entries_, uncached());
  // Images 2 (8 bit) and 5 (16 bit) have one size; 9 has it too but is in a batch of its own.
  std::vector<Step> plan = {{MicroBatch{{2, 5}, {}}}, {MicroBatch{{9}, {}}}};
  Loader loader(dataset, plan, {}, /*workers=*/0);
  const Step mixed = loader.next().value();
  ASSERT_EQ(mixed[0].images.scalar_type(), torch::kUInt16);
  EXPECT_TRUE(torch::equal(as_int(mixed[0].images[0]), as_int(images_[2]) * 257));
  EXPECT_TRUE(torch::equal(as_int(mixed[0].images[1]), as_int(images_[5])));
  EXPECT_EQ(loader.next().value()[0].images.scalar_type(), torch::kUInt8);
}

TEST_F(LoaderTest, LeavesBadImagesOutOfTheirBatchAndEmptyBatchesOutOfTheirStep) {
  spoil(7);  // the only one of its size
  spoil(2);
  for (const std::int64_t workers : {0, 2}) {
    ImageDataset dataset(entries_, uncached());
    std::vector<Step> plan = {{MicroBatch{{0, 2, 6}, {}}, MicroBatch{{7}, {}}},
                              {MicroBatch{{7}, {}}},
                              {MicroBatch{{1}, {}}}};
    Loader loader(dataset, plan, {}, workers);
    const Step first = loader.next().value();
    ASSERT_EQ(first.size(), 1U);
    EXPECT_EQ(first[0].indices, (Indices{0, 6}));
    EXPECT_TRUE(torch::equal(first[0].images[1], images_[6]));
    EXPECT_TRUE(loader.next().value().empty());
    EXPECT_EQ(loader.next().value().at(0).indices, Indices{1});
    EXPECT_FALSE(loader.next());
    EXPECT_EQ(dataset.bad_files().size(), 2U);
  }
}

TEST_F(LoaderTest, ThrowsWhatLoadingThrew) {
  spoil(8);
  for (const std::int64_t workers : {0, 1, 3}) {
    ImageDataset dataset(entries_, uncached(/*skip_bad=*/false));
    Loader loader(dataset, {{MicroBatch{{0}, {}}}, {MicroBatch{{8}, {}}}}, {}, workers);
    EXPECT_TRUE(loader.next());
    EXPECT_EQ(message_of<std::runtime_error>([&] { loader.next(); }),
              "'" + name_of(8) + "': empty file (0 bytes) (--skip-bad is false)");
  }
}

TEST_F(LoaderTest, EndsWhenItIsLeftInTheMiddle) {
  ImageDataset dataset(entries_, uncached());
  for (const bool started : {false, true}) {
    Loader loader(dataset, plan_training_epoch(dataset, 1, 0, 1), {}, /*workers=*/3);
    if (started) {
      EXPECT_TRUE(loader.next());
    }
  }
}

TEST_F(LoaderTest, DecodesAheadOnlyAsManyBytesAsItMay) {
  ImageDataset dataset(entries_, {.cache = Cache::ram});
  Loader loader(dataset, plan_in_order(dataset, 1), {}, /*workers=*/3, /*pinned=*/false,
                /*bytes_ahead=*/1);
  const std::int64_t first = loader.next().value().at(0).indices[0];
  // However long it takes: one more is decoded and waits, and the next has to wait for that.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::int64_t cached = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) cached += dataset.cached(i) ? 1 : 0;
  EXPECT_TRUE(dataset.cached(first));
  EXPECT_LE(cached, 2);
  std::int64_t steps = 1;
  while (loader.next()) ++steps;
  EXPECT_EQ(steps, dataset.size()) << "and yet all come";
}

TEST_F(LoaderTest, WorksWithoutThreadsWhereNoneCanStart) {
  pthread_attr_t usual, hopeless;
  pthread_getattr_default_np(&usual);
  pthread_getattr_default_np(&hopeless);
  pthread_attr_setstacksize(&hopeless, std::size_t{1} << 47);  // more than all addresses
  pthread_setattr_default_np(&hopeless);
  ImageDataset dataset(entries_, uncached());
  Loader loader(dataset, plan_in_order(dataset, 4), {}, /*workers=*/3);
  pthread_setattr_default_np(&usual);
  std::int64_t images = 0;
  while (const auto step = loader.next()) images += image_count(*step);
  EXPECT_EQ(images, dataset.size());
}

std::ptrdiff_t threads_of_this_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

TEST(Loader, ThreadsThatDecodeStartNoComputeThreads) {
  TemporaryFolder folder;
  for (int i = 0; i < 4; ++i) write_image(folder / name_of(i), noise(3, 300, 400, i));
  ImageDataset dataset(entries_of(folder.path()),
                       {.size = {260, 260}, .crop = {250, 250}, .cache = Cache::none});
  const View view{.random = true, .augmentations = parse_augmentations("crop,flip,contrast")};
  at::set_num_threads(4);
  const auto load_all = [&](std::int64_t workers) {
    Loader loader(dataset, plan_in_order(dataset, 1), view, workers);
    while (loader.next()) continue;
    return threads_of_this_process();
  };
  // The calling thread's own compute threads come and go, so each count is taken several times.
  std::ptrdiff_t without = 0, with_one = std::numeric_limits<std::ptrdiff_t>::max();
  for (int turn = 0; turn < 4; ++turn) without = std::max(without, load_all(0));
  for (int turn = 0; turn < 4; ++turn) with_one = std::min(with_one, load_all(1));
  EXPECT_LE(with_one, without + 1);
  at::set_num_threads(1);
}

}  // namespace
}  // namespace convae::test_loader
