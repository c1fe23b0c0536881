#include "convae/training/optimizer.h"

#include "convae/training/collective.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace convae {
namespace {

constexpr double kBeta1 = 0.9;
constexpr double kBeta2 = 0.999;
constexpr double kEpsilon = 1e-8;
constexpr double kSgdMomentum = 0.9;
constexpr double kMuonMomentum = 0.95;
constexpr std::int64_t kMuonChannels = 8;
constexpr const char* kOwnSteps = "step";  // a parameter's own count, where it differs

bool suits_muon(const torch::Tensor& parameter) {
  return parameter.dim() == 4 && std::min(parameter.size(0), parameter.size(1)) >= kMuonChannels;
}

/// Of a convolution, a row for each output; of a transposed one, for each input. A view of what is
/// channels-last.
torch::Tensor as_matrix(const torch::Tensor& weight) {
  return weight.permute({0, 2, 3, 1}).flatten(1);
}

/// Each becomes its sum over ranks(), a part of `row`, laid out as its neighbour in `like` is on
/// every rank. `row` is made where it is undefined.
void sum_in_one_row(std::vector<torch::Tensor>& tensors, const std::vector<torch::Tensor>& like,
                    torch::Tensor& row) {
  std::int64_t count = 0;
  for (const torch::Tensor& tensor : tensors) count += tensor.numel();
  if (!row.defined()) row = torch::empty({count}, tensors[0].options());
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const torch::Tensor part =
        row.narrow(0, begin, tensors[i].numel()).as_strided_(like[i].sizes(), like[i].strides());
    begin += part.numel();
    tensors[i] = part.copy_(tensors[i]);
  }
  sum_over_ranks(row);
}

}  // namespace

torch::Tensor orthogonalised(const torch::Tensor& matrix) {
  struct Polynomial {
    double linear, cubic, quintic;
  };
  static constexpr Polynomial kSteps[] = {{8.3837, -24.7659, 18.3571},
                                          {4.0434, -3.0114, 0.5695},
                                          {3.5056, -2.6267, 0.5257},
                                          {2.4901, -1.8343, 0.4368}};
  if (matrix.size(0) > matrix.size(1)) return orthogonalised(matrix.t()).t();
  // A step makes Q X of X, where Q = a + b X Xᵀ + c (X Xᵀ)²; Q commutes with X Xᵀ.
  torch::Tensor gram = matrix.mm(matrix.t());
  const torch::Tensor trace = gram.trace().clamp_min(std::numeric_limits<float>::min());
  gram /= trace;  // before the norm, in which squares of small numbers would be lost
  const torch::Tensor norm = gram.norm().clamp_min(1.0 / static_cast<double>(gram.size(0)));
  gram /= norm;  // which is below that for zeros alone
  torch::Tensor q, product;
  for (const Polynomial& step : kSteps) {
    if (q.defined()) gram = q.mm(gram).mm(q);
    q = at::addmm(gram, gram, gram, step.cubic, step.quintic);
    q.diagonal().add_(step.linear);
    product = product.defined() ? q.mm(product) : q;
  }
  return (product / (trace * norm).sqrt()).mm(matrix);
}

Optimizer::Optimizer(torch::nn::Module& net, const TrainOptions& options)
    : kind_(options.optimizer), weight_decay_(options.weight_decay) {
  for (const auto& parameter : net.named_parameters()) {
    names_.push_back(parameter.key());
    parameters_.push_back(parameter.value());
    is_matrix_.push_back(kind_ == OptimizerKind::muon && suits_muon(parameter.value()));
    const bool has_momentum = kind_ == OptimizerKind::sgd || is_matrix_.back();
    // zeros_like keeps channels-last strides: the fused kernels need moments laid out as weights.
    const auto zeros = [&] { return torch::zeros_like(parameter.value()); };
    momentum_.tensors.push_back(has_momentum ? zeros() : torch::Tensor());
    mean_.tensors.push_back(has_momentum ? torch::Tensor() : zeros());
    square_.tensors.push_back(has_momentum ? torch::Tensor() : zeros());
    steps_.push_back(torch::zeros({}, parameter.value().options().dtype(torch::kFloat)));
  }
}

void Optimizer::zero_grad() {
  for (torch::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
}

std::vector<torch::Tensor> Optimizer::gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters_) gradients.push_back(parameter.grad());
  return gradients;
}

void Optimizer::sum_over_ranks(double factor) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> sums = gradients();
  sum_in_one_row(sums, parameters_, summed_);
  for (std::size_t i = 0; i < sums.size(); ++i) parameters_[i].mutable_grad() = sums[i];
  if (factor != 1) summed_ *= factor;
}

torch::Tensor Optimizer::gradient_norm() const {
  torch::NoGradGuard no_grad;
  return torch::stack(at::_foreach_norm(gradients())).norm();
}

