#pragma once

#include "convae/core/api.h"
#include "convae/core/errors.h"
#include "convae/core/size.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Sizes of strided convolutions and of the transposed convolutions that undo them: integers only.
///
/// Per axis, with kernel k, stride s, padding p, dilation d and span e = d(k-1)+1:
///
///     convolution             m  = floor((n + 2p - e) / s) + 1        needs n + 2p >= e
///     transposed convolution  n' = (m - 1)s - 2p + e + output_padding
///     n' = n                  <=>  output_padding = (n + 2p - e) mod s
///
/// (Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.) The remainder
/// is below s, so a transposed convolution always accepts it.
namespace CONVAE_API convae {

/// Levels or sizes that cannot work. what() names level, axis, numbers and what would work.
class GeometryError : public OptionError {
public:
  using OptionError::OptionError;
};

/// A convolution along one axis.
struct Axis {
  std::int64_t kernel, stride, padding, dilation;

  /// Pixels under the kernel from its first to its last tap, e.
  std::int64_t span() const { return dilation * (kernel - 1) + 1; }
  /// What a convolution makes of length n; nullopt where the padded input is shorter than the span.
  std::optional<std::int64_t> conv_length(std::int64_t n) const;
  /// What a transposed convolution makes of length m.
  std::int64_t conv_transpose_length(std::int64_t m, std::int64_t output_padding = 0) const;
  /// The output_padding with which conv_transpose_length(conv_length(n)) = n. Needs a length n that
  /// conv_length() takes.
  std::int64_t output_padding_for(std::int64_t n) const;
  /// Whether conv_length(n) is n / stride, rounded up or down, for every n that it takes.
  bool divides_by_stride() const;
  /// Whether that is always rounded up: the kernel's middle lies on pixels.
  bool rounds_up() const { return span() == 2 * padding + 1; }
};

/// One level of the encoder and, mirrored, of the decoder.
struct LevelSpec {
  std::int64_t channels = 0;  ///< of the encoder's output
  Size kernel{3, 3};
  Size stride{2, 2};
  Size padding{1, 1};
  Size dilation{1, 1};
  std::int64_t residual_blocks = 0;  ///< after the convolution, and before its mirror
  Axis vertical() const { return {kernel.h, stride.h, padding.h, dilation.h}; }
  Axis horizontal() const { return {kernel.w, stride.w, padding.w, dilation.w}; }
  friend bool operator==(const LevelSpec&, const LevelSpec&) = default;
};

/// A 3×3 convolution that keeps the size.
LevelSpec keeping_size(std::int64_t channels);

/// Sizes of one level for one input size.
struct LevelPlan {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  Size in;              ///< of the convolution's input and its mirror's output
  Size out;             ///< of the convolution's output and its mirror's input
  Size output_padding;  ///< with which the transposed convolution gives `in` back
  /// What it would give with output_padding 0.
  Size without_output_padding() const { return {in.h - output_padding.h, in.w - output_padding.w}; }
};

/// Sizes of a whole network for one input size; levels in the encoder's order.
struct Plan {
  Size input;
  std::vector<LevelPlan> levels;
  Size latent() const { return levels.empty() ? input : levels.back().out; }
};

/// The plan for an image of `channels` × input.h × input.w.
/// Throws GeometryError naming level, axis, sizes and what would work.
Plan plan_sizes(const std::vector<LevelSpec>& levels, Size input, std::int64_t channels);

/// Why `input` cannot pass through the levels, or nullopt if it can. Throws as check_levels().
std::optional<std::string> why_impossible(const std::vector<LevelSpec>& levels, Size input);

/// The smallest input for which every level has something to convolve, per axis.
Size smallest_input(const std::vector<LevelSpec>& levels);

/// Throws GeometryError unless there are 1 to 64 levels with kernel, stride, dilation and channels
/// of at least 1, padding of at least 0, and all small enough that no sum overflows.
void check_levels(const std::vector<LevelSpec>& levels);

/// Reads one level: CHANNELS[:kHxW sHxW pHxW dHxW rN without blanks], such as "128",
/// "64:k5s2p2", "256:k3x5s2x1p1x2d1", "128:r2" with two residual blocks. A single number serves
/// both axes; what is left out comes from `defaults`. Throws GeometryError with the text and what
/// is wrong with it.
LevelSpec parse_level(std::string_view text, const LevelSpec& defaults = {});

/// Reads a comma-separated list of levels: "32,64,128:k3s2p1".
std::vector<LevelSpec> parse_levels(std::string_view text, const LevelSpec& defaults = {});

/// The level in the grammar of parse_level, complete: "128:k3x3s2x2p1x1d1x1", and "r2"
/// at its end where it has residual blocks.
std::string to_string(const LevelSpec& level);

/// The same for a list, comma-separated.
std::string to_string(const std::vector<LevelSpec>& levels);

/// A level's settings for people: "k3 s2 p1", "k3x5 s2 p1 d2 r2".
std::string settings_text(const LevelSpec& level);

}  // namespace convae
