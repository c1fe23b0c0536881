#pragma once

#include "convae/core/callbacks.h"
#include "convae/data/loader.h"
#include "convae/data/split.h"
#include "convae/data/windows.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"
#include "convae/inference/tiles.h"
#include "convae/training/shared_work.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// Shared by all jobs that put a folder of images through a model.
namespace convae {

class OutputFolder;

/// The one size a model sees images at: that of a dense latent, or `asked`; {0, 0}: each at its
/// own. Throws OptionError where the two contradict each other.
Size fixed_network_size(Size asked, const ModelOptions& model);

/// Refuses images that cannot go through the model: at `fixed_size`, or at their own where that is
/// {0, 0}.
Refusal unfit_for(const ModelOptions& model, Size fixed_size);

/// The run folder of a model, also of one that was loaded from a file in it; empty without one.
std::filesystem::path run_of(const Model& model);

/// Throws std::runtime_error where memory cannot hold what an image of one of these sizes takes in
/// the network, or `bytes_a_value` of it. Returns how many pixels can go through it together.
std::int64_t require_memory(const Model& model, const std::vector<Size>& sizes,
                            std::int64_t bytes_a_value = 0);

/// Throws std::runtime_error where memory cannot hold so many bytes, of an image at its own size.
void require_memory_at(Size own, double bytes, const char* way_out);

/// Float images (N, C, H, W) in [0,1] → the size wanted, (N, C, own.h, own.w) in [0,1].
torch::Tensor resize_back(const torch::Tensor& images, Size own);

/// Throws std::runtime_error naming the image where its error is not finite: the network's weights
/// are of no use.
void require_finite(double error, const std::string& image);
void require_finite(const torch::Tensor& values, const std::string& image);

/// Throws OptionError where images of this size are larger than --max-pixels.
void require_within(Size size, std::int64_t max_pixels);

/// Why results cannot go to a folder that directly holds one of the images.
std::string among_images(const std::filesystem::path& output);

/// Warns of results that go to a folder which directly holds images, other than those that the job
/// itself is to write, and no results yet: from then on, it is a folder of results.
void warn_of_other_images(const std::filesystem::path& output, const Callbacks& callbacks,
                          const OutputFolder* own = nullptr);

/// The size at which a job wants to be handed images: their own, or the one the network sees.
enum class ImagesAt { own_size, network_size };

/// A model and the images of a folder that can go through it.
///
///     ModelFolder images(model, {.data = data, .batch_size = 16}, callbacks);
///     images.for_each("encode",
///         [&](const MicroBatch& batch) { return model.encode(images.network_input(batch.images));
///         },
///         [&](torch::Tensor latents) { … });
///
/// Several ranks share the work: all must make the same calls, and hear the same in the same order.
class ModelFolder {
public:
  /// Finds the images of options.data.data, and says how many there are. Without a `job`, none goes
  /// through in tiles. Throws OptionError, what find_images() throws, and std::runtime_error where
  /// memory cannot hold what one of them takes in the network.
  ModelFolder(Model model, const FolderOptions& options, const Callbacks& callbacks = {},
              ImagesAt at = ImagesAt::own_size,
              const std::optional<TilePlan::Job>& job = std::nullopt);
  /// Images that were found before, with unfit_for(model). Says nothing.
  ModelFolder(Model model, FoundImages images, const FolderOptions& options,
              const Callbacks& callbacks = {}, ImagesAt at = ImagesAt::own_size);

  /// Calls `make` with all images once, batch by batch, each of one size, but for those that go
  /// through in tiles; without gradients. Of several ranks each makes some of the batches, with
  /// what one process would make of them. `use` gets what comes of each on all ranks, in the order
  /// of one process: see SharedWork, also for what it may be. `stage` is what Callbacks::progress
  /// is told. Throws Interrupted, and std::runtime_error where none of the images could be read.
  template <typename Make, typename Use>
  void for_each(const std::string& stage, const Make& make, const Use& use) {
    using Result = std::invoke_result_t<Make, const MicroBatch&>;
    std::vector<Step> plan = plan_batches(dataset_, batches_);
    SharedWork<Result> work(std::ssize(plan), use);
    make_own(stage, std::move(plan), [&](const Step& step) {
      work.made(step.empty() ? std::nullopt : std::optional<Result>(make(step[0])));
    });
    work.finish();
    end_pass();
  }

