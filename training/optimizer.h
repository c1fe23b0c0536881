#pragma once

#include "convae/core/tensor.h"
#include "convae/models/autoencoder.h"
#include "convae/training/options.h"

#include <map>
#include <string>
#include <vector>

namespace convae {

/// Adam (Kingma & Ba 2015; β 0.9, 0.999, ε 1e-8), AdamW (Loshchilov & Hutter 2019) and SGD with
/// momentum 0.9, on LibTorch's fused kernels: torch::optim loops over tensors, which costs
/// milliseconds a step, and saves moments by order instead of by name.
class Optimizer {
public:
  /// The parameters of `net`, by name.
  Optimizer(torch::nn::Module& net, const TrainOptions& options);

  void zero_grad();

  /// Replaces all gradients by their sum over ranks() times `factor`.
  void sum_over_ranks(double factor);

  /// The norm of all gradients together, a number on their device.
  torch::Tensor gradient_norm() const;
  /// Scales gradients of that norm down to `max_norm` where it is above that.
  void clip_gradients(double max_norm, const torch::Tensor& norm);

  /// One step; `lr` is this step's learning rate.
  void step(double lr);

  /// Moments as `optimizer.<parameter>.<moment>`, for a checkpoint.
  std::map<std::string, torch::Tensor> state() const;

  /// Number of steps taken.
  std::int64_t steps() const { return steps_taken_; }

  /// Restores a state() after `steps` steps and returns how many of its tensors were found. Missing
  /// ones stay zero: a run that changed its optimizer starts with fresh moments. Throws
  /// std::runtime_error where a shape does not fit.
  std::int64_t load_state(const std::map<std::string, torch::Tensor>& tensors, std::int64_t steps);

private:
  struct Moment {
    std::string name;
    std::vector<torch::Tensor> tensors;  // one a parameter
  };
  std::vector<torch::Tensor> gradients() const;

  OptimizerKind kind_;
  double weight_decay_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> parameters_;
  std::vector<Moment> moments_;
  std::int64_t steps_taken_ = 0;
  torch::Tensor summed_;              // all gradients in one row, for ranks
  std::vector<torch::Tensor> steps_;  // the fused kernels count in one float tensor a parameter
};

}  // namespace convae
