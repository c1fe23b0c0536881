#pragma once

#include "convae/app/options/options.h"
#include "convae/core/device.h"
#include "convae/core/machine.h"
#include "convae/data/batches.h"
#include "convae/inference/model.h"
#include "convae/training/checkpoint.h"

#include <memory>
#include <string>
#include <vector>

namespace convae::app {

/// Logs each skipped file by name and reason.
void log_skipped(const std::vector<SkippedFile>& skipped);

/// Warns of each image that is the first page of several.
void log_unread_pages(const std::vector<ImageEntry>& entries);

/// Throws std::runtime_error naming the image where its error is not finite: the network's weights
/// are of no use.
void require_finite(double error, const std::string& image);

/// Throws UsageError saying that `flag` is needed where `value` is empty.
void require_given(const std::string& value, const char* flag, const char* example);

/// The one size the network sees images at: that of a dense latent, or --size; {0, 0}: each at its
/// own. Throws UsageError where the two contradict each other.
Size fixed_network_size(const Options& options, const ModelOptions& model);

/// What size a command's images come at: their own, or the one the network sees them at.
enum class ImagesAt { own_size, network_size };

/// A model and a folder of images to put through it.
struct Inference {
  Inference(const Options& options, std::vector<ImageEntry> entries, Model loaded, torch::Device on,
            ImagesAt at = ImagesAt::own_size);

  /// The size the network sees an image of `own` size at.
  Size network_size(Size own) const;

  /// (N, C, H, W) uint8 or uint16 of one size → float in [0,1] at the network's size.
  torch::Tensor network_input(const torch::Tensor& images) const;

  /// Float images in [0,1] at the network's size → the size wanted.
  static torch::Tensor resize_back(const torch::Tensor& images, Size own);

  Model model;
  torch::Device device;
  Size fixed_size;  ///< {0, 0}: every image at its own size
  std::int64_t workers;
  std::vector<SkippedFile> skipped;  ///< before any image was decoded
  ImageDataset dataset;              ///< at the images' own sizes unless asked for otherwise
};

/// Checks what commands with a checkpoint, images and results need. Throws UsageError.
void check_inference_options(const Options& options);

/// The model that `options` name, on that device, with a log line.
Model open_checkpoint(const Options& options, torch::Device device);

/// The images that can go through the network; the others go to `scan.skipped`, with a log line.
/// `folder` is what messages call the images' folder.
/// Throws std::runtime_error where none is left, or, with skip-bad false, for the first other.
std::vector<ImageEntry> usable_images(FolderScan& scan, const std::string& folder,
                                      const Options& options, const ModelOptions& model);

/// Loads the model, lists the images, reads their headers and leaves out, with a log line, those
/// that cannot be used. Throws std::runtime_error where none is left.
std::unique_ptr<Inference> start_inference(const Options& options,
                                           ImagesAt at = ImagesAt::own_size);

}  // namespace convae::app
