#include "convae/tests/support.h"
#include "convae/training/collective.h"
#include "convae/training/shares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <queue>

namespace convae::test_collective {
namespace {

using Kind = Launch::Kind;
using Environment = std::map<std::string, std::string>;

std::optional<Launch> find_launch_in(const Environment& environment) {
  return find_launch([&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

void expect_launch(const Environment& environment, Kind kind, std::int64_t rank,
                   std::int64_t size) {
  const std::optional<Launch> found = find_launch_in(environment);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->kind, kind);
  EXPECT_EQ(found->rank, rank);
  EXPECT_EQ(found->size, size);
}

const Environment kMpirun = {{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}};
const Environment kSrun = {{"SLURM_PROCID", "5"}, {"SLURM_STEP_NUM_TASKS", "8"}};

TEST(Launch, TellsLaunchersApart) {
  expect_launch(kMpirun, Kind::open_mpi, 2, 4);
  expect_launch(kSrun, Kind::slurm, 5, 8);
  expect_launch({{"PMI_RANK", "1"}, {"PMI_SIZE", "3"}}, Kind::pmi, 1, 3);
  expect_launch({{"PMIX_RANK", "1"}, {"PMIX_NAMESPACE", "x"}}, Kind::pmi, 1, 0);
  expect_launch({{"TORCHELASTIC_RUN_ID", "none"}, {"RANK", "1"}, {"WORLD_SIZE", "2"}},
                Kind::torchrun, 1, 2);
}

TEST(Launch, TheInnermostCounts) {
  Environment both = kMpirun;
  both.insert(kSrun.begin(), kSrun.end());
  expect_launch(both, Kind::open_mpi, 2, 4);
  both.insert({{"TORCHELASTIC_RUN_ID", "7"}, {"RANK", "0"}, {"WORLD_SIZE", "2"}});
  expect_launch(both, Kind::torchrun, 0, 2);
}

TEST(Launch, OneProcessIsNone) {
  EXPECT_FALSE(find_launch_in({}));
  EXPECT_FALSE(find_launch_in({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}));
  EXPECT_FALSE(find_launch_in({{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}))
      << "a job script itself, not a step";
  EXPECT_FALSE(find_launch_in({{"SLURM_STEP_NUM_TASKS", "1"}, {"PMIX_RANK", "0"}}));
}

TEST(Collective, OneProcessHearsItself) {
  EXPECT_EQ(ranks().size(), 1);
  EXPECT_TRUE(leads());
  EXPECT_TRUE(on_any_rank(true));
  EXPECT_FALSE(on_any_rank(false));
  EXPECT_EQ(least_of_ranks(-3), -3);
  EXPECT_EQ(said_by_first_rank("hear"), "hear");
}

/// Two ranks, of which the other says what this one says.
class Twins : public Collective {
public:
  std::int64_t size() const override { return 2; }
  void broadcast(std::span<std::byte> bytes, std::int64_t rank) override {
    if (rank == 0) {
      said_.emplace(bytes.begin(), bytes.end());
    } else {
      std::ranges::copy(said_.front(), bytes.begin());
      said_.pop();
    }
  }

private:
  std::queue<std::vector<std::byte>> said_;  // and not yet heard
};

TEST(Collective, TheLeastOfRanksIsExactHoweverLarge) {
  Twins twins;
  use_ranks(&twins);
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t value : {most, most - 1, std::int64_t{6'000'000}, std::int64_t{-3}}) {
    EXPECT_EQ(least_of_ranks(value), value);
  }
  use_ranks(nullptr);
}

class ShareOfStep : public testing::Test {
protected:
  /// A step of all these images, in micro-batches as a plan has them.
  void plan(const std::vector<Size>& sizes) {
    std::vector<ImageEntry> entries(sizes.size());
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      entries[i].info.height = sizes[i].h;
      entries[i].info.width = sizes[i].w;
    }
    images_.emplace(entries, ImageDataset::Options{});
    step_ = plan_training_epoch(*images_, 1000, /*seed=*/0, /*epoch=*/1)[0];
  }

  std::vector<StepShare> shares(std::int64_t ranks, std::int64_t pixels_each = 1'000'000) {
    std::vector<StepShare> all;
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      all.push_back(share_of_step(step_, *images_, pixels_each, rank, ranks));
    }
    return all;
  }

  std::optional<ImageDataset> images_;
  Step step_;
};

TEST_F(ShareOfStep, EveryImageIsInOneShareInTheStepsOrder) {
  plan({{8, 8}, {9, 7}, {8, 8}, {30, 20}, {9, 7}, {8, 8}, {8, 8}});
  std::vector<std::int64_t> planned, dealt;
  for (const MicroBatch& batch : step_) {
    planned.insert(planned.end(), batch.indices.begin(), batch.indices.end());
  }
  for (const std::int64_t ranks : {1, 2, 3, 9}) {
    dealt.clear();
    for (const StepShare& share : shares(ranks)) {
      ASSERT_EQ(share.groups.size(), 1);
      EXPECT_EQ(share.groups[0], planned);
      EXPECT_EQ(share.images(), 7);
      for (const MicroBatch& batch : share.own) {
        EXPECT_EQ(batch.group, 0);
        for (const std::int64_t index : batch.indices) {
          EXPECT_EQ(images_->image_size(index), images_->image_size(batch.indices[0]));
          dealt.push_back(index);
        }
      }
    }
    EXPECT_EQ(dealt, planned) << ranks << " ranks";
  }
}

TEST_F(ShareOfStep, ImagesOfOneSizeAreDealtEvenly) {
  plan(std::vector<Size>(10, {8, 8}));
  const auto counts = [&](std::int64_t ranks) {
    std::vector<std::int64_t> counts;
    for (const StepShare& share : shares(ranks)) counts.push_back(image_count(share.own));
    std::ranges::sort(counts);
    return counts;
  };
  EXPECT_EQ(counts(2), (std::vector<std::int64_t>{5, 5}));
  EXPECT_EQ(counts(3), (std::vector<std::int64_t>{3, 3, 4}));
  EXPECT_EQ(counts(10), std::vector<std::int64_t>(10, 1));
  EXPECT_EQ(image_count({shares(12)[0].own}) + image_count({shares(12)[11].own}), 2)
      << "the first and the last of more ranks than images";
}

TEST_F(ShareOfStep, GroupsKeepToThePixelsOfAllRanks) {
  plan(std::vector<Size>(10, {10, 10}));
  for (const StepShare& share : shares(2, /*pixels_each=*/250)) {
    ASSERT_EQ(share.groups.size(), 2);  // 500 pixels each
    EXPECT_EQ(share.groups[0].size(), 5);
  }
  EXPECT_EQ(shares(2, 10)[1].groups.size(), 10) << "at least one image each";
}

}  // namespace
}  // namespace convae::test_collective
