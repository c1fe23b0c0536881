#pragma once

#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint_info.h"
#include "convae/training/ema.h"
#include "convae/training/optimizer.h"
#include "convae/training/safetensors.h"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace convae {

/// A checkpoint read and checked, but not yet made into a model.
struct Checkpoint {
  CheckpointInfo info;
  std::map<std::string, torch::Tensor> tensors;  ///< weights, buffers, `optimizer.…`
  bool is_described = true;  ///< false: a plain safetensors file, without `info`
};

/// Writes one safetensors file, atomically. `optimizer` and `average` may be null. Format and
/// versions in `info` are filled in. Throws CheckpointError where a value is not finite, since
/// read_checkpoint would refuse the file; std::runtime_error naming the path and the system's
/// reason.
void save_checkpoint(const std::filesystem::path& path, const Autoencoder& net,
                     const Optimizer* optimizer, CheckpointInfo info,
                     const WeightAverage* average = nullptr);

/// Reads and checks a checkpoint: checksum, format version, an architecture whose weights are all
/// in the file (so that no file can ask for more memory than it has bytes), finite values.
/// Throws CheckpointError or SafetensorsError.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// The checkpoint that a run is resumed from. Throws std::runtime_error if there is none.
Checkpoint read_last_checkpoint(const std::filesystem::path& run);

/// read_checkpoint() for any safetensors file. Throws where it says that it is a checkpoint and is
/// none.
Checkpoint read_weights_file(const std::filesystem::path& path);

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
