#pragma once

#include "convae/models/autoencoder.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace convae {

/// Of the names of averaged weights in a checkpoint.
inline constexpr const char* kAveragePrefix = "ema.";

/// Exponential moving average of a model's weights and running statistics:
/// average ← d·average + (1 - d)·weights after each step t (from 1), with d the lesser of `decay`
/// and (1 + t)/(10 + t), so that the first steps do not linger.
class WeightAverage {
public:
  /// decay in [0, 1); 0: none, and nothing is kept. Begins with the model's weights.
  WeightAverage(const Autoencoder& net, double decay);

  bool active() const { return decay_ > 0; }

  /// Takes in the model's weights after step `step`.
  void update(std::int64_t step);

  /// By the weights' names after kAveragePrefix; empty where inactive.
  std::map<std::string, torch::Tensor> state() const;

  /// Takes up an average saved under those names, each after kAveragePrefix; where there is none,
  /// it begins with the model's weights as they are now. `source` is what messages call the file.
  /// Throws std::runtime_error where a shape differs.
  void load(const std::map<std::string, torch::Tensor>& tensors, const std::string& source);

  /// Exchanges the model's weights and the average. Twice is as if never.
  void swap();

private:
  struct Entry {
    std::string name;
    torch::Tensor weight;  ///< the model's own
    torch::Tensor average;
  };
  double decay_;
  std::vector<Entry> entries_;
};

/// Lets the model have averaged weights as long as it lives, where there are some.
class UseAverage {
public:
  explicit UseAverage(WeightAverage& average) : average_(average) { exchange(); }
  ~UseAverage() { exchange(); }
  UseAverage(const UseAverage&) = delete;
  UseAverage& operator=(const UseAverage&) = delete;

private:
  void exchange() {
    if (average_.active()) average_.swap();
  }
  WeightAverage& average_;
};

}  // namespace convae
