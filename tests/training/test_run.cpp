#include "convae/inference/model.h"
#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/checkpoint.h"
#include "convae/training/run.h"
#include "convae/training/run_folder.h"
#include "convae/training/validation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace convae::test_training {
namespace {

/// Rows of metrics.csv, split.
std::vector<std::vector<std::string>> rows_of(const fs::path& file) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream text(contents(file));
  for (std::string line; std::getline(text, line);) {
    rows.emplace_back();
    std::istringstream fields(line);
    for (std::string field; std::getline(fields, field, ',');) rows.back().push_back(field);
  }
  return rows;
}

/// Notes the epochs of a run.
struct Epochs : RunObserver {
  void epoch(const RunStatus& /*run*/, const MetricsRow& row, bool is_best) override {
    rows.push_back(row);
    if (is_best) best.push_back(row.epoch);
  }
  std::vector<MetricsRow> rows;
  std::vector<std::int64_t> best;
};

/// A run folder, a trainer and validation images.
class RunTest : public TrainerTest {
protected:
  RunTest() {
    for (int i = 0; i < 5; ++i) {
      write_image(folder_ / "val" / name_of(i), wave(3, 12 + i % 2, 12, 40 + i));
    }
    validation_.reset(new ImageDataset(entries_of(folder_ / "val"), {}));
  }

  /// Starts in runs/NAME; the run is at run_.
  void start(const std::string& name, Autoencoder net, const TrainOptions& options,
             bool with_validation = true) {
    run_folder_ = std::make_unique<RunFolder>(RunFolder::create(folder_ / "runs", name));
    resume(net, options, with_validation);
  }

  void resume(Autoencoder net, const TrainOptions& options, bool with_validation = true) {
    trainer_ = std::make_unique<Trainer>(net, images_, options, torch::kCPU);
    run_ = std::make_unique<convae::Run>(
        convae::Run::Parts{*trainer_,
                           *run_folder_,
                           with_validation ? validation_.get() : nullptr,
                           {},
                           run_options_,
                           "the config"},
        callbacks_, observer_);
  }

  fs::path in_run(const std::string& name) const { return run_folder_->path() / name; }

  std::vector<std::string> names(const std::string& part) const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(in_run(part))) {
      all.push_back(entry.path().filename().string());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  std::unique_ptr<ImageDataset> validation_;
  std::unique_ptr<RunFolder> run_folder_;
  std::unique_ptr<Trainer> trainer_;
  RunOptions run_options_;
  Callbacks callbacks_;
  Epochs observer_;
  std::unique_ptr<convae::Run> run_;
};

using Names = std::vector<std::string>;

TEST_F(RunTest, WritesMetricsWeightsAndSamples) {
  TrainOptions options = train_options(5);
  run_options_.save_every = 2;
  Autoencoder net = seeded(model_options());
  start("a", net, options);
  EXPECT_EQ(run_->train(), RunState::finished);
  ASSERT_EQ(observer_.rows.size(), 5U);
  EXPECT_EQ(observer_.rows[4].epoch, 5);
  EXPECT_EQ(names("weights"), (Names{"best.safetensors", "epoch_0002.safetensors",
                                     "epoch_0004.safetensors", "last.safetensors"}));
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0002.png", "epoch_0004.png",
                   "epoch_0005.png", "samples.csv", "worst.png"}));
  const auto rows = rows_of(in_run("metrics.csv"));
  ASSERT_EQ(rows.size(), 6U);
  std::size_t smallest = 1;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].size(), 10U);
    EXPECT_EQ(rows[i][0], std::to_string(i));
    EXPECT_EQ(rows[i][1], std::to_string(5 * i));
    EXPECT_EQ(rows[i][2], "0.01");
    if (std::stod(rows[i][4]) < std::stod(rows[smallest][4])) smallest = i;
  }
  EXPECT_LT(std::stod(rows[5][3]), std::stod(rows[1][3]));
  ASSERT_FALSE(observer_.best.empty());
  EXPECT_EQ(observer_.best.back(), static_cast<std::int64_t>(smallest));

  const Checkpoint last = read_checkpoint(in_run("weights/last.safetensors"));
  EXPECT_EQ(last.info.config, "the config");
  EXPECT_EQ(last.info.seed, options.seed);
  EXPECT_EQ(last.info.progress.epoch, 5);
  EXPECT_EQ(last.info.progress.best_epoch, static_cast<std::int64_t>(smallest));
  for (const auto& [name, tensor] : state_of(net)) {
    EXPECT_TRUE(identical(last.tensors.at(name), tensor)) << name;
  }
  const Checkpoint kept = read_checkpoint(in_run("weights/epoch_0002.safetensors"));
  EXPECT_EQ(kept.info.progress.epoch, 2);
  const Checkpoint best_weights = read_checkpoint(in_run("weights/best.safetensors"));
  EXPECT_EQ(best_weights.info.progress.epoch, static_cast<std::int64_t>(smallest));
}

