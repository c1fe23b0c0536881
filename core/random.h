#pragma once

#include <cstdint>

namespace convae {

/// What random numbers are for; each purpose has its own. Values never change and are never reused:
/// runs must stay repeatable.
enum class Purpose : std::uint64_t {
  sampling = 0,
  shuffle = 1,
  crop = 2,
  augmentation = 100,  ///< and one more for each further augmentation
  corruption = 200,    ///< likewise
  latent_noise = 300,
  folds = 400,
  bootstrap = 0xb007,
};

/// Random numbers that are a pure function of (seed, epoch, index, purpose), so that neither the
/// order of draws nor an interruption changes them. SplitMix64 (Steele, Lea & Flood 2014,
/// https://doi.org/10.1145/2660193.2660195), seeded by mixing the parts in: std::mt19937 would set
/// up 2.5 kB of state for a handful of draws, and std's distributions differ between libraries.
class CounterRandom {
public:
  CounterRandom(std::uint64_t seed, std::uint64_t epoch, std::uint64_t index, Purpose purpose,
                std::uint64_t nth = 0) {
    for (const std::uint64_t part :
         {seed, epoch, index, static_cast<std::uint64_t>(purpose) + nth}) {
      state_ = mix(state_ ^ mix(part));
    }
  }

  std::uint64_t next() { return mix(state_ += kGamma); }

  /// Uniform in 0 … bound-1 (bound ≥ 1); the bias of the multiplication is below 2^-32 for bounds
  /// below 2^32.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<__uint128_t>(next()) * bound) >> 64);
  }

  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

private:
  static constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15;

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t state_ = kGamma;
};

}  // namespace convae
