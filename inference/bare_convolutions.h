#pragma once

#include "convae/models/options.h"

#include <torch/types.h>

#include <vector>

namespace convae::app {

/// The convolutions of an autoencoder and nothing else, on random numbers of the right shapes:
/// channels-last, without bias, activation, normalisation or loss. The floor under every step.
class BareConvolutions {
public:
  BareConvolutions(const ModelOptions& model, std::int64_t images, Size size, torch::Device device,
                   torch::ScalarType type);

  /// All forward convolutions.
  void forward() const;
  /// Those, their weight gradients and, but for the first level, their input gradients.
  void forward_and_backward() const;

private:
  struct Convolution {
    torch::Tensor input, weight, gradient;
    std::vector<std::int64_t> stride, padding, dilation, output_padding;
    bool transposed;
  };
  torch::Tensor run(const Convolution& convolution) const;

  std::vector<Convolution> convolutions_;
};

}  // namespace convae::app