TEST_F(RunTest, ValidationColumnsDescribeTheSavedModel) {
  start("a", seeded(model_options()), train_options(2));
  run_->train();
  Model loaded = load(in_run("weights/last.safetensors"));
  Autoencoder saved = loaded.net();
  const Quality quality =
      validate(saved, *validation_, measured_with(LossKind::mse, 1), torch::kCPU, 0);
  const auto row = rows_of(in_run("metrics.csv")).at(2);
  EXPECT_NEAR(std::stod(row[4]), quality.loss, 1e-6);
  EXPECT_NEAR(std::stod(row[5]), quality.mse, 1e-6);
  EXPECT_NEAR(std::stod(row[6]), quality.psnr, 1e-3);
  EXPECT_NEAR(std::stod(row[7]), quality.ssim, 1e-5);
}

TEST_F(RunTest, SamplesShowInputReconstructionAndErrorOfValidationImages) {
  start("a", seeded(model_options()), train_options(1));
  run_->train();
  const torch::Tensor picture =
      decode_image(read_file(in_run("samples/epoch_0001.png")), /*channels=*/3);
  // The first image, 12×12, is enlarged by a whole factor at the top left.
  const torch::Tensor input = validation_->load(0).value();
  const std::int64_t factor = 112 / 12;
  EXPECT_TRUE(torch::equal(picture.narrow(1, 0, 12 * factor).narrow(2, 0, 12 * factor),
                           input.repeat_interleave(factor, 1).repeat_interleave(factor, 2)));
  EXPECT_GE(picture.size(2), 3 * 12 * factor);
  EXPECT_GE(picture.size(1), 3 * 12 * factor + 2 * 13 * (112 / 13));  // five images
}

TEST_F(RunTest, WithoutValidationBestFollowsTheTrainingLoss) {
  start("a", seeded(model_options()), train_options(3), /*with_validation=*/false);
  run_->train();
  const auto lowest = std::min_element(
      observer_.rows.begin(), observer_.rows.end(),
      [](const MetricsRow& a, const MetricsRow& b) { return a.train_loss < b.train_loss; });
  EXPECT_EQ(observer_.best.back(), lowest->epoch);
  for (int i = 1; i <= 3; ++i) {
    const auto row = rows_of(in_run("metrics.csv")).at(i);
    for (int column = 4; column < 8; ++column) EXPECT_EQ(row[column], "");
    EXPECT_NE(row[3], "");
  }
  EXPECT_EQ(names("samples"), (Names{"epoch_0001.png", "epoch_0003.png", "samples.csv"}))
      << "best and worst are of validation images";
}

TEST_F(RunTest, SavesTheStartBeforeTheFirstStep) {
  Autoencoder net = seeded(model_options());
  start("a", net, train_options(1));
  run_->begin("convae train");
  const Checkpoint checkpoint = read_checkpoint(in_run("weights/last.safetensors"));
  EXPECT_EQ(checkpoint.info.progress.step, 0);
  for (const auto& [name, tensor] : state_of(net)) {
    EXPECT_TRUE(identical(checkpoint.tensors.at(name), tensor)) << name;
  }
}

TEST_F(RunTest, StopsAfterPatienceEpochsWithoutABetterLoss) {
  TrainOptions options = train_options(10);
  options.lr = 0;
  options.patience = 2;
  // Without learning and norm, every validation gives the same loss.
  start("a", seeded(model_options(Norm::none)), options);
  EXPECT_EQ(run_->train(), RunState::stopped_early);
  EXPECT_EQ(rows_of(in_run("metrics.csv")).size(), 4U);  // the best and two more
  EXPECT_EQ(names("samples"),
            (Names{"best.png", "epoch_0001.png", "epoch_0003.png", "samples.csv", "worst.png"}));
  const Checkpoint last = read_checkpoint(run_folder_->last());
  EXPECT_TRUE(last.info.progress.stopped_early);
  EXPECT_EQ(last.info.progress.best_epoch, 1);
  Autoencoder net = seeded(model_options(Norm::none));
  resume(net, options);
  trainer_->restore(last, "'last'");
  EXPECT_TRUE(trainer_->finished());
}

