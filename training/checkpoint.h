#pragma once

#include "convae/models/autoencoder.h"
#include "convae/training/ema.h"
#include "convae/training/optimizer.h"
#include "convae/training/safetensors.h"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>

namespace convae {

/// A checkpoint that cannot be used. what() names the file, what is wrong and the way out.
class CheckpointError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// How far a run has come: all that a resumed run needs beside weights and moments.
struct Progress {
  std::int64_t epoch = 0;  ///< epochs completed
  /// Images of the epoch after those that steps have taken, unusable ones included: where in the
  /// epoch's order the next step begins, whatever its batch size.
  std::int64_t epoch_position = 0;
  std::int64_t step = 0;             ///< steps done altogether
  std::int64_t optimizer_steps = 0;  ///< of these, steps that changed the weights

  std::int64_t skipped_steps = 0;  ///< steps left out because something was not finite

  double epoch_loss_sum = 0;       ///< of the images of the epoch under way
  std::int64_t epoch_images = 0;   ///< usable ones of the epoch under way
  double epoch_train_seconds = 0;  ///< of the epoch under way
  double epoch_lr = 0;             ///< learning rate of its last step

  BestBy best_by = BestBy::val_loss;  ///< what best_value is: train_loss where nothing validates
  double best_value = std::numeric_limits<double>::quiet_NaN();
  std::int64_t best_epoch = 0;      ///< 0: there is no best yet
  std::int64_t lr_falls = 0;        ///< of the plateau schedule
  std::int64_t plateau_start = 0;   ///< epoch from which it waits, if later than the best
  std::int64_t patience_start = 0;  ///< epoch from which patience counts, if later than the best
  bool stopped_early = false;       ///< by patience
};

/// What a checkpoint says of itself: the JSON under `__metadata__.convae`.
struct CheckpointInfo {
  static constexpr int kFormat = 1;
  int format = kFormat;
  std::string convae_version;
  std::string libtorch_version;
  ModelOptions model;
  std::uint64_t seed = 0;
  Progress progress;
  std::string config;  ///< the run's config.toml; empty for a model saved without a run
};

/// A checkpoint read and checked, but not yet made into a model.
struct Checkpoint {
  CheckpointInfo info;
  std::map<std::string, torch::Tensor> tensors;  ///< weights, buffers, `optimizer.…`
};

/// Writes one safetensors file, atomically. `optimizer` and `average` may be null. The version
/// fields of `info` are filled in. Throws CheckpointError where a value is not finite, since
/// read_checkpoint would refuse the file; std::runtime_error naming the path and the system's
/// reason.
void save_checkpoint(const std::filesystem::path& path, const Autoencoder& net,
                     const Optimizer* optimizer, CheckpointInfo info,
                     const WeightAverage* average = nullptr);

/// Reads and checks a checkpoint: checksum, format version, an architecture whose weights are all
/// in the file (so that no file can ask for more memory than it has bytes), finite values.
/// Throws CheckpointError or SafetensorsError.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// Copies weights and buffers by name. Names of other tensors (`optimizer.…`, `ema.…`) are passed
/// over. `source` is what messages call the file.
/// Throws CheckpointError where names or shapes differ.
void load_weights(Autoencoder& net, const std::map<std::string, torch::Tensor>& tensors,
                  const std::string& source);

/// The tensors of a checkpoint that make the model to use: averaged weights in place of those they
/// are averages of, where there are some.
std::map<std::string, torch::Tensor> tensors_to_use(const Checkpoint& checkpoint);

/// Parameters and buffers of a module, by name.
std::map<std::string, torch::Tensor> weights_of(const torch::nn::Module& net);

/// The architecture as checkpoints describe it: a JSON object whose keys are those of the options.
std::string model_json(const ModelOptions& model);

/// The file meant by a run folder (weights/best.safetensors, else weights/last.safetensors) or by
/// a file. Throws CheckpointError if there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& run_or_file);

}  // namespace convae
