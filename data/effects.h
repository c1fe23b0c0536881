#pragma once

#include "convae/core/api.h"

#include <string>
#include <vector>

namespace CONVAE_API convae {

/// A change to training images, and how much of it.
struct Effect {
  enum class Kind {
    // augmentations: input and target alike
    flip,
    flip_vertical,
    crop,
    brightness,
    contrast,
    // corruptions: the input alone
    noise,
    shot,
    blur,
    jpeg,
    shrink,
    cutout,
    grid,
    blemish,
    defects,
  };
  Kind kind{};
  double amount = 0;
  double most = amount;   ///< above amount: each image draws its own between the two
  double read_noise = 0;  ///< of shot: standard deviation in photons
  friend bool operator==(const Effect&, const Effect&) = default;
};

/// Applied in that order.
using Effects = std::vector<Effect>;

bool has(const Effects& effects, Effect::Kind kind);

/// "noise:0.02-0.2,blur:1"; "" for none.
std::string to_string(const Effects& effects);

/// NAME or NAME:AMOUNT, comma-separated, with or without blanks; "" or "none" for none. The amount
/// of noise, shot, blur and jpeg may be a range such as 0.02-0.2, of which each image draws its
/// own, all values being equally likely.
///
/// | augmentation  | amount | default |
/// |---------------|--------|---------|
/// | flip          | share of the images mirrored left to right | 0.5 |
/// | flip-vertical | share of the images mirrored upside down | 0.5 |
/// | crop          | smallest share of each side that is cut out and enlarged again | 0.8 |
/// | brightness    | most that is added to or taken from every value, of a range of 1 | 0.1 |
/// | contrast      | values move from or towards the image's mean by this share at most | 0.1 |
///
/// | corruption | amount | default |
/// |------------|--------|---------|
/// | noise      | standard deviation of Gaussian noise, of a range of 1 | 0.1 |
/// | shot       | photons of a white pixel (Poisson); `100+2` with read noise | 100 |
/// | blur       | σ of a Gaussian blur in pixels | 1 |
/// | jpeg       | quality of a JPEG, 1 to 100, with colour at half the resolution | 30 |
/// | shrink     | whole factor by which the image is made smaller and large again | 2 |
/// | cutout     | side of a grey square, as a share of the image's shorter side | 0.25 |
/// | grid       | distance in pixels of a grid of grey squares of half that side | 16 |
/// | blemish    | contrast of spots, scratches and displaced patches, of a range of 1 | 0.4 |
/// | defects    | share of the images that get a drawn defect | 0.75 |
///
/// Throws OptionError saying what was expected.
Effects parse_augmentations(const std::string& text);
Effects parse_corruptions(const std::string& text);

/// Throw OptionError for effects that were put together otherwise and that text could not give.
void require_augmentations(const Effects& effects);
void require_corruptions(const Effects& effects);

}  // namespace convae
