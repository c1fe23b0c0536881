#pragma once

#include "convae/data/folder.h"
#include "convae/metrics/measures.h"
#include "convae/models/geometry.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace convae::app {

/// A way to code images in few numbers or bytes, and how well it gives them back.
struct Contender {
  std::string key;              ///< "network", "pca", "mean_image", "network_8_bit" or "jpeg"
  std::string title;            ///< "PCA"
  std::string code;             ///< what an image takes: "16 numbers", "41.3 bytes"
  std::optional<double> bytes;  ///< an image, mean; where that is what it is matched in
  ImageMeasures measures;       ///< in the order of Evaluation::images
};

/// A reference that cannot be computed.
struct LeftOut {
  std::string key;
  std::string title;
  std::string reason;
};

/// An image that was measured, and the size it was measured at.
struct EvaluatedImage {
  std::string name;
  std::int64_t width = 0, height = 0;
};

/// Everything that `evaluate` finds out.
struct Evaluation {
  std::string checkpoint, data;
  std::vector<EvaluatedImage> images;
  std::vector<SkippedFile> skipped;
  Size size;  ///< of all images; {0, 0}: several
  std::int64_t channels = 0;
  std::int64_t numbers_in = 0, numbers_latent = 0;  ///< of all images together

  std::string train_data;            ///< folder of the references; empty: none
  std::int64_t training_images = 0;  ///< the references were fitted to
  std::int64_t trained_on = 0;       ///< of `images`, those among the training images
  std::string pca_method;
  std::string ranges_from;         ///< where the ranges of the 8-bit codes come from
  std::vector<double> jpeg_bytes;  ///< of each image's data
  double jpeg_header_bytes = 0;    ///< mean, of what all images share

  std::vector<Contender> contenders;
  std::vector<LeftOut> left_out;

  const Contender* find(const std::string& key) const;
};

/// For people: a table with intervals, what was left out and why, and who beats whom.
std::string evaluation_table(const Evaluation& evaluation);

/// For programs, one line.
std::string evaluation_json(const Evaluation& evaluation);

/// A row an image: path,width,height,mse,psnr,ssim,ms_ssim, and the same of each reference with
/// its key before the name.
std::string evaluation_csv(const Evaluation& evaluation);

}  // namespace convae::app
