#include "convae/evaluation/evaluate.h"
#include "convae/inference/model.h"
#include "convae/tests/training/trainer_fixture.h"
#include "convae/training/checkpoint.h"
#include "convae/training/saved_data.h"
#include "convae/training/train.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace convae::test_training {
namespace {

/// The job as a library user has it.
class TrainJobTest : public testing::Test {
protected:
  TrainJobTest() {
    for (int i = 0; i < 20; ++i) {
      write_image(folder_ / "data" / (std::to_string(10 + i) + ".png"), wave(3, 12, 13 + i % 2, i));
    }
    callbacks_.info = [this](const std::string& line) { lines_.push_back(line); };
    callbacks_.warning = [this](const std::string& line) { warnings_.push_back(line); };
  }

  TrainJob job(const std::string& name, std::int64_t epochs) const {
    TrainJob job;
    job.data.data = folder_ / "data";
    job.model = model_options();
    job.model.channels = 0;
    job.train = train_options(epochs);
    job.run.output = folder_ / "runs";
    job.run.name = name;
    job.run.threads = 1;
    job.run.report = false;
    return job;
  }

  /// It stops early, after two epochs that are no better than the first.
  TrainJob job_without_progress() const {
    TrainJob still = job("a", 9);
    still.model.norm = Norm::none;
    still.train.lr = 0;
    still.train.patience = 2;
    still.data.val_split = 0.5;
    return still;
  }

  void expect_refused(const TrainJob& bad, const std::string& part) {
    const std::string message = message_of<std::runtime_error>([&] { train(bad, callbacks_); });
    EXPECT_TRUE(contains(message, part)) << message;
    EXPECT_FALSE(fs::exists(folder_ / "runs"));
  }

  bool has_said(const std::string& part) const {
    for (const std::string& line : lines_) {
      if (contains(line, part)) return true;
    }
    return false;
  }

  fs::path last(const std::string& name) const {
    return folder_ / "runs" / name / "weights/last.safetensors";
  }

