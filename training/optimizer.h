#pragma once

#include "convae/core/tensor.h"
#include "convae/models/autoencoder.h"
#include "convae/training/options.h"

#include <map>
#include <string>
#include <vector>

namespace convae {

/// (m, n) → U Vᵀ, roughly, where the matrix is U S Vᵀ: its singular values become 0.8 to 1.2,
/// except for those below some three thousandths of the largest. Zeros stay zeros. Four
/// Newton-Schulz steps of degree five, each the best for what the one before leaves (Amsel et al.
/// 2025, "The Polar Express"), computed on the smaller Gram matrix: a third of the arithmetic where
/// one side is nine times as long. That is scaled by its own norm, closer to one than the matrix's.
torch::Tensor orthogonalised(const torch::Tensor& matrix);

/// Adam (Kingma & Ba 2015; β 0.9, 0.999, ε 1e-8), AdamW (Loshchilov & Hutter 2019) and SGD with
/// momentum 0.9, on LibTorch's fused kernels: torch::optim loops over tensors, which costs
/// milliseconds a step, and saves moments by order instead of by name. And Muon (Jordan 2024):
/// convolutions between 8 channels or more have Nesterov momentum 0.95, orthogonalised and scaled
/// so that the root mean square of an update is the learning rate; the rest has AdamW.
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

  /// Moments as `optimizer.NAME.MOMENT`, for a checkpoint. Where a parameter has had fewer
  /// steps than others, also their number as `optimizer.NAME.step`.
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
    std::vector<torch::Tensor> tensors;  // one a parameter; undefined where it has no such moment
  };
  std::string name_of(std::size_t parameter, const std::string& what) const;
  std::vector<torch::Tensor> gradients() const;
  /// The tensors of parameters that the fused kernels step, of one a parameter.
  std::vector<torch::Tensor> fused(const std::vector<torch::Tensor>& all) const;
  void step_matrices(const std::vector<torch::Tensor>& gradients, double lr);

  OptimizerKind kind_;
  double weight_decay_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> parameters_;
  std::vector<bool> is_matrix_;                            // of each parameter: stepped by Muon
  Moment mean_{"exp_avg", {}}, square_{"exp_avg_sq", {}};  // of Adam, AdamW and Muon's rest
  Moment momentum_{"momentum_buffer", {}};                 // of SGD and Muon
  std::int64_t steps_taken_ = 0;
  torch::Tensor summed_;              // all gradients in one row, for ranks
  std::vector<torch::Tensor> steps_;  // the fused kernels count in one float tensor a parameter
};

}  // namespace convae
