#include "convae/core/errors.h"
#include "convae/inference/reconstruct.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/inference/support.h"

namespace convae::test_reconstruct {
namespace {

using test::contains;
using test::files_in;
using test::image_in;
using test::message_of;
using Names = std::vector<std::string>;

class ReconstructTest : public test::JobTest {
protected:
  ReconstructOptions options() const {
    ReconstructOptions options;
    options.images.data = data();
    options.output = output();
    return options;
  }
};

TEST_F(ReconstructTest, EveryImageComesBackAtItsSizeAndName) {
  const ReconstructResult result = reconstruct_folder(model_, options());
  EXPECT_EQ(files_in(output()), (Names{"a.png", "b.png", "c/d.png", "e.png", "reconstruct.csv"}));
  ASSERT_EQ(result.images.size(), kImages.size());
  for (std::size_t i = 0; i < kImages.size(); ++i) {
    const auto& [name, size] = kImages[i];
    EXPECT_EQ(result.images[i].quality.name, name);
    EXPECT_EQ(result.images[i].quality.size, size);
    const torch::Tensor expected =
        model_.reconstruct(image_in(input() / name).unsqueeze(0))[0].mul(255).round();
    EXPECT_LE(test::difference(image_in(output() / name), expected), 1) << name;
  }
  EXPECT_EQ(test::contents(output() / "reconstruct.csv"), to_csv(result));
}

TEST_F(ReconstructTest, KeepWritesTheDepthOfTheInput) {
  const torch::Tensor deep = test::as_int(test::wave(3, 12, 15, 1)).mul(257).to(torch::kUInt16);
  test::write_image(input() / "deep.png", deep);
  ReconstructOptions keep = options();
  keep.format = WriteAs::keep;
  reconstruct_folder(model_, keep);
  EXPECT_EQ(image_in(output() / "deep.png").scalar_type(), torch::kUInt16);
}

TEST_F(ReconstructTest, CorruptionsAreMeasuredAndRepeatable) {
  ReconstructOptions noisy = options();
  noisy.corruptions = parse_corruptions("noise:0.2");
  noisy.overwrite = true;
  const ReconstructResult first = reconstruct_folder(model_, noisy);
  EXPECT_TRUE(first.corrupted);
  EXPECT_GT(first.images[0].input_mse, 0.001);
  EXPECT_EQ(to_csv(first), to_csv(reconstruct_folder(model_, noisy)));
  noisy.seed = 1;
  EXPECT_NE(to_csv(first), to_csv(reconstruct_folder(model_, noisy)));
}

TEST_F(ReconstructTest, NothingIsReplacedUnlessAsked) {
  test::write_text(output() / "e.png", "mine");
  bool began = false;
  Callbacks callbacks;
  callbacks.before_writing = [&] { began = true; };
  const std::string message =
      message_of<std::runtime_error>([&] { reconstruct_folder(model_, options(), callbacks); });
  EXPECT_TRUE(contains(message, "e.png") && contains(message, "--overwrite")) << message;
  EXPECT_FALSE(began);
  EXPECT_EQ(files_in(output()), Names{"e.png"});
  ReconstructOptions replacing = options();
  replacing.overwrite = true;
  reconstruct_folder(model_, replacing, callbacks);
  EXPECT_TRUE(began);
  EXPECT_NE(test::contents(output() / "e.png"), "mine");
}

TEST_F(ReconstructTest, StoppedInTheMiddleLeavesImagesButNoTable) {
  // Asked before each batch and before each image.
  const std::string message = message_of<Interrupted>(
      [&] { reconstruct_folder(model_, options(), test::stopping_after(3)); });
  // The smallest images, which share a batch, come first.
  EXPECT_EQ(message, "stopped after 2 of 4 images; no reconstruct.csv was written");
  EXPECT_EQ(files_in(output()), (Names{"b.png", "e.png"}));
}

TEST_F(ReconstructTest, AFileThatVanishesBeforeItsFormatIsReadAgainIsSkipped) {
  ReconstructOptions keeping = options();
  keeping.format = WriteAs::keep;
  Callbacks callbacks;
  int asked = 0;
  callbacks.should_stop = [&] {  // before the first batch, and before its first image
    if (++asked == 2) std::filesystem::remove(input() / "b.png");
    return false;
  };
  const ReconstructResult result = reconstruct_folder(model_, keeping, callbacks);
  ASSERT_EQ(result.skipped.size(), 1U);
  EXPECT_EQ(result.skipped[0].name, "b.png");
  EXPECT_EQ(result.images.size(), 3U);
  EXPECT_EQ(files_in(output()), (Names{"a.png", "c/d.png", "e.png", "reconstruct.csv"}));
}

TEST_F(ReconstructTest, AFileThatIsReplacedBeforeItsFormatIsReadAgainIsSkipped) {
  const std::filesystem::path fixtures =
      std::filesystem::path(CONVAE_SOURCE_DIR) / "tests/data/fixtures";
  ReconstructOptions keeping = options();
  keeping.format = WriteAs::keep;
  test::write_image(input() / "f.png", test::wave(3, 13, 18, 9));
  Callbacks callbacks;
  Names warnings;
  callbacks.warning = [&](const std::string& line) { warnings.push_back(line); };
  int asked = 0;
  callbacks.should_stop = [&] {  // before the first batch, and before its first image
    if (++asked == 2) {
      test::write_text(input() / "b.png", "being written");
      test::write_text(input() / "e.png", test::contents(fixtures / "rgba8.png"));  // smaller
    }
    return false;
  };
  const ReconstructResult result = reconstruct_folder(model_, keeping, callbacks);
  Names skipped;
  for (const SkippedFile& file : result.skipped) skipped.push_back(file.name + ": " + file.reason);
  ASSERT_EQ(skipped.size(), 2U);
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_TRUE(skipped[0].starts_with("b.png: not an image: starts with bytes")) << skipped[0];
  EXPECT_EQ(skipped[1], "e.png: its size changed since it was listed");
  EXPECT_EQ(warnings[0], "skipped 'e.png': its size changed since it was listed");
  EXPECT_EQ(result.images.size(), 3U);
  EXPECT_EQ(files_in(output()), (Names{"a.png", "c/d.png", "f.png", "reconstruct.csv"}));
}

TEST_F(ReconstructTest, AModelThatDivergedIsSaid) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& weight : model_.net()->parameters()) weight.fill_(NAN);
  const std::string message =
      message_of<std::runtime_error>([&] { reconstruct_folder(model_, options()); });
  EXPECT_TRUE(contains(message, ".png'") && contains(message, "diverged")) << message;
}

TEST_F(ReconstructTest, OptionsThatCannotWorkFailBeforeAnImageIsRead) {
  ReconstructOptions none = options();
  none.images.batch_size = 0;
  EXPECT_TRUE(
      contains(message_of<OptionError>([&] { reconstruct_folder(model_, none); }), "batch-size"));
  ReconstructOptions large = options();
  large.images.data.size = {20'000, 20'000};
  EXPECT_TRUE(contains(message_of<OptionError>([&] { reconstruct_folder(model_, large); }),
                       "--max-pixels"));
  large.images.data.size = {20, 0};
  EXPECT_TRUE(
      contains(message_of<OptionError>([&] { reconstruct_folder(model_, large); }), "20x0"));
  ReconstructOptions grid = options();
  grid.corruptions = {{Effect::Kind::grid, -3}};
  EXPECT_TRUE(
      contains(message_of<OptionError>([&] { reconstruct_folder(model_, grid); }), "grid:-3"));
  EXPECT_FALSE(std::filesystem::exists(output()));
}

}  // namespace
}  // namespace convae::test_reconstruct