  TemporaryFolder folder_;
  Callbacks callbacks_;
  std::vector<std::string> lines_, warnings_;
};

TEST_F(TrainJobTest, TrainsARunThatIsReadyToUse) {
  bool has_begun = false;
  callbacks_.before_writing = [&] {
    has_begun = true;
    EXPECT_FALSE(fs::exists(folder_ / "runs"));
  };
  TrainJob given = job("a", 2);
  std::int64_t steps = 0;
  given.after_step = [&](const Progress& progress) {
    EXPECT_EQ(progress.step, ++steps);
    EXPECT_GT(progress.epoch_loss_sum, 0);
  };
  const TrainResult result = train(given, callbacks_);
  EXPECT_TRUE(has_begun);
  EXPECT_EQ(result.progress.step, steps);
  EXPECT_EQ(result.folder, folder_ / "runs/a");
  EXPECT_EQ(result.progress.epoch, 2);
  EXPECT_FALSE(result.was_finished);
  EXPECT_EQ(fs::canonical(folder_ / "runs/latest"), result.folder);
  EXPECT_EQ(load(result.folder).reconstruct(torch::rand({1, 3, 9, 7})).size(3), 7);
  for (const char* part :
       {"device ", " · 1 compute threads", "run folder ", "epoch 2/2", "output_padding"}) {
    EXPECT_TRUE(has_said(part)) << part;
    EXPECT_TRUE(contains(contents(result.folder / "train.log"), part)) << part;
  }
}

TEST_F(TrainJobTest, CountsImagesWhileItLooksForPrincipalComponents) {
  TrainJob linear = job("a", 1);
  linear.data.val_split = 0;
  linear.model.latent_channels = 2;
  linear.model.linear = Linear::pca;
  linear.model.output = Output::linear;
  std::int64_t images = 0;
  callbacks_.progress = [&](const std::string& stage, std::int64_t done, std::int64_t total) {
    if (stage != "principal components") return;
    EXPECT_EQ(total, 20);
    images = done;
  };
  train(linear, callbacks_);
  EXPECT_EQ(images, 20);
}

TEST_F(TrainJobTest, TrainsWhateverTheCallersMode) {
  const auto weights = [&](const std::string& name) {
    return load(train(job(name, 1)).folder, "cpu").weights_digest();
  };
  const std::string expected = weights("plain");
  {
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(weights("without gradients"), expected);
  }
  const c10::InferenceMode mode;
  EXPECT_EQ(weights("inference"), expected);
}

TEST_F(TrainJobTest, MakesNoSecondRunWhereItMayNotCountUp) {
  train(job("a", 1));
  TrainJob again = job("a", 1);
  again.counts_up = false;
  const std::string message = test::message_of<std::runtime_error>([&] { train(again); });
  EXPECT_TRUE(contains(message, "another process has begun the run")) << message;
  EXPECT_FALSE(fs::exists(folder_ / "runs/a-2"));
}

TEST_F(TrainJobTest, GoesOnWithARunAsIfItHadNeverEnded) {
  train(job("whole", 3));
  train(job("parts", 1));
  TrainJob more = job("", 3);
  more.resume = folder_ / "runs/parts";
  more.model = {};  // the run has its own
  const TrainResult result = train(more, callbacks_);
  EXPECT_TRUE(has_said("resuming "));
  EXPECT_EQ(result.progress.step, read_checkpoint(last("whole")).info.progress.step);
  expect_identical(read_checkpoint(last("parts")).tensors, read_checkpoint(last("whole")).tensors);
}

TEST_F(TrainJobTest, SavesAtAnInterruptionAndGoesOnAsIfThereHadBeenNone) {
  train(job("whole", 2));
  int asked = 0;
  callbacks_.should_stop = [&] { return ++asked > 2; };
  const std::string message = message_of<Interrupted>([&] { train(job("parts", 2), callbacks_); });
  EXPECT_TRUE(message.starts_with("stopped at step 3; go on with: convae train --resume "))
      << message;
  EXPECT_TRUE(contains(contents(folder_ / "runs/parts/train.log"), " warning: stopped at step 3"));
  TrainJob rest = job("", 2);
  rest.resume = folder_ / "runs/parts";
  train(rest);
  expect_identical(read_checkpoint(last("parts")).tensors, read_checkpoint(last("whole")).tensors);
}

TEST_F(TrainJobTest, ChangesNothingInAFinishedRun) {
  train(job("a", 1));
  const std::string before = contents(last("a"));
  TrainJob again = job("", 1);
  again.resume = folder_ / "runs/a";
  const TrainResult result = train(again, callbacks_);
  EXPECT_TRUE(result.was_finished);
  EXPECT_EQ(result.progress.epoch, 1);
  EXPECT_TRUE(lines_.empty());
  EXPECT_EQ(contents(last("a")), before);
}

TEST_F(TrainJobTest, BestBeginsAnewWithAnotherLoss) {
  train(job("a", 2));
  TrainJob other = job("", 3);
  other.resume = folder_ / "runs/a";
  other.earlier = TrainJob::Earlier{other.data, other.train};
  other.train.loss = parse_loss("100*l1");
  EXPECT_EQ(train(other, callbacks_).progress.best_epoch, 3);
  EXPECT_TRUE(has_said("loss or images changed: 'best' starts anew"));
}

TEST_F(TrainJobTest, BestIsKeptWhereTheSameImagesHaveMovedButNotWithOtherCorruptions) {
  TrainJob first = job("a", 2);
  first.data.data = folder_ / "moving";
  fs::copy(folder_ / "data", folder_ / "moving");
  first.train.corruptions = parse_corruptions("noise:0-0.5");
  first.model.norm = Norm::none;  // whose statistics a rate of 0 would change
  const TrainResult before = train(first);
  TrainJob more = first;
  more.resume = before.folder;
  more.earlier = TrainJob::Earlier{first.data, first.train};
  more.train.epochs = 3;
  more.train.lr = 0;
  more.data.data = folder_ / "data";
  fs::remove_all(folder_ / "moving");
  const TrainResult moved = train(more, callbacks_);
  EXPECT_EQ(moved.progress.best_value, before.progress.best_value);
  EXPECT_EQ(moved.progress.best_epoch, before.progress.best_epoch);
  EXPECT_FALSE(has_said("'best' starts anew"));
  EXPECT_EQ(saved_data(read_checkpoint(last("a")).info).data.data, more.data.data);
  more.earlier = TrainJob::Earlier{more.data, more.train};
  more.train.epochs = 4;
  ++more.train.seed;
  EXPECT_EQ(train(more, callbacks_).progress.best_epoch, 4);
  EXPECT_TRUE(has_said("'best' starts anew"));
}

TEST_F(TrainJobTest, BestThatIsGoneNeedNotBeBeaten) {
  train(job("a", 2));
  fs::remove(folder_ / "runs/a/weights/best.safetensors");
  TrainJob more = job("", 3);
  more.resume = folder_ / "runs/a";
  more.train.lr = 0;
  EXPECT_EQ(train(more, callbacks_).progress.best_epoch, 3);
  EXPECT_TRUE(fs::exists(folder_ / "runs/a/weights/best.safetensors"));
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_TRUE(contains(warnings_[0], "is gone: 'best' starts anew")) << warnings_[0];
}

TEST_F(TrainJobTest, ARunOfAProgramFindsItsImagesAgain) {
  TrainJob own = job("a", 1);
  own.data.exclude = {"1?.png"};
  own.data.size = {12, 14};
  own.train.loss = parse_loss("mse + 0.5*l1");
  const TrainResult result = train(own);
  const SavedData saved = saved_data(read_checkpoint(last("a")).info);
  EXPECT_EQ(saved.data.data, own.data.data);
  EXPECT_EQ(saved.data.exclude, own.data.exclude);
  EXPECT_EQ(saved.data.size, own.data.size);
  EXPECT_EQ(saved.loss, own.train.loss);
  EvaluateOptions options;
  options.images.data.data = own.data.data;
  const Evaluation evaluation = evaluate(load(result.folder), options);
  EXPECT_GT(evaluation.training_images, 0);
  EXPECT_EQ(evaluation.trained_on, evaluation.training_images);
}

TEST_F(TrainJobTest, ChangedImagesAreNamedAndTheEpochBeginsAnew) {
  int asked = 0;
  Callbacks stopping;
  stopping.should_stop = [&] { return ++asked > 7; };
  TrainJob first = job("a", 3);
  first.data.val_split = 0;
  EXPECT_THROW(train(first, stopping), Interrupted);
  const Progress before = read_checkpoint(last("a")).info.progress;
  ASSERT_EQ(before.epoch, 1);
  ASSERT_GT(before.epoch_position, 0);
  fs::rename(folder_ / "data/10.png", folder_ / "data/new.png");
  fs::remove(folder_ / "data/12.png");
  TrainJob more = first;
  more.resume = folder_ / "runs/a";
  more.run.strict = true;
  const std::string changes =
      "the images of this run changed: 1 added ('new.png'), 2 removed ('10.png', '12.png')";
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { train(more, callbacks_); }),
                       changes + "; undo that, or give --strict=false"));
  EXPECT_EQ(read_checkpoint(last("a")).info.progress.step, before.step) << "nothing was changed";
  more.run.strict = false;
  const TrainResult result = train(more, callbacks_);
  EXPECT_EQ(warnings_, std::vector<std::string>{changes + "; the epoch begins anew"});
  // Two whole epochs of the 19 images there are after what was done before.
  const std::int64_t steps_an_epoch = (19 + more.train.batch_size - 1) / more.train.batch_size;
  EXPECT_EQ(result.progress.step, before.step + 2 * steps_an_epoch);
  more.train.epochs = 4;
  warnings_.clear();
  train(more, callbacks_);
  EXPECT_TRUE(warnings_.empty()) << "they are the run's own now";
}

