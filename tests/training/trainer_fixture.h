/// Small networks, images and options that tests of training share.
#pragma once

#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"
#include "convae/training/trainer.h"

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace convae::test_training {

namespace fs = std::filesystem;
using test::contains;
using test::contents;
using test::difference;
using test::entries_of;
using test::identical;
using test::message_of;
using test::TemporaryFolder;
using test::wave;
using test::write_image;
using test::write_text;
using Tensors = std::map<std::string, torch::Tensor>;

inline constexpr Size kSizes[] = {{12, 12}, {13, 11}, {12, 12}, {9, 16},
                                  {12, 12}, {13, 11}, {1, 1}};

inline ModelOptions model_options(Norm norm = Norm::batch) {
  ModelOptions options = test::small_network("4,6");
  options.norm = norm;
  return options;
}

/// What validate() takes of a run's options.
inline TrainOptions measured_with(LossKind loss, std::int64_t batch_size) {
  TrainOptions options;
  options.loss = {{loss}};
  options.batch_size = batch_size;
  return options;
}

inline TrainOptions train_options(std::int64_t epochs, std::int64_t batch_size = 4) {
  TrainOptions options;
  options.epochs = epochs;
  options.batch_size = batch_size;
  options.lr = 0.01;
  options.schedule = ScheduleKind::constant;
  options.seed = 7;
  return options;
}

/// A model whose weights depend on `seed` alone.
inline Autoencoder seeded(const ModelOptions& options, std::uint64_t seed = 1) {
  Autoencoder net(options);
  torch::NoGradGuard no_grad;
  for (auto& item : net->named_parameters()) {
    if (contains(item.key(), "norm")) continue;  // starts at 1 and 0
    torch::Tensor& parameter = item.value();
    const double fan_in = static_cast<double>(parameter.numel() / parameter.size(0));
    parameter.copy_(0.5 * test::gaussian(parameter.sizes(), seed++) / std::sqrt(fan_in));
  }
  return net;
}

inline Tensors state_of(Autoencoder& net) {
  Tensors all = weights_of(*net);
  for (auto& [name, tensor] : all) tensor = tensor.detach().clone();
  return all;
}

inline void expect_identical(const Tensors& a, const Tensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(identical(tensor, b.at(name))) << name;
}

/// Trains to the end of the epoch and closes it, unless it ends before. Returns the mean loss of
/// the epoch's images so far.
inline double train_epoch(Trainer& trainer, const std::function<bool()>& after_step = {}) {
  trainer.train_steps(after_step);
  const double loss = trainer.epoch_loss();
  if (trainer.epoch_complete()) trainer.close_epoch();
  return loss;
}

/// Trains to the end, or until an epoch ends before its last image.
inline void train(Trainer& trainer, const std::function<bool()>& after_step = {}) {
  while (!trainer.finished()) {
    train_epoch(trainer, after_step);
    if (trainer.progress().epoch_position > 0) return;
  }
}

class TrainerTest : public testing::Test {
protected:
  static std::string name_of(int i) { return "image_" + std::to_string(10 + i) + ".png"; }

  /// kImages images of mixed sizes.
  ImageDataset dataset(ImageDataset::Options options = {}) {
    for (int i = 0; i < kImages; ++i) {
      const Size size = kSizes[i % std::size(kSizes)];
      write_image(folder_ / "data" / name_of(i), wave(3, size.h, size.w, i));
    }
    return ImageDataset(entries_of(folder_ / "data"), options);
  }

  /// `count` images of one size.
  ImageDataset uniform_dataset(int count = 10) {
    for (int i = 0; i < count; ++i) {
      write_image(folder_ / "uniform" / name_of(i), wave(3, 12, 12, i));
    }
    return ImageDataset(entries_of(folder_ / "uniform"), {});
  }

  /// Of images_, and a network that is the same each time.
  Trainer trainer_of(const TrainOptions& options, Autoencoder net = seeded(model_options())) {
    return Trainer(net, images_, options, torch::kCPU);
  }

  fs::path checkpoint() const { return folder_ / "c.safetensors"; }

  void save(Trainer& trainer) {
    CheckpointInfo info;
    info.progress = trainer.progress();
    save_checkpoint(checkpoint(), trainer.net(), &trainer.optimizer(), info);
  }

  static constexpr int kImages = 17;
  TemporaryFolder folder_;
  ImageDataset images_ = dataset();
};

}  // namespace convae::test_training
