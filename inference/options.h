#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/data/options.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace CONVAE_API convae {

/// Which images a model is to see, and how. The number of channels is the model's.
struct FolderOptions {
  /// Used are data.data (the folder), data.include and exclude, data.size (what the network sees
  /// images at; {0, 0}: each at its own size), data.workers, data.skip_bad and data.max_pixels.
  DataOptions data;
  std::int64_t batch_size = 16;  ///< at most so many images go through the network together
  std::string prefix = {};       ///< before the images' names, which are relative to the folder
  /// Side in pixels of the tiles in which larger images go through the network, with the result of
  /// whole ones; data.max_pixels is then the limit of a tile. 0: a side that suits memory, for
  /// images that memory or data.max_pixels would not take as a whole; nullopt: the same, but images
  /// above data.max_pixels cannot be used. By reconstruct, encode and score alone.
  std::optional<std::int64_t> tile = {};

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;
};

/// What reconstructions are written as: 8-bit PNG, or what the input is, with its depth.
enum class WriteAs { png, keep };
constexpr auto names(WriteAs) {
  return std::to_array<Name<WriteAs>>({{WriteAs::png, "png"}, {WriteAs::keep, "keep"}});
}

/// What is made of a latent (c, h, w) before it is written: nothing, or its mean over the area (c).
enum class Pooling { none, mean };
constexpr auto names(Pooling) {
  return std::to_array<Name<Pooling>>({{Pooling::none, "none"}, {Pooling::mean, "mean"}});
}

}  // namespace convae
