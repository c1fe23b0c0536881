#pragma once

#include "convae/core/api.h"
#include "convae/core/names.h"
#include "convae/core/size.h"
#include "convae/data/folder.h"
#include "convae/metrics/measures.h"
#include "convae/training/options.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// The network and its references: ways to code images in few numbers or bytes or, where the
/// network is shown corrupted images, to restore them.
enum class Coder {
  network,
  pca,
  mean_image,
  network_8_bit,
  jpeg,
  corrupted,  ///< nothing is done
  gaussian_blur,
  non_local_means
};
constexpr auto names(Coder) {
  return std::to_array<Name<Coder>>({{Coder::network, "network"},
                                     {Coder::pca, "pca"},
                                     {Coder::mean_image, "mean_image"},
                                     {Coder::network_8_bit, "network_8_bit"},
                                     {Coder::jpeg, "jpeg"},
                                     {Coder::corrupted, "corrupted"},
                                     {Coder::gaussian_blur, "gaussian_blur"},
                                     {Coder::non_local_means, "non_local_means"}});
}

/// How well a coder gives the images back, from how much.
struct Contender {
  Coder coder = Coder::network;
  std::int64_t numbers = 0;        ///< in an image's code, mean; where it is made of numbers
  std::optional<double> bytes;     ///< of an image's code, mean; where it is made of bytes
  std::optional<double> strength;  ///< of a filter: σ of the blur in pixels, h of the means
  ImageMeasures measures;          ///< in the order of Evaluation::images
};

/// A reference that could not be computed.
struct LeftOut {
  Coder coder;
  std::string reason;
};

/// An image that was measured, and the size it was measured at.
struct EvaluatedImage {
  std::string name;  ///< relative to the folder
  Size size;
};

/// The network beside a reference that codes images in as much, or restores them.
struct Duel {
  Coder network = Coder::network;  ///< or network_8_bit
  Coder rival = Coder::pca;
  MeanInterval difference;  ///< of their mean squared errors, the network's minus the rival's

  bool wins() const { return difference.mean < 0; }
  /// True where the difference's interval holds no other sign.
  bool is_settled() const { return difference.interval.low > 0 || difference.interval.high < 0; }
};

/// Everything that evaluate() finds out.
struct Evaluation {
  std::string checkpoint;              ///< its file
  std::string data;                    ///< folder of the images
  Precision precision{};               ///< the network computed in
  std::vector<EvaluatedImage> images;  ///< in the order they were measured
  std::vector<SkippedFile> skipped;
  Size size;                        ///< of all images; {0, 0}: several
  std::int64_t channels = 0;        ///< of all images
  std::int64_t numbers_in = 0;      ///< C·H·W of all images together
  std::int64_t numbers_latent = 0;  ///< of all images together
  std::string corruptions;          ///< of what the network was shown; empty: nothing

  std::string train_data;            ///< folder that references were fitted to; empty: none
  std::int64_t training_images = 0;  ///< that references were fitted to
  std::int64_t trained_on = 0;       ///< of `images`, how many are among the training images
  std::string pca_method;            ///< a name of PcaMethod; empty: no PCA
  std::string ranges_from;           ///< where the ranges of 8-bit codes come from; empty: no codes
  std::vector<double> jpeg_bytes;    ///< of each image, without headers and tables; empty: no JPEG
  double jpeg_header_bytes = 0;      ///< mean; the same for all images of one quality

  std::vector<Contender> contenders;  ///< the network first
  std::vector<LeftOut> left_out;      ///< the other coders

  /// Null where the coder was left out.
  const Contender* find(Coder coder) const;
  /// The network against PCA, the mean image, the corrupted image and filters, its 8-bit codes
  /// against JPEG, where they are.
  std::vector<Duel> duels() const;
};

/// One line for programs; docs/evaluation.md describes it.
std::string to_json(const Evaluation& evaluation);

/// A row an image: path,width,height,mse,psnr,ssim,ms_ssim, and the same of each reference with
/// its name before the measure's.
std::string to_csv(const Evaluation& evaluation);

}  // namespace convae