  /// The same for those that go through in tiles, one by one. Where `make` throws an ImageError,
  /// the image is skipped.
  template <typename Make, typename Use>
  void for_each_tiled(const Make& make, const Use& use) {
    using Result = std::invoke_result_t<Make, std::int64_t, ImageWindows&>;
    const std::vector<std::int64_t> indices = tiled();
    SharedWork<Result> work(std::ssize(indices), use);
    for (auto i = work.first(); i < std::ssize(indices); i += work.step()) {
      const std::int64_t index = indices[static_cast<std::size_t>(i)];
      std::optional<Result> result;
      open_tiled(index, [&](ImageWindows& picture) { result = make(index, picture); });
      work.made(std::move(result));
    }
    work.finish();
    if (!indices.empty()) end_pass();
  }

  /// A warning about one of this rank's images, which is said once, whichever rank says it.
  void warn(const std::string& line);
  /// Leaves out an image that turned out unusable after it was decoded. All ranks must call it with
  /// the same. Throws std::runtime_error where bad files are not skipped.
  void skip(std::int64_t index, const std::string& reason);

  std::int64_t size() const { return dataset_.size(); }
  ImageEntry entry(std::int64_t index) const { return dataset_.entry(index); }
  std::string name(std::int64_t index) const { return dataset_.name(index); }
  std::vector<std::string> names() const { return dataset_.names(); }
  std::vector<std::filesystem::path> paths() const;
  /// Whether one of them, or of the shards they are in, lies directly in `folder`.
  bool has_images_in(const std::filesystem::path& folder) const;
  /// Files left out so far, by any rank: before they were decoded, and then those that turned out
  /// unusable by name.
  std::vector<SkippedFile> skipped() const;

  /// Where images are resized for the network: throws std::runtime_error where memory cannot hold
  /// the largest as it is decoded, and what a job makes of it at its own size.
  void require_memory_at_own_size(std::int64_t bytes_a_value) const;

  /// The size the network sees an image of `own` size at.
  Size network_size(Size own) const { return fixed_size_ ? fixed_size_ : own; }
  /// Those of all images that go through it as a whole, each once.
  std::vector<Size> network_sizes() const;
  /// A batch's images (N, C, H, W), as loaded → float in [0,1] at the network's size, on the
  /// model's device.
  torch::Tensor network_input(const torch::Tensor& images) const;

  bool is_tiled(std::int64_t index) const {
    return tiles_ && tiles_->takes(dataset_.image_size(index));  // never resized
  }
  const TilePlan& tiles() const { return *tiles_; }  ///< where an image is tiled

  const Model& model() const { return model_; }
  ImageDataset& dataset() { return dataset_; }
  std::int64_t workers() const { return batches_.workers; }  ///< threads, resolved

private:
  struct Found;  // images, and which of them are tiled
  ModelFolder(Model model, Found found, const FolderOptions& options, const Callbacks& callbacks,
              ImagesAt at);
  static Found find(const Model& model, const FolderOptions& options, const Callbacks& callbacks,
                    const std::optional<TilePlan::Job>& job);
  std::vector<std::int64_t> tiled() const;
  void make_own(const std::string& stage, std::vector<Step> plan,
                const std::function<void(const Step&)>& use);
  void open_tiled(std::int64_t index, const std::function<void(ImageWindows&)>& use);
  void end_pass();
  std::map<std::string, std::string> bad() const;
  void hear_ranks();

  Model model_;
  Callbacks callbacks_;
  bool skips_bad_;
  std::int64_t max_pixels_;
  std::optional<TilePlan> tiles_;
  Size fixed_size_;  // {0, 0}: every image at its own size
  BatchOptions batches_;
  std::vector<SkippedFile> skipped_;                  // before any image was decoded
  std::map<std::string, std::string> bad_later_;      // in tiles or by skip(): why, by name
  std::map<std::string, std::string> bad_elsewhere_;  // the same on other ranks
  std::vector<std::string> unheard_;                  // warnings of this rank
  ImageDataset dataset_;
  std::string said_clipped_;  // the line last said
};

}  // namespace convae
