#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/core/tensor.h"
#include "convae/training/checkpoint_info.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace CONVAE_API convae {

class Autoencoder;
class AutoencoderImpl;

/// A trained network, ready to use: in evaluation mode, with averaged weights where its checkpoint
/// has some. Images are (N, C, H, W), uint8 or uint16 as files hold them (whole numbers of any type
/// where the model has a value range) or float in [0,1], and come back as float in [0,1] at exactly
/// their size, on the model's device. Several threads may use one model. Errors about shapes are
/// c10::Error or GeometryError; images of other types are std::invalid_argument.
///
///     Model model = load("runs/latest");
///     torch::Tensor back = model.reconstruct(images);
class Model {
public:
  /// `net` as it is, put into evaluation mode.
  explicit Model(const Autoencoder& net, CheckpointInfo info = {}, std::filesystem::path path = {},
                 std::filesystem::path run = {});

  torch::Tensor reconstruct(const torch::Tensor& images) const;

  /// Where images are anomalous, seen beside their reconstruct()ions: (N, 1, H, W), from 0 to 1.
  /// Throws std::runtime_error unless the model has a detector.
  torch::Tensor detect(const torch::Tensor& images, const torch::Tensor& reconstructions) const;

  /// → (N, c, h, w), or (N, D) with a dense latent. This and decode() throw OptionError where the
  /// options say that latents are not all the decoder needs.
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

  /// Throws std::runtime_error unless latents can be drawn.
  void require_variational() const;

  /// The same model, computing in that precision: see choose_precision(), and what it throws.
  /// What comes out is float in each. A new model computes in fp32. On a GPU, fp32 and tf32 are
  /// settings of the process: the last call, or load(), decides for all its models.
  Model in_precision(Precision precision, const Callbacks& callbacks = {}) const;
  Precision precision() const { return precision_; }

  const ModelOptions& options() const;
  const CheckpointInfo& info() const { return info_; }
  const std::filesystem::path& path() const { return path_; }  ///< of the checkpoint
  /// The run folder it was loaded from, where a link leads; empty where a file was named.
  const std::filesystem::path& run() const { return run_; }
  /// A digest of weights and buffers, in 16 hex digits.
  std::string weights_digest() const;
  torch::Device device() const;
  Autoencoder net() const;  ///< see models/autoencoder.h

  /// What the network sees of images as files hold them, by its value range; float images stay.
  torch::Tensor input(const torch::Tensor& images) const;

private:
  std::shared_ptr<AutoencoderImpl> net_;
  CheckpointInfo info_;
  std::filesystem::path path_, run_;
  Precision precision_ = Precision::fp32;
};

/// The model of a run folder (weights/best.safetensors, else last) or of a checkpoint file, on
/// "auto", "cpu", "cuda" or "cuda:N". Throws CheckpointError, SafetensorsError, OptionError or
/// std::runtime_error.
Model load(const std::filesystem::path& run_or_file, const std::string& device = "auto");

/// "checkpoint runs/a/weights/best.safetensors: epoch 20, step 400, 3 channels, levels 32:k3x3…"
std::string checkpoint_line(const Model& model);

/// What its checkpoint holds, one line of JSON: "file", "format", "epoch", "step", "parameters",
/// "channels", "levels" and its other options, "best-loss" …; null for what it does not have.
std::string description_json(const Model& model);

}  // namespace convae
