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
    entries_.push_back({name, weight.detach(), weight.detach().clone()});
  }
}

void WeightAverage::update(std::int64_t step) {
  if (!active()) return;
  torch::NoGradGuard no_grad;
  const auto t = static_cast<double>(step);
  const double decay = std::min(decay_, (1 + t) / (10 + t));
  std::vector<torch::Tensor> averages, weights;
  for (const Entry& entry : entries_) {
    averages.push_back(entry.average);
    weights.push_back(entry.weight);
  }
  at::_foreach_lerp_(averages, weights, 1 - decay);
}

std::map<std::string, torch::Tensor> WeightAverage::state() const {
  std::map<std::string, torch::Tensor> tensors;
  for (const Entry& entry : entries_) tensors[kAveragePrefix + entry.name] = entry.average;
  return tensors;
}

void WeightAverage::load(const std::map<std::string, torch::Tensor>& tensors,
                         const std::string& source) {
  torch::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    const auto saved = tensors.find(kAveragePrefix + entry.name);
    const torch::Tensor& start = saved != tensors.end() ? saved->second : entry.weight;
    if (start.sizes() != entry.average.sizes()) {
      throw std::runtime_error(c10::str(source, ": '", saved->first, "' has shape ", start.sizes(),
                                        ", expected ", entry.average.sizes()));
    }
    entry.average.copy_(start);
  }
}

void WeightAverage::swap() {
  torch::NoGradGuard no_grad;
  for (Entry& entry : entries_) {
    const torch::Tensor weight = entry.weight.clone();
    entry.weight.copy_(entry.average);
    entry.average.copy_(weight);
  }
}

}  // namespace convae
