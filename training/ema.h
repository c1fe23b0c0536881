#pragma once

#include "convae/models/autoencoder.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace convae {

/// Prefix of the names of averaged weights in a checkpoint.
inline constexpr const char* kAveragePrefix = "ema.";

/// Exponential moving average of a model's weights and running statistics:
/// average ← d·average + (1 - d)·weights after each step t (from 1), with d the lesser of `decay`
/// and (1 + t)/(10 + t), so that the first steps do not linger.
class WeightAverage {
public:
  /// decay in [0, 1); 0: no average. Begins with the model's weights.
  WeightAverage(const Autoencoder& net, double decay);

  bool active() const { return decay_ > 0; }

  /// Adds the model's weights after step `step`.
  void update(std::int64_t step);

  /// By kAveragePrefix + the weight's name; empty where inactive.
  std::map<std::string, torch::Tensor> state() const;

  /// Restores a state(); what is missing begins with the model's weights as they are now. `source`
  /// is the file's name in messages. Throws std::runtime_error where a shape differs.
  void load(const std::map<std::string, torch::Tensor>& tensors, const std::string& source);

  /// Swaps the model's weights and the average.
  void swap();

private:
  double decay_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> weights_, averages_;  // the model's own, and of each its average
};

/// While it lives, the model has the averaged weights, if there are some.
class UseAverage {
public:
  explicit UseAverage(WeightAverage& average) : average_(average) { average_.swap(); }
  ~UseAverage() { average_.swap(); }
  UseAverage(const UseAverage&) = delete;
  UseAverage& operator=(const UseAverage&) = delete;

private:
  WeightAverage& average_;
};

}  // namespace convae
