#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"
#include "convae/training/saved_data.h"

namespace convae::test_saved_data {
namespace {

SavedData read(const std::string& config) {
  CheckpointInfo info;
  info.config = config;
  return saved_data(info);
}

TEST(SavedData, ReadsWhatTheImagesOfARunDependOn) {
  const SavedData saved = read(R"(
[data]
augment = 'flip'
channels = 1
crop = '64x48'
data = '/data/parts'
exclude = ['*_GT.*', 'test/**']
group-regex = 'part(\d+)'
max-pixels = 5000
size = '96x128'
skip-bad = false
val = '/data/others'
val-split = 0.25
workers = 3

[train]
epochs = 20
loss = 'mse + 0.2*ssim'
)");
  EXPECT_EQ(saved.data.data, "/data/parts");
  EXPECT_EQ(saved.data.val, "/data/others");
  EXPECT_EQ(saved.data.exclude, (std::vector<std::string>{"*_GT.*", "test/**"}));
  EXPECT_TRUE(saved.data.include.empty());
  EXPECT_EQ(saved.data.val_split, 0.25);
  EXPECT_EQ(saved.data.group_regex, "part(\\d+)");
  EXPECT_EQ(saved.data.size, (Size{96, 128}));
  EXPECT_EQ(saved.data.crop, (Size{64, 48}));
  EXPECT_EQ(saved.data.channels, 1);
  EXPECT_EQ(saved.data.max_pixels, 5000);
  EXPECT_EQ(saved.data.workers, 3);
  EXPECT_FALSE(saved.data.skip_bad);
  EXPECT_EQ(to_string(saved.loss), "mse + 0.2*ssim");
}

TEST(SavedData, WhatIsMissingKeepsItsDefault) {
  const SavedData none = read("");
  EXPECT_EQ(none.data.data, "");
  EXPECT_EQ(to_string(none.loss), "mse");
  const SavedData native = read("[data]\nsize = 'native'\ncrop = 'none'\n");
  EXPECT_FALSE(native.data.size);
  EXPECT_FALSE(native.data.crop);
  EXPECT_EQ(native.data.val_split, DataOptions{}.val_split);
}

TEST(SavedData, DamageIsRefused) {
  for (const char* config :
       {"[data", "[data]\nval-split = 'a lot'\n", "[data]\nval-split = 2.0\n",
        "[data]\nsize = '0x3'\n", "[data]\ncrop = 'large'\n", "[data]\ndata = 7\n",
        "[data]\ninclude = 'a'\n", "[data]\nexclude = [1]\n", "[data]\ngroup-regex = '('\n",
        "[train]\nloss = 'mse +'\n"}) {
    EXPECT_THROW(read(config), CheckpointError) << config;
  }
  const std::string message =
      test::message_of<CheckpointError>([] { read("[data]\ndata = 'x'\n[["); });
  EXPECT_TRUE(test::contains(message, "line 3")) << message;
}

TEST(NamesIn, ThereAreNoneInATableThatCannotBeRead) {
  const test::TemporaryFolder run;
  std::filesystem::create_symlink("skipped.csv", run / "skipped.csv");
  EXPECT_TRUE(names_in(run.path(), "skipped.csv").empty());
}

}  // namespace
}  // namespace convae::test_saved_data
