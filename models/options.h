#pragma once

#include "models/geometry.h"

#include <cstdint>
#include <string>
#include <vector>

namespace convae {

/// Order of normalisation and activation after a convolution.
enum class Order { conv_bn_act, conv_act_bn };
enum class Activation { silu, relu, leaky_relu, gelu };
enum class Norm { batch, group, none };
/// Last function of the decoder. sigmoid and linear work on images in [0,1], tanh on [-1,1].
enum class Output { sigmoid, tanh, linear };

/// Everything that fixes the architecture of an Autoencoder.
struct ModelOptions {
  /// Image channels: 1 (grey) or 3 (RGB). 0 in a run's options: inferred from the images.
  std::int64_t channels = 0;

  /// Levels of the encoder, comma-separated: CHANNELS[:kHxWsHxWpHxWdHxW]. Example: "32,64:k5p2".
  std::string levels = "32,64,128,256";

  /// Kernel, stride, padding and dilation of levels that do not name their own.
  HW kernel{3, 3};
  HW stride{2, 2};
  HW padding{1, 1};
  HW dilation{1, 1};

  Order order = Order::conv_bn_act;
  Activation activation = Activation::silu;
  Norm norm = Norm::batch;

  /// Channels of the latent map after a 1×1 convolution; 0: no bottleneck of its own.
  std::int64_t latent_channels = 0;

  /// Numbers of a dense latent; 0: convolutional. Fixes the input's size to `size`.
  std::int64_t latent = 0;

  /// Input size of a model with a dense latent; {0, 0} otherwise.
  HW size{0, 0};

  Output output = Output::sigmoid;

  /// The bottleneck gives a normal distribution instead of numbers: the encoder's `latent` layer
  /// has twice the outputs, means before logarithms of variances.
  bool variational = false;

  /// The levels, parsed and checked. Throws GeometryError.
  std::vector<LevelSpec> level_specs() const;

  /// Throws std::invalid_argument naming the option, its value and what is expected.
  void validate() const;

  /// Number of weights of such a model, from the settings alone: nothing is allocated.
  /// Saturates at 2^62.
  std::int64_t parameter_count() const;

  /// Channels of the latent map; a dense latent has none, and this is the map's before it.
  std::int64_t latent_map_channels() const;

  /// Shape of one image's latent: {D}, or {c, h, w} for an input of that size. Throws
  /// GeometryError.
  std::vector<std::int64_t> latent_shape(HW input) const;

  /// Bytes that training on a CPU keeps for one image of that size between forward and backward
  /// pass: what the convolution of every level and the level itself give, in float32. Process
  /// memory is above that by weights, gradients and workspace. Throws GeometryError.
  std::int64_t training_bytes_per_image(HW input) const;
};

/// Names as they are written in options, configurations and checkpoints.
const char* to_string(Order order);
const char* to_string(Activation activation);
const char* to_string(Norm norm);
const char* to_string(Output output);

}  // namespace convae
