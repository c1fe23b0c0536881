#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/inference/drawing.h"
#include "convae/tests/inference/support.h"

namespace convae::test_drawing {
namespace {

using test::contains;
using test::files_in;
using test::image_in;
using test::message_of;
using Names = std::vector<std::string>;

ModelOptions variational() {
  ModelOptions options = test::small_options();
  options.latent_channels = 3;
  options.variational = true;
  return options;
}

TEST(ModelSample, IsRepeatableBySeedAndTheSameWhateverTheCount) {
  const Model model = test::small_model(variational());
  const Size size{13, 18};
  const torch::Tensor three = model.sample(3, size, /*seed=*/7);
  EXPECT_EQ(three.sizes(), torch::IntArrayRef({3, 3, 13, 18}));
  EXPECT_TRUE(test::identical(three, model.sample(3, size, /*seed=*/7)));
  EXPECT_LT(test::difference(three, model.sample(5, size, /*seed=*/7).narrow(0, 0, 3)), 1e-6);
  EXPECT_TRUE(test::identical(model.draw_latents(3, size, 7),
                              model.draw_latents(5, size, 7).narrow(0, 0, 3)));
  EXPECT_TRUE(test::identical(model.draw_latents(1, size, 7, /*first=*/2)[0],
                              model.draw_latents(3, size, 7)[2]));
  EXPECT_GT(test::difference(three, model.sample(3, size, /*seed=*/8)), 1e-3);
  EXPECT_THROW(model.sample(0, size), OptionError);
}

class DrawingTest : public test::JobTest {
protected:
  SampleOptions sampling() const {
    SampleOptions options;
    options.output = output();
    options.count = 3;
    options.size = {13, 18};
    options.workers = 0;
    return options;
  }

  InterpolateOptions walking() const {
    InterpolateOptions options;
    options.from = input() / "b.png";
    options.to = input() / "c/d.png";
    options.output = output();
    options.steps = 5;
    options.workers = 0;
    return options;
  }

  Model variational_ = test::small_model(variational());
};

TEST_F(DrawingTest, SamplesAreTheModelsAndASheetShowsThem) {
  const DrawnPictures drawn = draw_samples(variational_, sampling());
  EXPECT_EQ(files_in(output()),
            (Names{"sample_00001.png", "sample_00002.png", "sample_00003.png", "samples.png"}));
  EXPECT_EQ(drawn.images.size(), 3U);
  EXPECT_EQ(drawn.on_sheet, 3);
  EXPECT_EQ(drawn.size, (Size{13, 18}));
  const torch::Tensor samples = variational_.sample(3, {13, 18}, /*seed=*/0).mul(255).round();
  for (std::int64_t i = 0; i < 3; ++i) {
    const std::string& name = drawn.images[static_cast<std::size_t>(i)];
    EXPECT_LE(test::difference(image_in(output() / name), samples[i]), 1) << name;
  }
}

TEST_F(DrawingTest, StoppedDrawingLeavesNoSheet) {
  EXPECT_EQ(message_of<Interrupted>(
                [&] { draw_samples(variational_, sampling(), test::stopping_after(2)); }),
            "stopped after 2 of 3 images");
  EXPECT_EQ(files_in(output()), (Names{"sample_00001.png", "sample_00002.png"}));
}

TEST_F(DrawingTest, AnEarlierSeriesIsNotTakenForThisOne) {
  draw_samples(variational_, sampling());
  SampleOptions options = sampling();
  options.overwrite = true;
  options.count = 1;
  Names warnings;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& line) { warnings.push_back(line); };
  draw_samples(variational_, options, callbacks);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(contains(warnings[0], "sample_00002.png' and those after it are of an earlier call"));
  options.count = 3;
  EXPECT_THROW(draw_samples(variational_, options, test::stopping_after(1)), Interrupted);
  EXPECT_FALSE(std::filesystem::exists(output() / "samples.png")) << "it shows the earlier ones";
}

TEST_F(DrawingTest, ResultsAmongOtherImagesAreWarnedOf) {
  InterpolateOptions walk = walking();
  SampleOptions samples = sampling();
  walk.overwrite = samples.overwrite = true;
  int warnings = 0;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& line) {
    warnings += contains(line, "lie among the images") ? 1 : 0;
  };
  for (const auto& [folder, count] : {std::pair{input(), 1}, {input() / "c", 1}, {output(), 0}}) {
    walk.output = samples.output = folder;
    warnings = 0;
    draw_samples(variational_, samples, callbacks);
    EXPECT_EQ(warnings, count) << folder;
    std::filesystem::remove(folder / "samples.png");
    warnings = 0;
    draw_samples(variational_, samples, callbacks);  // beside those of a call that was stopped
    EXPECT_EQ(warnings, count) << folder;
    for (const std::string& name : files_in(folder)) {
      if (name.starts_with("sample")) std::filesystem::remove(folder / name);
    }
    warnings = 0;
    interpolate(model_, walk, callbacks);
    EXPECT_EQ(warnings, count) << folder;
    interpolate(model_, walk, callbacks);
    EXPECT_EQ(warnings, count) << "once for " << folder;
  }
  // Names that only look like those of a series.
  warnings = 0;
  samples.output = folder_ / "frames";
  std::filesystem::create_directory(samples.output);
  std::filesystem::copy_file(input() / "b.png", samples.output / "sample_photo.png");
  draw_samples(variational_, samples, callbacks);
  EXPECT_EQ(warnings, 1);
  walk.output = folder_ / "video";
  std::filesystem::create_directory(walk.output);
  std::filesystem::copy_file(input() / "b.png", walk.output / "step_00006.png");
  interpolate(model_, walk, callbacks);
  EXPECT_EQ(warnings, 2);
}

TEST_F(DrawingTest, AWalkBeginsAndEndsAtTheReconstructionsOfItsEnds) {
  const DrawnPictures drawn = interpolate(model_, walking());
  EXPECT_EQ(drawn.size, (Size{13, 18}));
  EXPECT_EQ(drawn.images.front(), "step_00001.png");
  EXPECT_EQ(drawn.images.back(), "step_00005.png");
  EXPECT_EQ(drawn.on_sheet, 5);
  const auto reconstruction = [&](const std::string& name) {
    const torch::Tensor image = resize_image(image_in(input() / name), 13, 18);
    return model_.reconstruct(image.unsqueeze(0))[0].mul(255).round();
  };
  EXPECT_LE(test::difference(image_in(output() / "step_00001.png"), reconstruction("b.png")), 1);
  EXPECT_LE(test::difference(image_in(output() / "step_00005.png"), reconstruction("c/d.png")), 1);
}

TEST_F(DrawingTest, EndsThatMemoryCannotHoldAreRefused) {
  InterpolateOptions options = walking();
  options.from = options.to = input() / "large.png";
  test::write_image(options.to, torch::full({3, 2000, 3000}, 9, torch::kByte));
  limit_memory(1);
  const std::string message = message_of<std::runtime_error>([&] { interpolate(model_, options); });
  limit_memory(0);
  EXPECT_TRUE(contains(message, "an image of 2000x3000 takes 0.1 GB at its own size")) << message;
}

TEST_F(DrawingTest, AStripHasAtMostThirtyTwoStepsAndBothEnds) {
  InterpolateOptions options = walking();
  options.overwrite = true;
  for (const auto& [steps, shown] : {std::pair{32, 32}, {33, 17}, {63, 32}, {64, 22}, {65, 23}}) {
    options.steps = steps;
    EXPECT_EQ(interpolate(model_, options).on_sheet, shown) << steps;
  }
}

}  // namespace
}  // namespace convae::test_drawing
