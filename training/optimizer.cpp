#include "convae/training/optimizer.h"

#include "convae/training/collective.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>

#include <stdexcept>

namespace convae {
namespace {

constexpr double kBeta1 = 0.9;
constexpr double kBeta2 = 0.999;
constexpr double kEpsilon = 1e-8;
constexpr double kSgdMomentum = 0.9;

}  // namespace

Optimizer::Optimizer(torch::nn::Module& net, const TrainOptions& options)
    : kind_(options.optimizer), weight_decay_(options.weight_decay) {
  moments_ = {{"exp_avg", {}}, {"exp_avg_sq", {}}};
  if (kind_ == OptimizerKind::sgd) moments_ = {{"momentum_buffer", {}}};
  for (const auto& parameter : net.named_parameters()) {
    names_.push_back(parameter.key());
    parameters_.push_back(parameter.value());
    // zeros_like keeps channels-last strides: the fused kernels need moments laid out as weights.
    for (Moment& moment : moments_) moment.tensors.push_back(torch::zeros_like(parameter.value()));
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
  std::int64_t count = 0;
  for (const torch::Tensor& parameter : parameters_) count += parameter.numel();
  if (!summed_.defined()) summed_ = torch::empty({count}, torch::kFloat);
  std::int64_t begin = 0;
  for (torch::Tensor& parameter : parameters_) {
    // Laid out as the parameter is, whatever a kernel made of it on this rank.
    const torch::Tensor part = summed_.narrow(0, begin, parameter.numel())
                                   .as_strided_(parameter.sizes(), parameter.strides());
    part.copy_(parameter.grad());
    parameter.mutable_grad() = part;
    begin += parameter.numel();
  }
  ranks().sum(std::span(summed_.mutable_data_ptr<float>(), static_cast<std::size_t>(count)));
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
  switch (kind_) {
    case OptimizerKind::adam:
      at::_fused_adam_(parameters_, gradients, moments_[0].tensors, moments_[1].tensors,
                       /*max_exp_avg_sqs=*/{}, steps_, lr, kBeta1, kBeta2, weight_decay_, kEpsilon,
                       /*amsgrad=*/false, /*maximize=*/false);
      break;
    case OptimizerKind::adamw:
      at::_fused_adamw_(parameters_, gradients, moments_[0].tensors, moments_[1].tensors,
                        /*max_exp_avg_sqs=*/{}, steps_, lr, kBeta1, kBeta2, weight_decay_, kEpsilon,
                        /*amsgrad=*/false, /*maximize=*/false);
      break;
    case OptimizerKind::sgd:
      // Buffers start at zero, so the first step is the gradient itself, as it should be.
      at::_fused_sgd_(parameters_, gradients, moments_[0].tensors, weight_decay_, kSgdMomentum, lr,
                      /*dampening=*/0, /*nesterov=*/false, /*maximize=*/false,
                      /*is_first_step=*/false);
      break;
  }
}

std::map<std::string, torch::Tensor> Optimizer::state() const {
  std::map<std::string, torch::Tensor> tensors;
  for (const Moment& moment : moments_) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      tensors["optimizer." + names_[i] + "." + moment.name] = moment.tensors[i];
    }
  }
  return tensors;
}

std::int64_t Optimizer::load_state(const std::map<std::string, torch::Tensor>& tensors,
                                   std::int64_t steps) {
  torch::NoGradGuard no_grad;
  std::int64_t found = 0;
  for (auto& [name, moment] : state()) {  // the moments themselves
    const auto saved = tensors.find(name);
    if (saved == tensors.end()) continue;
    if (saved->second.sizes() != moment.sizes()) {
      throw std::runtime_error(c10::str("'", name, "' has shape ", saved->second.sizes(),
                                        ", expected ", moment.sizes()));
    }
    moment.copy_(saved->second);
    ++found;
  }
  if (found > 0) {
    steps_taken_ = steps;
    for (torch::Tensor& step : steps_) step.fill_(static_cast<double>(steps));
  }
  return found;
}

}  // namespace convae
