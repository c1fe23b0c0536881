#pragma once

#include "convae/models/autoencoder.h"
#include "convae/training/options.h"

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace convae {

/// Adam (Kingma & Ba 2015; β 0.9, 0.999, ε 1e-8), AdamW (Loshchilov & Hutter 2019) and SGD with
/// momentum 0.9, on LibTorch's fused kernels: torch::optim loops over tensors, which costs several
/// milliseconds a step, and its saved state maps moments to parameters by order instead of by name.
class Optimizer {
public:
  /// The parameters of `net`, by name.
  Optimizer(torch::nn::Module& net, const TrainOptions& options);

  void zero_grad();

  /// Norm of all gradients together, after scaling them down to `max_norm` where they exceed it
  /// (0: no scaling).
  double clip_gradients(double max_norm);

  /// One step; `lr` is this step's learning rate.
  void step(double lr);

  /// Moments as `optimizer.<parameter>.<moment>`, to be kept in a checkpoint.
  std::map<std::string, torch::Tensor> state() const;

  /// Number of steps taken.
  std::int64_t steps() const { return steps_taken_; }

  /// Takes back what state() gave, after `steps` steps. Names that are missing keep their zeros
  /// (a run that changed its optimizer starts with fresh moments); returns how many were found.
  /// Throws std::runtime_error where a shape does not fit.
  std::int64_t load_state(const std::map<std::string, torch::Tensor>& tensors, std::int64_t steps);

private:
  struct Moment {
    std::string name;
    std::vector<torch::Tensor> tensors;  // one a parameter
  };

  OptimizerKind kind_;
  double weight_decay_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> parameters_;
  std::vector<Moment> moments_;
  std::int64_t steps_taken_ = 0;
  std::vector<torch::Tensor> steps_;  // the fused kernels count in one float tensor a parameter
};

}  // namespace convae
