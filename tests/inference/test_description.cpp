#include "convae/inference/model.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"

#include <nlohmann/json.hpp>

namespace convae::test_description {
namespace {

using nlohmann::json;

TEST(DescriptionTest, SaysWhatACheckpointHolds) {
  ModelOptions options = test::small_network("4,8:k5p2", 1);
  options.output = Output::tanh;
  CheckpointInfo info;
  info.seed = 7;
  info.progress.epoch = 3;
  info.progress.best_epoch = 2;
  info.progress.best_value = 0.25;
  const test::TemporaryFolder folder;
  const auto path = folder / "a.safetensors";
  save_checkpoint(path, Autoencoder(options), nullptr, info);
  const json found = json::parse(description_json(load(path, "cpu")));
  EXPECT_EQ(found["file"], path.string());
  EXPECT_EQ(found["epoch"], 3);
  EXPECT_EQ(found["seed"], 7);
  EXPECT_EQ(found["parameters"], options.parameter_count());
  EXPECT_EQ(found["range"], (std::vector<int>{-1, 1}));
  EXPECT_EQ(found["levels"],
            (std::vector<std::string>{"4:k3x3s2x2p1x1d1x1", "8:k5x5s2x2p2x2d1x1"}));
  EXPECT_EQ(found["size"], nullptr);
  EXPECT_EQ(found["best-loss"], 0.25);
}

TEST(ModelTest, StaysWithTheRunThatLatestLedTo) {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "first/weights");
  std::filesystem::create_directory_symlink("first", folder / "latest");
  save_checkpoint(folder / "first/weights/last.safetensors",
                  Autoencoder(test::small_network("4", 1)), nullptr, {});
  for (const char* name : {"latest", "latest/", "first"}) {
    const Model model = load(folder / name, "cpu");
    EXPECT_EQ(model.run(), folder / "first");
    EXPECT_EQ(model.path(), folder / name / "weights/last.safetensors");
  }
}

TEST(ModelTest, AValueRangeTakesWholeNumbersOfEveryType) {
  CheckpointInfo info;
  info.value_range = parse_value_range("-100:300");
  const Model model(Autoencoder(test::small_network("4", 1)), info);
  const torch::Tensor numbers = torch::tensor({-200, -100, 0, 300, 400}).view({1, 1, 1, 5});
  const torch::Tensor placed = torch::tensor({0.0F, 0.0F, 0.25F, 1.0F, 1.0F}).view({1, 1, 1, 5});
  for (const auto type : {torch::kShort, torch::kInt, torch::kLong}) {
    EXPECT_TRUE(torch::equal(model.input(numbers.to(type)), placed));
  }
}

TEST(DescriptionTest, HasNullForWhatThereIsNot) {
  ModelOptions options = test::small_network("4");
  options.latent = 2;
  options.size = {8, 10};
  const json found = json::parse(description_json(Model(Autoencoder(options))));
  EXPECT_EQ(found["size"], "8x10");
  EXPECT_EQ(found["best-loss"], nullptr);
}

}  // namespace
}  // namespace convae::test_description
