#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/models/geometry.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// Order of normalisation and activation after a convolution.
enum class Order { conv_bn_act, conv_act_bn };
constexpr auto names(Order) {
  return std::to_array<Name<Order>>(
      {{Order::conv_bn_act, "conv-bn-act"}, {Order::conv_act_bn, "conv-act-bn"}});
}
enum class Activation { silu, relu, leaky_relu, gelu };
constexpr auto names(Activation) {
  return std::to_array<Name<Activation>>({{Activation::silu, "silu"},
                                          {Activation::relu, "relu"},
                                          {Activation::leaky_relu, "leaky-relu"},
                                          {Activation::gelu, "gelu"}});
}
enum class Norm { batch, group, none };
constexpr auto names(Norm) {
  return std::to_array<Name<Norm>>(
      {{Norm::batch, "batch"}, {Norm::group, "group"}, {Norm::none, "none"}});
}
/// Last function of the decoder. sigmoid and linear work on images in [0,1], tanh on [-1,1].
enum class Output { sigmoid, tanh, linear };
constexpr auto names(Output) {
  return std::to_array<Name<Output>>(
      {{Output::sigmoid, "sigmoid"}, {Output::tanh, "tanh"}, {Output::linear, "linear"}});
}
/// What goes around every level without weights; see LevelImpl. shuffle: pixels become channels and
/// are averaged going down, and come back from repeated channels going up.
enum class Shortcut { none, shuffle };
constexpr auto names(Shortcut) {
  return std::to_array<Name<Shortcut>>({{Shortcut::none, "none"}, {Shortcut::shuffle, "shuffle"}});
}
/// What the decoder gets beside the latent. add: each of its levels adds what the encoder had at
/// that size.
enum class Skip { none, add };
constexpr auto names(Skip) {
  return std::to_array<Name<Skip>>({{Skip::none, "none"}, {Skip::add, "add"}});
}

/// What goes past the convolutions of a bottleneck. pca: the latent starts as the principal
/// components of the training images or of their blocks, and the decoder as a network that restores
/// the image that they alone give; see LinearCode.
enum class Linear { none, pca };
constexpr auto names(Linear) {
  return std::to_array<Name<Linear>>({{Linear::none, "none"}, {Linear::pca, "pca"}});
}

/// A 3×3 convolution of the detector, with what follows it.
struct DetectorLayer {
  enum class Kind {
    down,   ///< from the image, or by stride 2 from the level above
    keep,   ///< at the same size
    up,     ///< transposed, by stride 2 from the level below
    merge,  ///< of what comes from below and, beside it, what went down there
    last    ///< to the map, four pixels a value, without normalisation and activation
  };
  Kind kind;
  std::size_t level;  ///< of its output; 0 is half the image's size, each further one half again
  std::int64_t in, out;

  std::string name() const;  ///< "down0"; "last"
  LevelSpec spec() const;
};

/// The architecture of an Autoencoder.
struct ModelOptions {
  /// Image channels: 1 (grey) or 3 (RGB). 0 in a run's options: inferred from the images.
  std::int64_t channels = 0;

  /// Levels of the encoder, from the image down; the decoder mirrors them. See parse_levels().
  std::vector<LevelSpec> levels{{32}, {64}, {128}, {256}};

  Order order = Order::conv_bn_act;
  Activation activation = Activation::silu;
  Norm norm = Norm::batch;

  /// Channels of the latent map after a 1×1 convolution; 0: no such bottleneck.
  std::int64_t latent_channels = 0;

  /// Numbers in a dense latent; 0: convolutional. Fixes the input's size to `size`.
  std::int64_t latent = 0;

  /// Input size of a model with a dense latent; {0, 0} otherwise.
  Size size{0, 0};

  Output output = Output::sigmoid;

  /// The bottleneck gives normal distributions: the encoder's `latent` layer has twice the outputs,
  /// means before logarithms of variances.
  bool variational = false;

  Shortcut shortcut = Shortcut::none;

  /// Needs a bottleneck and `output` linear.
  Linear linear = Linear::none;

  /// For restoring images: with `add` there is no narrow latent, see has_latents().
  Skip skip = Skip::none;

  /// The network predicts what to take away from its input. Needs `output` linear; outside training
  /// the difference is limited to [0,1].
  bool residual = false;

  /// Channels of the detector, from half the image's size down, such as {16, 32, 64}: a network
  /// beside the autoencoder that learns from drawn defects where an image is anomalous. Empty:
  /// none.
  std::vector<std::int64_t> detector;

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;

  /// Number of weights, the detector's included, computed without allocating any. Saturates at
  /// 2^62.
  std::int64_t parameter_count() const;

  /// The detector's convolutions in the order of their calls; none without one.
  std::vector<DetectorLayer> detector_layers() const;

  /// Whether latents alone can be decoded: neither skip nor residual gives the decoder more.
  bool has_latents() const { return skip == Skip::none && !residual; }
  /// Throws OptionError, which begins with `what` is asked for, unless has_latents().
  void require_latents(const std::string& what) const;

  /// Channels of the latent map; a dense latent has none, and this is the map's before it.
  std::int64_t latent_map_channels() const;

  /// Numbers of a dense latent, else channels of latent_channels; 0: no bottleneck.
  std::int64_t bottleneck_numbers() const { return latent > 0 ? latent : latent_channels; }

  /// What one latent of a linear path codes: the image, if the latent is dense, else a block with
  /// sides of the product of the levels' strides.
  Size linear_block() const;

  /// The network that restores the image of a linear path; see DecoderImpl.
  ModelOptions restorer() const;

  /// Shape of one image's latent: {D}, or {c, h, w} for an input of that size. Throws
  /// GeometryError.
  std::vector<std::int64_t> latent_shape(Size input) const;

  /// Bytes that training on a CPU keeps for one image of that size between forward and backward
  /// pass: the outputs of every level and of its convolution, in float32. Weights, gradients and
  /// workspace come on top. Throws GeometryError.
  std::int64_t training_bytes_per_image(Size input) const;

  /// Bytes that inference holds at least for one image of that size: the input and output of the
  /// largest level and the image itself, in float32. Throws GeometryError.
  std::int64_t inference_bytes_per_image(Size input) const;
};

/// The size of the detector's maps at a level, of an image of that size.
Size detector_map(Size image, std::size_t level);

/// "16,32,64", or "" or "none" for none. Throws OptionError saying what was expected.
std::vector<std::int64_t> parse_widths(const std::string& text);
std::string widths_text(const std::vector<std::int64_t>& widths);

}  // namespace convae
