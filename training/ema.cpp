#include "convae/training/ema.h"

#include "convae/training/checkpoint.h"

#include <ATen/ops/_foreach_lerp.h>

#include <algorithm>
#include <stdexcept>

namespace convae {

WeightAverage::WeightAverage(const Autoencoder& net, double decay) : decay_(decay) {
  if (!active()) return;
  for (const auto& [name, weight] : weights_of(*net)) {
    // Batch counts are integers, and principal components stay as they are.
    const bool is_fixed = name.find(".linear.components") != std::string::npos ||
                          name.find(".linear.mean") != std::string::npos;
    if (!weight.is_floating_point() || is_fixed) continue;
    names_.push_back(name);
    weights_.push_back(weight.detach());
    averages_.push_back(weight.detach().clone());
  }
}

void WeightAverage::update(std::int64_t step) {
  if (!active()) return;
  torch::NoGradGuard no_grad;
  const auto t = static_cast<double>(step);
  const double decay = std::min(decay_, (1 + t) / (10 + t));
  at::_foreach_lerp_(averages_, weights_, 1 - decay);
}

std::map<std::string, torch::Tensor> WeightAverage::state() const {
  std::map<std::string, torch::Tensor> tensors;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    tensors[kAveragePrefix + names_[i]] = averages_[i];
  }
  return tensors;
}

void WeightAverage::load(const std::map<std::string, torch::Tensor>& tensors,
                         const std::string& source) {
  torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const auto saved = tensors.find(kAveragePrefix + names_[i]);
    const torch::Tensor& start = saved != tensors.end() ? saved->second : weights_[i];
    if (start.sizes() != averages_[i].sizes()) {
      throw std::runtime_error(c10::str(source, ": '", saved->first, "' has shape ", start.sizes(),
                                        ", expected ", averages_[i].sizes()));
    }
    averages_[i].copy_(start);
  }
}

void WeightAverage::swap() {
  torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const torch::Tensor weight = weights_[i].clone();
    weights_[i].copy_(averages_[i]);
    averages_[i].copy_(weight);
  }
}

}  // namespace convae