TEST_F(RunTest, PatienceStartsAnewWithEveryBetterLoss) {
  TrainOptions options = train_options(6);
  options.patience = 2;
  start("a", seeded(model_options()), options);
  const RunState state = run_->train();
  const std::int64_t epochs = observer_.rows.back().epoch;
  EXPECT_EQ(state == RunState::stopped_early, epochs - observer_.best.back() == 2);
  EXPECT_GT(epochs, 3);  // it learns in the first epochs
}

TEST_F(RunTest, MaxStepsEndInARowAndASampleWithinAnEpochOrAtItsEnd) {
  TrainOptions options = train_options(10);
  for (const std::int64_t steps : {7, 10}) {  // five an epoch
    options.max_steps = steps;
    start("a", seeded(model_options()), options);
    EXPECT_EQ(run_->train(), RunState::finished);
    const auto rows = rows_of(in_run("metrics.csv"));
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[2][0], "2");
    EXPECT_EQ(rows[2][1], std::to_string(steps));
    EXPECT_EQ(names("samples"),
              (Names{"best.png", "epoch_0001.png", "epoch_0002.png", "samples.csv", "worst.png"}));
    const Progress progress = read_checkpoint(run_folder_->last()).info.progress;
    EXPECT_EQ(progress.epoch, steps / 5);
    EXPECT_EQ(progress.epoch_position, 4 * (steps % 5));
  }
}

