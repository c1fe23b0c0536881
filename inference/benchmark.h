#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace CONVAE_API convae {

/// What is measured: a new network on random images.
struct BenchmarkOptions {
  ModelOptions model;           ///< `channels` must be given, and `size` for a dense latent
  TrainOptions train;           ///< batch_size images at once, in train.precision
  Size size{192, 192};          ///< of the images
  std::string device = "auto";  ///< see choose_device()
  std::int64_t rounds = 15;     ///< that are timed, after a few that are not
};

/// Medians over the rounds, in milliseconds.
struct BenchmarkResult {
  c10::Device device = c10::kCPU;         ///< it ran on
  Precision precision = Precision::fp32;  ///< it computed in
  std::int64_t threads = 0;               ///< compute threads it ran on
  double training_step_ms = 0;
  double bare_convolutions_ms = 0;  ///< of a training step: forward pass and all gradients
  double inference_ms = 0;
  double bare_forward_ms = 0;

  double training_over_bare() const { return training_step_ms / bare_convolutions_ms; }
  double inference_over_bare() const { return inference_ms / bare_forward_ms; }
};

/// Times training steps and inference beside the network's bare convolutions: the same ones in
/// LibTorch, without bias, activation, normalisation and loss. They are the floor under every step.
/// Throws OptionError, and Interrupted where callbacks.should_stop says so between rounds.
BenchmarkResult benchmark(const BenchmarkOptions& options, const Callbacks& callbacks = {});

/// One line for programs: {"input":[N,C,H,W],"precision":…,"training_step_ms":…}.
std::string to_json(const BenchmarkOptions& options, const BenchmarkResult& result);

}  // namespace convae