void Optimizer::clip_gradients(double max_norm, const torch::Tensor& norm) {
  torch::NoGradGuard no_grad;
  at::_foreach_mul_(gradients(), (max_norm / (norm + 1e-6)).clamp_max(1));
}

void Optimizer::step(double lr) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients = this->gradients();
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    // The kernels walk all tensors of a parameter side by side, so strides must agree.
    if (gradients[i].strides() != parameters_[i].strides()) {
      gradients[i] = torch::empty_like(parameters_[i]).copy_(gradients[i]);
    }
  }
  at::_foreach_add_(steps_, 1);
  ++steps_taken_;
  if (kind_ == OptimizerKind::sgd) {
    // Buffers start at zero, so the first step is the gradient itself, as it should be.
    at::_fused_sgd_(parameters_, gradients, momentum_.tensors, weight_decay_, kSgdMomentum, lr,
                    /*dampening=*/0, /*nesterov=*/false, /*maximize=*/false,
                    /*is_first_step=*/false);
    return;
  }
  if (kind_ == OptimizerKind::muon) step_matrices(gradients, lr);
  const auto kernel =
      kind_ == OptimizerKind::adam ? &at::_ops::_fused_adam_::call : &at::_ops::_fused_adamw_::call;
  kernel(fused(parameters_), fused(gradients), fused(mean_.tensors), fused(square_.tensors),
         /*max_exp_avg_sqs=*/{}, fused(steps_), lr, kBeta1, kBeta2, weight_decay_, kEpsilon,
         /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, /*found_inf=*/{});
}

std::vector<torch::Tensor> Optimizer::fused(const std::vector<torch::Tensor>& all) const {
  std::vector<torch::Tensor> some;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!is_matrix_[i]) some.push_back(all[i]);
  }
  return some;
}

void Optimizer::step_matrices(const std::vector<torch::Tensor>& gradients, double lr) {
  std::vector<torch::Tensor> weights, matrices, updates;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!is_matrix_[i]) continue;
    torch::Tensor& momentum = momentum_.tensors[i];
    momentum.lerp_(gradients[i], 1 - kMuonMomentum);
    weights.push_back(parameters_[i].permute({0, 2, 3, 1}));
    matrices.push_back(as_matrix(parameters_[i]));
    // Ranks share these: the work, and the last bits, which depend on processor and threads.
    if (std::ssize(updates) % ranks().size() == ranks().rank()) {
      updates.push_back(orthogonalised(as_matrix(gradients[i].lerp(momentum, kMuonMomentum))));
    } else {
      updates.push_back(torch::zeros_like(matrices.back()));
    }
  }
  torch::Tensor row;
  if (ranks().size() > 1 && !updates.empty()) sum_in_one_row(updates, matrices, row);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto longer = static_cast<double>(std::max(updates[i].size(0), updates[i].size(1)));
    weights[i].mul_(1 - lr * weight_decay_);
    weights[i].add_(updates[i].view(weights[i].sizes()), -lr * std::sqrt(longer));
  }
}

std::string Optimizer::name_of(std::size_t parameter, const std::string& what) const {
  return "optimizer." + names_[parameter] + "." + what;
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> tensors;
  for (const Moment* moment : {&mean_, &square_, &momentum_}) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (!moment->tensors[i].defined()) continue;
      tensors[name_of(i, moment->name)] = moment->tensors[i];
    }
  }
  // Weights that an optimizer before this one kept no moments of have had fewer.
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (!square_.tensors[i].defined()) continue;
    if (steps_[i].item<double>() != static_cast<double>(steps_taken_)) {
      tensors[name_of(i, kOwnSteps)] = steps_[i];
    }
  }
  return tensors;
}

std::int64_t Optimizer::load_state(const std::map<std::string, torch::Tensor>& tensors,
                                   std::int64_t steps) {
  torch::NoGradGuard no_grad;
  std::int64_t found = 0;
  for (const Moment* moment : {&mean_, &square_, &momentum_}) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (!moment->tensors[i].defined()) continue;
      const std::string name = name_of(i, moment->name);
      const auto saved = tensors.find(name);
      if (saved == tensors.end()) continue;
      if (saved->second.sizes() != moment->tensors[i].sizes()) {
        throw std::runtime_error(c10::str("'", name, "' has shape ", saved->second.sizes(),
                                          ", expected ", moment->tensors[i].sizes()));
      }
      moment->tensors[i].copy_(saved->second);
      const auto own = tensors.find(name_of(i, kOwnSteps));
      steps_[i].fill_(own != tensors.end() ? own->second.item<double>()
                                           : static_cast<double>(steps));
      steps_taken_ = steps;
      ++found;
    }
  }
  return found;
}

}  // namespace convae