TEST_F(RunTest, GoesOnFromAnInterruptionAsIfThereHadBeenNone) {
  const TrainOptions options = train_options(3);
  Autoencoder whole = seeded(model_options());
  start("whole", whole, options);
  EXPECT_EQ(run_->train(), RunState::finished);
  const auto expected_rows = rows_of(in_run("metrics.csv"));
  const Tensors expected_best = read_checkpoint(run_folder_->best()).tensors;

  for (const std::int64_t stop : {2, 5, 8, 10}) {  // 5 and 10 end an epoch
    Autoencoder first = seeded(model_options());
    callbacks_.should_stop = [&] { return trainer_->progress().step >= stop; };
    start("parts", first, options);
    EXPECT_EQ(run_->train(), RunState::interrupted);
    EXPECT_EQ(trainer_->progress().step, stop);

    callbacks_.should_stop = {};
    Autoencoder second = seeded(model_options(), 99);
    resume(second, options);
    const Checkpoint last = read_checkpoint(run_folder_->last());
    EXPECT_EQ(last.info.progress.step, stop);
    trainer_->restore(last, "'last'");
    EXPECT_EQ(run_->train(), RunState::finished);
    expect_identical(state_of(second), state_of(whole));
    expect_identical(read_checkpoint(run_folder_->best()).tensors, expected_best);
    const auto rows = rows_of(in_run("metrics.csv"));
    ASSERT_EQ(rows.size(), expected_rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {  // all but images_per_s and seconds
      EXPECT_EQ(Names(rows[i].begin(), rows[i].begin() + 8),
                Names(expected_rows[i].begin(), expected_rows[i].begin() + 8));
    }
  }
}

TEST_F(RunTest, SecondsOfAnEpochThatGoesOnAreThoseOfTheWholeEpoch) {
  Autoencoder net = seeded(model_options());
  start("a", net, train_options(1));
  callbacks_.should_stop = [&] { return trainer_->progress().step >= 2; };
  resume(net, train_options(1));
  EXPECT_EQ(run_->train(), RunState::interrupted);
  trainer_->progress().epoch_train_seconds += 5000;  // as if those steps had taken so long
  callbacks_.should_stop = {};
  const Progress progress = trainer_->progress();
  resume(net, train_options(1));
  trainer_->progress() = progress;
  EXPECT_EQ(run_->train(), RunState::finished);
  EXPECT_GE(observer_.rows.at(0).seconds, 5000);
}

TEST_F(RunTest, KeepsTheLastGoodCheckpointWhereWeightsOverflow) {
  TrainOptions options = train_options(2, /*batch_size=*/kImages);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e300;
  Autoencoder net = seeded(model_options(Norm::none));
  start("a", net, options);
  run_->begin("convae train");
  const std::string message = message_of<CheckpointError>([&] { run_->train(); });
  EXPECT_TRUE(contains(message, "holds values that are not finite; try a lower lr")) << message;
  EXPECT_EQ(read_checkpoint(run_folder_->last()).info.progress.step, 0);
  EXPECT_FALSE(fs::exists(run_folder_->best()));
}

TEST_F(RunTest, ReadsItsCheckpointAfterAValidationThatOverflowed) {
  ModelOptions model = model_options(Norm::none);
  model.output = Output::linear;
  TrainOptions options = train_options(2, /*batch_size=*/kImages);
  options.optimizer = OptimizerKind::sgd;
  options.lr = 1e15;  // weights stay finite, squares of errors do not
  start("a", seeded(model), options);
  EXPECT_THROW(run_->train(), NonFiniteError);
  EXPECT_EQ(rows_of(in_run("metrics.csv")).at(1).at(4), "inf");
  EXPECT_EQ(read_checkpoint(run_folder_->last()).info.progress.best_epoch, 0);
  EXPECT_FALSE(fs::exists(run_folder_->best()));
}

TEST_F(RunTest, WritesNothingIntoAFolderThatTookThePlaceOfItsOwn) {
  for (const bool stops : {false, true}) {
    const std::string name = stops ? "stopped" : "ended";
    callbacks_.should_stop = [&] {
      if (trainer_->progress().step == 3) {
        fs::rename(folder_ / "runs" / name, folder_ / "runs/kept" / name);
        fs::create_directories(in_run("weights"));
      }
      return stops && trainer_->progress().step == 4;
    };
    start(name, seeded(model_options()), train_options(2));
    fs::create_directories(folder_ / "runs/kept");
    const std::string message = message_of<std::runtime_error>([&] { run_->train(); });
    EXPECT_TRUE(contains(message, name + "' is gone; there is nowhere to save to")) << message;
    EXPECT_EQ(names(""), Names{"weights"});
    EXPECT_EQ(names("weights"), Names{});
  }
}

TEST_F(RunTest, KeepsMetricsThatCannotBeRead) {
  std::vector<std::string> warnings;
  callbacks_.warning = [&](const std::string& line) { warnings.push_back(line); };
  start("a", seeded(model_options()), train_options(1));
  write_text(in_run("metrics.csv"), "epoch;step\n1;10\n");
  run_->begin("");
  run_->train();
  EXPECT_EQ(contents(in_run("metrics.csv.old")), "epoch;step\n1;10\n");
  EXPECT_EQ(rows_of(in_run("metrics.csv")).size(), 2U);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(contains(warnings[0], "metrics.csv' cannot be read: it is kept as '")) << warnings[0];
}

TEST_F(RunTest, TellsItsObserverHowItBeganAndEnded) {
  struct Ends : RunObserver {
    void begin(const RunStatus& run) override {
      EXPECT_EQ(run.epochs, 2);
      EXPECT_EQ(run.input, (Size{12, 12}));
      EXPECT_EQ(run.progress.step, 0);
    }
    void end(const RunStatus& run, RunState state, const std::string& message) override {
      text = std::string(to_string(state)) + " after " + std::to_string(run.progress.step) + ": " +
             message;
    }
    std::string text;
  } ends;
  start("a", seeded(model_options()), train_options(2));
  convae::Run(convae::Run::Parts{*trainer_, *run_folder_, nullptr, {}, {}, ""}, {}, ends).train();
  EXPECT_EQ(ends.text, "finished after 10: ");

  start("b", seeded(model_options()), train_options(2));
  callbacks_.progress = [](const auto&...) {
    throw std::runtime_error("the plug was pulled\nand nobody saw");
  };
  convae::Run failing(convae::Run::Parts{*trainer_, *run_folder_, nullptr, {}, {}, ""}, callbacks_,
                      ends);
  EXPECT_THROW(failing.train(), std::runtime_error);
  EXPECT_EQ(ends.text, "failed after 1: the plug was pulled");
}

TEST_F(RunTest, SaysEveryEpochAndCountsImages) {
  std::vector<std::string> lines;
  std::int64_t last = 0;
  callbacks_.info = [&](const std::string& line) { lines.push_back(line); };
  callbacks_.progress = [&](const std::string& stage, std::int64_t done, std::int64_t total) {
    EXPECT_EQ(stage, done <= 20 ? "epoch 1/2" : "epoch 2/2");
    EXPECT_EQ(done, last += 4);
    EXPECT_EQ(total, 40);
  };
  start("a", seeded(model_options()), train_options(2));
  run_->train();
  EXPECT_EQ(last, 40);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_TRUE(lines[0].starts_with("epoch 1/2 · step 5 · lr 1.00e-02 · train loss 0."));
  EXPECT_TRUE(contains(lines[0], " dB · SSIM ") && lines[0].ends_with(" · best")) << lines[0];
}

}  // namespace
}  // namespace convae::test_training