TEST_F(TrainJobTest, AnEpochWithoutAnyValidationImageIsWarnedOf) {
  for (const char* name : {"a.png", "b.png"})
    write_image(folder_ / "val" / name, wave(3, 12, 13, 0));
  TrainJob own = job("a", 2);
  own.data.val = folder_ / "val";
  own.data.cache = Cache::none;
  callbacks_.before_writing = [&] { fs::remove_all(folder_ / "val"); };
  const TrainResult result = train(own, callbacks_);
  EXPECT_EQ(result.progress.epoch, 2) << "the run goes on";
  EXPECT_EQ(result.progress.best_epoch, 0);
  EXPECT_EQ(std::ranges::count(warnings_,
                               "none of the 2 validation images can be used any more: "
                               "epoch 2 cannot be the best"),
            1);
}

TEST_F(TrainJobTest, AnotherGroupRegexMovesImages) {
  TrainJob first = job("a", 1);
  first.data.val_split = 0.4;
  train(first);
  TrainJob more = first;
  more.resume = folder_ / "runs/a";
  more.earlier = TrainJob::Earlier{first.data, first.train};
  more.train.epochs = 2;
  more.data.group_regex = "^(.)";
  train(more, callbacks_);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_TRUE(contains(warnings_[0], "changed with --group-regex: ")) << warnings_[0];
  EXPECT_TRUE(contains(warnings_[0], " moved between training and validation (")) << warnings_[0];
}

