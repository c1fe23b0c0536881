#pragma once

#include "convae/core/api.h"
#include "convae/models/blocks.h"
#include "convae/models/detector.h"
#include "convae/models/level.h"
#include "convae/models/linear_code.h"
#include "convae/models/options.h"

#include <memory>
#include <optional>
#include <vector>

namespace CONVAE_API convae {

/// A variational encoder's output: an independent normal distribution for each latent number
/// (Kingma & Welling 2014, https://arxiv.org/abs/1312.6114).
struct LatentDistribution {
  torch::Tensor mean;          ///< (N, c, h, w) or (N, D)
  torch::Tensor log_variance;  ///< the same shape, limited to [-20, 10]
};

/// Strided convolutions and, if the options have one, a bottleneck.
/// Children: `0` … `L-1` (Level), `latent` (1×1 convolution or linear layer), `linear` (LinearCode)
/// where options.linear asks for one: then the latent is the sum of its code and of what `latent`
/// gives.
class EncoderImpl : public torch::nn::Module {
public:
  explicit EncoderImpl(const ModelOptions& options);

  /// x: (N, C, H, W) in the model's range → latent (N, c, h, w), or (N, D) with a dense latent; the
  /// means of a variational model. Throws GeometryError where H×W cannot pass.
  torch::Tensor forward(const torch::Tensor& x);
  /// The same for batches of several sizes at once; see Block::forward. Where the options have
  /// skip add, `skipped` gets what each level but the last gives, for the decoder.
  Maps forward(const Maps& batches, std::vector<Maps>* skipped = nullptr);

  /// The whole distributions of a variational model.
  std::vector<LatentDistribution> distributions(const Maps& batches);

  /// Null without options.linear.
  LinearCode linear() const { return linear_; }

private:
  Maps bottleneck(const Maps& batches, std::vector<Maps>* skipped = nullptr);

  ModelOptions options_;
  std::vector<Level> blocks_;
  torch::nn::Conv2d latent_conv_{nullptr};
  torch::nn::Linear latent_linear_{nullptr};
  LinearCode linear_{nullptr};
};
TORCH_MODULE(Encoder);

/// The encoder's mirror: transposed convolutions, each with the output_padding that restores the
/// size the encoder saw. Children: `latent` (Block), `0` … `L-1` (Level), deepest level first.
///
/// Where options.linear asks for one, `linear` (LinearCode) makes an image of the latent, and the
/// levels are those of a network with skip connections that restores it: `down` (Encoder) goes from
/// that image to the deepest level, in place of `latent`, and what comes out is added to the image.
class DecoderImpl : public torch::nn::Module {
public:
  explicit DecoderImpl(const ModelOptions& options);

  /// latent: as from the encoder; `size`: of the images. Returns (N, C, size.h, size.w) in the
  /// model's range. Throws GeometryError where a latent of that shape cannot come from such an
  /// image.
  torch::Tensor forward(const torch::Tensor& latent, Size size);

  /// The same for batches of several sizes at once; `skipped` is what the encoder gave.
  Maps forward(const Maps& latents, const std::vector<Size>& sizes,
               const std::vector<Maps>& skipped = {});

  /// Up to the last convolution, without its bias, last_bias(), and the output function; and what
  /// was left out.
  Maps forward_open(const Maps& latents, const std::vector<Size>& sizes,
                    const std::vector<Maps>& skipped = {});
  Maps close(const Maps& open) const;
  torch::Tensor last_bias() const { return blocks_.back()->conv_bias(); }

  /// Null without options.linear.
  LinearCode linear() const { return linear_; }

private:
  /// All but the output's activation; `open`: without the last convolution's bias.
  Maps before_output(const Maps& latents, const std::vector<Size>& sizes, std::vector<Maps> skipped,
                     bool open);
  torch::Tensor output_of(const torch::Tensor& x) const;
  void check_latent(const torch::Tensor& latent, Size size, Size map) const;

  ModelOptions options_;
  Block latent_block_{nullptr};
  LinearCode linear_{nullptr};
  Encoder down_{nullptr};
  std::vector<Level> blocks_;
};
TORCH_MODULE(Decoder);

/// Encoder and decoder; the reconstruction has exactly the input's size. Where the options ask for
/// one, a detector beside them marks what is anomalous.
///
///     Autoencoder net(ModelOptions{.channels = 3});
///     net->forward(torch::rand({1, 3, 481, 321}));   // (1, 3, 481, 321)
///     net->forward(torch::rand({2, 3, 24, 25}));     // (2, 3, 24, 25)
class AutoencoderImpl : public torch::nn::Module {
public:
  /// Throws OptionError where the options do not work.
  explicit AutoencoderImpl(const ModelOptions& options);

  /// x: (N, C, H, W) in the model's range → (N, C, H, W).
  torch::Tensor forward(const torch::Tensor& x);
  /// The same for batches of several sizes at once; in training, batch normalisation takes its
  /// statistics over all of them.
  Maps forward(const Maps& batches);

  /// The reconstructions, from what the decoder gave for `inputs`: the same, or where the options
  /// have residual, what is left of the inputs without it; outside training limited to [0,1].
  Maps finish(Maps decoded, const Maps& inputs) const;

  /// The same network with weights, buffers and mode of its own, on `device` or where it is.
  ///
  ///     Autoencoder copy(std::dynamic_pointer_cast<AutoencoderImpl>(net->clone()));
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

  /// An optimizer step of one or several forward passes begins and ends: then running statistics
  /// move once. See BatchNorm.
  void begin_step();
  void commit_statistics();

  /// Where images are anomalous: both (N, C, H, W) in [0,1] → (N, 1, H, W); see Detector::forward.
  /// Needs options().detector.
  torch::Tensor detect(const torch::Tensor& images, const torch::Tensor& reconstructions);

  const ModelOptions& options() const { return options_; }

  Encoder encoder{nullptr};
  Decoder decoder{nullptr};
  Detector detector{nullptr};  ///< null without options().detector

private:
  ModelOptions options_;
  std::vector<BatchNorm> batch_norms_;
};
TORCH_MODULE(Autoencoder);

/// mean + deviation·noise, with noise shaped like the mean and drawn from N(0, 1).
torch::Tensor sample(const LatentDistribution& distribution, const torch::Tensor& noise);

/// Kullback-Leibler divergence from N(0, 1) of each image, mean over its latent numbers:
/// (mean² + variance - 1 - log variance) / 2. → (N) float, at least 0.
torch::Tensor divergence(const LatentDistribution& distribution);

/// Images (N, C, H, W) in [0,1] → latents; latents of images of `size` → images in [0,1]; and both.
torch::Tensor encode_images(Autoencoder net, const torch::Tensor& images);
torch::Tensor decode_images(Autoencoder net, const torch::Tensor& latents, Size size);
torch::Tensor reconstruct_images(Autoencoder net, const torch::Tensor& images);

}  // namespace convae
