/// Training of a detector beside the autoencoder.
#include "convae/exporting/export.h"
#include "convae/inference/model.h"
#include "convae/models/pixels.h"
#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/corruption.h"
#include "convae/training/losses.h"
#include "convae/training/safetensors.h"
#include "convae/training/validation.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace convae::test_training {
namespace {

ModelOptions with_detector(Norm norm = Norm::batch) {
  ModelOptions options = model_options(norm);
  options.detector = {4, 6};
  return options;
}

TrainOptions on_defects(std::int64_t epochs = 2) {
  TrainOptions options = train_options(epochs);
  options.corruptions = parse_corruptions("defects:1");
  return options;
}

class DetectionTest : public TrainerTest {};

TEST_F(DetectionTest, ResumedRunEqualsAnUninterruptedOne) {
  Trainer whole = trainer_of(on_defects(4), seeded(with_detector()));
  train(whole);
  Trainer start = trainer_of(on_defects(2), seeded(with_detector()));
  train(start);
  save(start);
  Trainer rest = trainer_of(on_defects(4), seeded(with_detector(), 99));
  rest.restore(read_checkpoint(checkpoint()), "'c'");
  train(rest);
  expect_identical(state_of(whole.net()), state_of(rest.net()));
}

TEST_F(DetectionTest, TrainsTheAutoencoderAsWithoutOne) {
  Trainer with = trainer_of(on_defects(), seeded(with_detector()));
  Trainer without = trainer_of(on_defects());
  train(with);
  train(without);
  const Tensors of_both = state_of(with.net());
  for (const auto& [name, tensor] : state_of(without.net())) {
    EXPECT_TRUE(identical(tensor, of_both.at(name))) << name;
  }
}

/// As LibTorch computes them, from the images of a data set corrupted as in validation.
TEST_F(DetectionTest, ValidationAddsTheCrossEntropyToTheReconstructionsLoss) {
  Autoencoder net = seeded(with_detector(Norm::none));
  TrainOptions options = measured_with(LossKind::mse, 4);
  options.corruptions = parse_corruptions("defects:1");
  const Quality quality = validate(net, images_, options, torch::kCPU, 0);
  net->eval();
  const torch::NoGradGuard no_grad;
  double sum = 0, marked = 0;
  for (std::int64_t i = 0; i < kImages; ++i) {
    const torch::Tensor clean = to_float(images_.load(i)->unsqueeze(0), torch::kCPU);
    torch::Tensor label;
    const torch::Tensor shown = corrupt(clean, {options.corruptions, 0, 0}, {i}, &label);
    const torch::Tensor made = net->forward(shown);
    sum += torch::mse_loss(made, clean).item<double>();
    const torch::Tensor entropies =
        torch::binary_cross_entropy(net->detect(shown, made), label, {}, at::Reduction::None);
    const torch::Tensor of_changes = (entropies * label).sum() / (label.sum() + kFewPixels);
    sum += kDetectionWeight * (entropies.mean() + kChangesWeight * of_changes).item<double>();
    marked += label.mean().item<double>();
  }
  EXPECT_GT(marked, 0);
  EXPECT_NEAR(quality.loss, sum / kImages, 1e-6);
}

/// The same in a training step, in one pass or several.
TEST_F(DetectionTest, StepMeansOverImagesWhateverGoesThroughTogether) {
  const auto loss_and_weights = [&](std::int64_t pixels, LossKind loss) {
    TrainOptions options = on_defects();
    options.loss = {{loss}};
    Trainer trainer = trainer_of(options, seeded(with_detector(Norm::none)));
    trainer.limit_pixels_together(pixels);
    trainer.train_steps([] { return true; });
    return std::pair(trainer.epoch_loss(), state_of(trainer.net()));
  };
  // mse is fused with the decoder's end, charbonnier is not.
  for (const LossKind loss : {LossKind::mse, LossKind::charbonnier}) {
    const auto [together, weights] = loss_and_weights(1'000'000, loss);
    const auto [apart, other_weights] = loss_and_weights(1, loss);
    EXPECT_NEAR(together, apart, 1e-6);
    for (const auto& [name, tensor] : weights) {
      EXPECT_LT(difference(tensor, other_weights.at(name)), 2e-3) << name;
    }
  }
}

TEST_F(DetectionTest, LearnsWhereDefectsAre) {
  std::vector<torch::Tensor> all;
  for (int i = 0; i < 16; ++i) {
    const torch::Tensor image = wave(3, 32, 32, 0);
    write_image(folder_ / "waves" / name_of(i), image);
    all.push_back(to_float(image.unsqueeze(0), torch::kCPU));
  }
  ImageDataset images(entries_of(folder_ / "waves"), {});
  ModelOptions wider = with_detector();
  wider.detector = {8, 16};
  Autoencoder net = seeded(wider);
  Trainer trainer(net, images, on_defects(40), torch::kCPU);
  train(trainer);
  std::vector<std::int64_t> indices(16);
  std::iota(indices.begin(), indices.end(), 0);
  torch::Tensor labels;
  const torch::Tensor shown =
      corrupt(torch::cat(all), {on_defects().corruptions, 77, 1}, indices, &labels);
  const Model model(net);
  const torch::Tensor map = model.detect(shown, model.reconstruct(shown));
  const auto mean_where = [&](const torch::Tensor& which) {
    return map.masked_select(which).mean().item<double>();
  };
  EXPECT_GT(mean_where(labels > 0.7), 0.2 + mean_where(labels < 0.1));
}

TEST_F(DetectionTest, TrainsInBfloat16) {
  TrainOptions options = on_defects(1);
  options.precision = Precision::bf16;
  Trainer trainer = trainer_of(options, seeded(with_detector()));
  train(trainer);
  for (const auto& [name, tensor] : state_of(trainer.net())) {
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  }
}

TEST_F(DetectionTest, CheckpointKeepsItInFormat2) {
  Autoencoder net = seeded(with_detector());
  save_checkpoint(checkpoint(), net, nullptr, {});
  const Checkpoint read = read_checkpoint(checkpoint());
  EXPECT_EQ(read.info.format, 2);
  EXPECT_EQ(read.info.model.detector, (std::vector<std::int64_t>{4, 6}));
  const Model model = load(checkpoint(), "cpu");
  const torch::Tensor image = test::uniform({1, 3, 12, 13}, 1);
  net->eval();
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(identical(model.detect(image, image), net->detect(image, image)));
  EXPECT_TRUE(contains(description_json(model), "\"detector\":\"4,6\""));

  save_checkpoint(checkpoint(), seeded(model_options()), nullptr, {});
  EXPECT_EQ(read_checkpoint(checkpoint()).info.format, 1);
  EXPECT_TRUE(contains(
      message_of<std::runtime_error>([&] { load(checkpoint(), "cpu").detect(image, image); }),
      "has no detector; train with --detector"));
}

TEST_F(DetectionTest, ExportsLeaveItOut) {
  Autoencoder with = seeded(with_detector()), without = seeded(model_options());
  const fs::path a = folder_ / "a", b = folder_ / "b";
  for (const ExportFormat format :
       {ExportFormat::onnx, ExportFormat::torchscript, ExportFormat::safetensors}) {
    for (const Part part : {Part::autoencoder, Part::encoder, Part::decoder}) {
      export_model(a, Model(with), {.format = format, .part = part, .size = {}});
      export_model(b, Model(without), {.format = format, .part = part, .size = {}});
      EXPECT_FALSE(contains(contents(a), "detector"))
          << to_string(format) << " " << to_string(part);
      EXPECT_EQ(fs::file_size(a), fs::file_size(b)) << to_string(format) << " " << to_string(part);
    }
  }
}

}  // namespace
}  // namespace convae::test_training