TEST_F(TrainJobTest, CheckpointsWithoutADigestOfImagesGoOn) {
  train(job("a", 1));
  Checkpoint saved = read_checkpoint(last("a"));
  Autoencoder net(saved.info.model);
  load_weights(net, saved.tensors, "it");
  saved.info.images.clear();
  Optimizer optimizer(*net, job("", 1).train);
  optimizer.load_state(saved.tensors, saved.info.progress.optimizer_steps);
  save_checkpoint(last("a"), net, &optimizer, saved.info);
  fs::remove(folder_ / "data/12.png");
  TrainJob more = job("", 2);
  more.resume = folder_ / "runs/a";
  more.run.strict = true;
  EXPECT_EQ(train(more, callbacks_).progress.epoch, 2);
  EXPECT_TRUE(has_said("of version 0.1, does not say which images it was trained on"));
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(TrainJobTest, ListsItsImagesBesideTheWeights) {
  TrainJob own = job("a", 1);
  own.data.include = {"1?.png"};
  own.data.exclude = {"13.png"};
  own.data.val_split = 0;
  own.data.val = folder_ / "other";
  write_image(folder_ / "other/15.png", wave(3, 12, 13, 1));
  train(own, callbacks_);
  EXPECT_EQ(contents(folder_ / "runs/a/images.csv"),
            "path,set\n\"10.png\",training\n\"11.png\",training\n\"12.png\",training\n"
            "\"14.png\",training\n\"15.png\",training\n\"16.png\",training\n"
            "\"17.png\",training\n\"18.png\",training\n\"19.png\",training\n"
            "\"15.png\",validation\n");
}

TEST_F(TrainJobTest, RunThatStoppedEarlyGoesOnWithMorePatience) {
  TrainJob still = job_without_progress();
  EXPECT_TRUE(train(still, callbacks_).progress.stopped_early);
  EXPECT_TRUE(has_said("stopped early: no better val_loss for 2 epochs"));
  still.resume = folder_ / "runs/a";
  EXPECT_TRUE(train(still).was_finished);
  still.earlier = TrainJob::Earlier{still.data, still.train};
  still.train.patience = 3;
  EXPECT_EQ(train(still).progress.epoch, 6);
}

TEST_F(TrainJobTest, RunThatStoppedEarlyStaysFinishedWithAnotherLossOrOtherImages) {
  TrainJob still = job_without_progress();
  EXPECT_TRUE(train(still).progress.stopped_early);
  still.resume = folder_ / "runs/a";
  still.earlier = TrainJob::Earlier{still.data, still.train};
  const std::string before = contents(last("a"));
  TrainJob other = still;
  other.train.loss = parse_loss("l1");
  EXPECT_TRUE(train(other).was_finished);
  other = still;
  other.data.data = folder_ / "copy";
  fs::copy(folder_ / "data", folder_ / "copy");
  EXPECT_TRUE(train(other).was_finished);
  EXPECT_EQ(contents(last("a")), before);
}

TEST_F(TrainJobTest, StartsFromWeightsAndTheirArchitecture) {
  train(job("a", 1));
  TrainJob next = job("b", 1);
  next.init = folder_ / "runs/a";
  next.model = {};
  next.train.lr = 0;
  train(next);
  const Checkpoint a = read_checkpoint(find_checkpoint(folder_ / "runs/a"));
  const Checkpoint b = read_checkpoint(last("b"));
  EXPECT_EQ(b.info.model.levels, a.info.model.levels);
  EXPECT_TRUE(
      identical(b.tensors.at("encoder.0.conv.weight"), a.tensors.at("encoder.0.conv.weight")));
}

TEST_F(TrainJobTest, KeepsTheTextOfAllOptionsWithWhatTheImagesTold) {
  TrainJob given = job("a", 1);
  given.config = [](const TrainJob& all) {
    return "channels " + std::to_string(all.model.channels) + " threads " +
           std::to_string(all.run.threads);
  };
  train(given);
  EXPECT_EQ(contents(folder_ / "runs/a/config.toml"), "channels 3 threads 1");
  EXPECT_EQ(read_checkpoint(last("a")).info.config, "channels 3 threads 1");
}

TEST_F(TrainJobTest, RefusesWhatCannotWorkAndLeavesNoFolder) {
  const auto refusal = [&](const std::function<void(TrainJob&)>& change) {
    TrainJob bad = job("a", 1);
    change(bad);
    return message_of<OptionError>([&] { train(bad); });
  };
  EXPECT_EQ(refusal([](TrainJob& j) { j.train.epochs = 0; }),
            "epochs must be at least 1, but is 0");
  EXPECT_EQ(refusal([](TrainJob& j) { j.run.save_every = -1; }),
            "save-every must be at least 0, but is -1");
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.run.name = "a/b"; }), "expected a plain name"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.run.output = ""; }), "--output is needed"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.model.latent = 4; }), "size is native"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) {
                         j.data.size = {8, 12};
                         j.train.loss = parse_loss("mse + 0.1*ssim");
                       }),
                       "'mse + 0.1*ssim' needs images of at least 11 pixels a side"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.data.data += "\xff"; }), "is not UTF-8"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) {
                         j.data.exclude = {"a", "*\xe4*"};
                       }),
                       "--exclude '*\\xe4*': it is not UTF-8"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) {
                         j.data.val_split = 0;
                         j.train.best = BestBy::val_psnr;
                       }),
                       "there are no validation images"));
  EXPECT_TRUE(
      contains(refusal([](TrainJob& j) { j.resume = j.init = "x"; }), "exclude each other"));
  for (const char* name : {"latest", "tensorboard", ".index"}) {
    EXPECT_TRUE(
        contains(refusal([&](TrainJob& j) { j.run.name = name; }), "expected a plain name"));
  }
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.model.channels = 1, j.data.channels = 3; }),
                       "channels is 3 of the data and 1 of the model"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.data.size = {20, 0}; }), "but is 20x0"));
  // What text could not say, a program can.
  const auto corrupted = [&](Effect effect) {
    return refusal([&](TrainJob& j) { j.train.corruptions = {effect}; });
  };
  EXPECT_TRUE(contains(corrupted({Effect::Kind::grid, 0}), "corrupt 'grid:0': expected a number"));
  EXPECT_TRUE(contains(corrupted({Effect::Kind::blur, std::nan("")}), "corrupt 'blur:nan'"));
  EXPECT_TRUE(contains(corrupted({Effect::Kind::flip, 0.5}), "corrupt 'flip:0.5': expected NAME"));
  EXPECT_TRUE(contains(refusal([](TrainJob& j) { j.train.loss.clear(); }), "loss ''"));
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(TrainJobTest, RefusesImagesThatMemoryCannotHold) {
  TrainJob huge = job("a", 1);
  huge.data.size = {30000, 30000};
  huge.model.levels = parse_levels("64");
  expect_refused(huge, "a batch of 4 images of 30000x30000 needs at least");
}

TEST_F(TrainJobTest, LeavesNoFolderOfImagesThatCannotBeRead) {
  for (const auto& file : fs::directory_iterator(folder_ / "data")) {
    fs::resize_file(file.path(), fs::file_size(file.path()) / 2);
  }
  expect_refused(job("a", 1), "no usable image in");
  EXPECT_FALSE(warnings_.empty());
}

TEST_F(TrainJobTest, RefusesValidationImagesThatCannotBeRead) {
  TrainJob with_others = job("a", 1);
  with_others.data.val = (folder_ / "others").string();
  write_image(folder_ / "others" / "a.png", wave(3, 64, 64, 1));
  std::string bytes = contents(folder_ / "others" / "a.png");
  bytes.replace(bytes.size() / 2, 40, 40, 'x');  // its header stays
  write_text(folder_ / "others" / "a.png", bytes);
  expect_refused(with_others, "others' for validation (1 skipped)");
}

}  // namespace
}  // namespace convae::test_training
