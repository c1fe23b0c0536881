#pragma once

#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace convae {

/// A trained network, ready to use: in evaluation mode, with averaged weights where its checkpoint
/// has some. Images are (N, C, H, W), uint8 or uint16 as files hold them or float in [0,1], and
/// come back as float in [0,1] at exactly their size, on the model's device. Several threads may
/// use one model. Errors about shapes are c10::Error or GeometryError.
///
///     Model model = load("runs/latest");
///     torch::Tensor back = model.reconstruct(torch::rand({1, model.options().channels, 33, 57}));
class Model {
public:
  /// `net` as it is, put into evaluation mode.
  explicit Model(Autoencoder net, CheckpointInfo info = {}, std::filesystem::path path = {});

  torch::Tensor reconstruct(const torch::Tensor& images) const;

  /// → (N, c, h, w), or (N, D) with a dense latent.
  torch::Tensor encode(const torch::Tensor& images) const;

  /// Latents of images of `size` → images.
  torch::Tensor decode(const torch::Tensor& latents, Size size) const;

  /// Latents (count, c, h, w) or (count, D) from N(0, 1), for images of `size`; of a dense latent
  /// the size is known. Numbers of image i depend on `seed` and `first` + i alone.
  /// Throws std::runtime_error unless the model is variational.
  torch::Tensor draw_latents(std::int64_t count, Size size, std::uint64_t seed,
                             std::int64_t first = 0) const;
  /// The images of such latents.
  torch::Tensor sample(std::int64_t count, Size size, std::uint64_t seed = 0) const;

  const ModelOptions& options() const { return net_->options(); }
  const CheckpointInfo& info() const { return info_; }
  const std::filesystem::path& path() const { return path_; }  ///< of the checkpoint
  torch::Device device() const;
  Autoencoder net() const { return net_; }

private:
  torch::Tensor input(const torch::Tensor& images) const;

  Autoencoder net_;
  CheckpointInfo info_;
  std::filesystem::path path_;
};

/// The model of a run folder (weights/best.safetensors, else last) or of a checkpoint file, on
/// "auto", "cpu", "cuda" or "cuda:N". Throws CheckpointError, SafetensorsError, OptionError or
/// std::runtime_error.
Model load(const std::filesystem::path& run_or_file, const std::string& device = "auto");

}  // namespace convae
