#include "convae/evaluation/evaluate.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/core/parallel.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/evaluation/filters.h"
#include "convae/evaluation/jpeg_size.h"
#include "convae/evaluation/references.h"
#include "convae/inference/folder.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"
#include "convae/training/corruption.h"
#include "convae/training/memory.h"
#include "convae/training/saved_data.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <span>
#include <tuple>

namespace convae {
namespace {

/// Images on their way through all coders.
struct Batch {
  torch::Tensor stored;            ///< (N, C, H, W) uint8 or uint16
  torch::Tensor images;            ///< the same as float in [0,1], on the model's device
  torch::Tensor shown;             ///< the same, corrupted
  torch::Tensor latents;           ///< (N, c, h, w) or (N, D); none where images are restored
  std::vector<SizedJpeg> jpegs{};  ///< of each image, where they are coded so

  Size size() const { return {images.size(2), images.size(3)}; }
};

/// What was found of the images of a batch.
struct MeasuredBatch {
  std::vector<std::int64_t> images;     ///< in the folder
  std::vector<ImageMeasures> measures;  ///< of each coder
  std::vector<double> jpeg_bytes, jpeg_header_bytes;

  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.images, self.measures, self.jpeg_bytes, self.jpeg_header_bytes);
  }
};

// Images that filters are tried on.
constexpr std::int64_t kTrials = 10;
// Few: a stop is asked for between them, and non-local means take seconds for a photograph.
constexpr std::int64_t kRestoredTogether = 8;

FolderOptions images_of(const EvaluateOptions& options) {
  FolderOptions images = options.images;
  if (options.corruptions.empty()) return images;
  require_option(options.train_data.empty(),
                 "--train-data " + in_quotes(options.train_data) +
                     " is of no use with --corrupt, whose references need no training images; "
                     "leave one of them out");
  images.batch_size = std::min(images.batch_size, kRestoredTogether);
  return images;
}

class Evaluator {
public:
  Evaluator(const Model& model, const EvaluateOptions& options, const Callbacks& callbacks)
      : model_(model),
        options_(options),
        callbacks_(callbacks),
        folder_(model, images_of(options), callbacks, ImagesAt::network_size),
        rule_{options.corruptions, options.seed, /*epoch=*/0,
              good_pictures_for(options.corruptions, folder_.dataset())} {
    require_option(!folder_.has_images_in(options.output), among_images(options.output));
    warn_of_other_images(options.output, callbacks);
    require_memory(model, folder_.network_sizes(), kMeasuredBytesAValue);
    result_.checkpoint = model.path().string();
    result_.precision = model.precision();
    result_.data = options.images.data.data;
    result_.channels = model.options().channels;
    result_.size = one_size();
    result_.corruptions = to_string(options.corruptions);
    if (restores()) {
      add_ways_to_restore();
    } else if (model.options().has_latents()) {
      add_ways_to_code();
    } else {
      add_network_alone();
    }
  }

  Evaluation run() {
    folder_.for_each(
        "evaluate", [&](const MicroBatch& batch) { return measure(batch); },
        [&](const MeasuredBatch& measured) { note(measured); });
    result_.skipped = folder_.skipped();
    const bool has_own_references = model_.options().has_latents() && options_.train_data.empty();
    if (!restores() && !has_own_references) note_training_images();
    add_code_sizes();
    return std::move(result_);
  }

private:
  /// What a coder leaves of the images: float in [0,1].
  using Reconstruct = std::function<torch::Tensor(Batch&)>;

  void add(Coder coder, Reconstruct reconstruct) {
    result_.contenders.push_back({.coder = coder, .bytes = {}, .strength = {}, .measures = {}});
    reconstructs_.push_back(std::move(reconstruct));
  }

  void leave_out(Coder coder, const std::string& reason) {
    result_.left_out.push_back({coder, reason});
  }

  void leave_out_references(const std::string& reason) {
    for (const Coder coder : {Coder::pca, Coder::mean_image, Coder::network_8_bit, Coder::jpeg}) {
      leave_out(coder, reason);
    }
  }

  bool restores() const { return !rule_.corruptions.empty(); }

  void add_ways_to_restore() {
    add(Coder::network, [&](const Batch& b) { return model_.reconstruct(b.shown); });
    add(Coder::corrupted, [](const Batch& b) { return b.shown.clamp(0, 1); });
    const std::vector<Trial> trials = read_trials();
    add_filter(Coder::gaussian_blur, gaussian_blur, kBlurStrengths, trials);
    if (kHasNonLocalMeans) {
      add_filter(Coder::non_local_means, non_local_means, kMeansStrengths, trials);
    } else {
      leave_out(Coder::non_local_means, "convae was built without OpenCV's module photo");
    }
    leave_out_references("they code images; with --corrupt, images are restored");
  }

  std::vector<Trial> read_trials() {
    std::vector<Trial> trials;
    const std::int64_t count = std::min(folder_.size(), kTrials);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t index = i * folder_.size() / count;
      const auto stored = folder_.dataset().load(index);
      if (!stored) continue;
      const torch::Tensor image = folder_.network_input(stored->unsqueeze(0)).cpu();
      trials.push_back({image, corrupt(image, rule_, {index})});
      trials.back().keep_middle();
    }
    return trials;
  }

  void add_filter(Coder coder, Filter filter, std::span<const double> strengths,
                  const std::vector<Trial>& trials) {
    const double best = best_strength(filter, strengths, trials, callbacks_);
    add(coder, [filter, best](const Batch& b) { return filter(b.shown, best); });
    result_.contenders.back().strength = best;
  }

  void add_network_alone() {
    add(Coder::network, [&](const Batch& b) { return model_.reconstruct(b.images); });
    leave_out_references("the model has no latent whose size they could have");
  }

  std::int64_t latent_numbers(Size size) const {
    return c10::multiply_integers(model_.options().latent_shape(size));
  }

  /// The size of all images, or {0, 0}.
  Size one_size() const {
    const std::vector<Size> sizes = folder_.network_sizes();
    return sizes.size() == 1 ? sizes[0] : Size{};
  }

  void add_ways_to_code() {
    add(Coder::network, [&](const Batch& b) { return model_.decode(b.latents, b.size()); });
    references_ = fit_references(model_, options_, result_.size, callbacks_);
    result_.train_data = references_.folder;
    result_.training_images = references_.images;
    add_pca();
    add_mean_image();
    add_codes_of_8_bits();
    add_jpeg();
  }

  void add_pca() {
    if (!references_.pca) return leave_out(Coder::pca, references_.why_no_pca);
    result_.pca_method = to_string(references_.pca_method);
    add(Coder::pca, [&](const Batch& b) {
      const torch::Tensor images = b.images.cpu();
      // Cut to the range of images, as what the network gives is.
      return images_of_rows(references_.pca->project(rows_of_images(images)).clamp(0, 1), images);
    });
  }

  void add_mean_image() {
    if (references_.statistics.count == 0) {
      return leave_out(Coder::mean_image, references_.why_no_pca);
    }
    add(Coder::mean_image, [&](const Batch& b) {
      const torch::Tensor images = b.images.cpu();
      return images_of_rows(references_.statistics.mean.expand_as(rows_of_images(images)), images);
    });
  }

  void add_codes_of_8_bits() {
    const bool of_training = references_.missing.empty();
    if (!of_training) references_.rounding.see(folder_);
    result_.ranges_from = std::string("each channel's smallest and largest value on ") +
                          (of_training ? "the training images" : "these images");
    add(Coder::network_8_bit, [&](const Batch& b) {
      return model_.decode(references_.rounding.round(b.latents), b.size());
    });
  }

  void add_jpeg() {
    const auto is_too_long = [](Size size) { return std::max(size.h, size.w) > kMaxJpegSide; };
    if (std::ranges::any_of(folder_.network_sizes(), is_too_long)) {
      return leave_out(Coder::jpeg, "a side is above " + std::to_string(kMaxJpegSide));
    }
    add(Coder::jpeg, [&](Batch& b) {
      const std::int64_t bytes = latent_numbers(b.size());
      b.jpegs.resize(static_cast<std::size_t>(b.stored.size(0)));
      std::vector<torch::Tensor> images(b.jpegs.size());
      parallel_for_each(b.stored.size(0), [&](std::int64_t at) {
        const auto i = static_cast<std::size_t>(at);
        b.jpegs[i] = encode_jpeg_near(b.stored[at], bytes);
        images[i] = decode_jpeg(b.jpegs[i], b.stored.size(1));
      });
      return to_float(torch::stack(images), model_.device());
    });
  }

  MeasuredBatch measure(const MicroBatch& batch) {
    Batch b{batch.images, folder_.network_input(batch.images), {}, {}};
    b.shown = corrupt(b.images, rule_, batch.indices);
    if (model_.options().has_latents() && !restores()) b.latents = model_.encode(b.images);
    MeasuredBatch measured{batch.indices, {}, {}, {}};
    for (const Reconstruct& reconstruct : reconstructs_) {
      const torch::Tensor found = reconstruct(b);
      measured.measures.emplace_back().add(found, b.images.to(found.device()));
      if (measured.measures.size() == 1) require_finite_errors(measured);
    }
    for (const SizedJpeg& jpeg : b.jpegs) {
      measured.jpeg_bytes.push_back(static_cast<double>(jpeg.picture_bytes));
      measured.jpeg_header_bytes.push_back(
          static_cast<double>(std::ssize(jpeg.file) - jpeg.picture_bytes));
    }
    return measured;
  }

  /// Of the network, which comes first.
  void require_finite_errors(const MeasuredBatch& measured) const {
    const auto& errors = measured.measures[0].values(Measure::mse);
    for (std::size_t i = 0; i < errors.size(); ++i) {
      require_finite(errors[i], folder_.name(measured.images[i]));
    }
  }

  void note(const MeasuredBatch& measured) {
    for (std::size_t i = 0; i < measured.measures.size(); ++i) {
      result_.contenders[i].measures += measured.measures[i];
    }
    std::ranges::copy(measured.jpeg_bytes, std::back_inserter(result_.jpeg_bytes));
    for (const double bytes : measured.jpeg_header_bytes) result_.jpeg_header_bytes += bytes;
    for (const std::int64_t index : measured.images) {
      const Size size = folder_.dataset().image_size(index);
      result_.images.push_back({folder_.name(index), size});
      result_.numbers_in += result_.channels * size.area();
      if (model_.options().has_latents()) result_.numbers_latent += latent_numbers(size);
      measured_.push_back(index);
      if (references_.files.contains(image_id(folder_.entry(index).file))) ++result_.trained_on;
    }
  }

  /// Those of the run, if there is one: the references may be fitted to others.
  void note_training_images() {
    const std::filesystem::path run = run_of(model_);
    if (run.empty()) return;
    const auto image_at = [this](std::int64_t i) {
      return folder_.entry(measured_[static_cast<std::size_t>(i)]).file;
    };
    result_.trained_on =
        own_images_among(std::ssize(measured_), image_at, run, model_.info()).training;
  }

  void add_code_sizes() {
    const auto count = static_cast<double>(result_.images.size());
    const std::vector<double>& jpeg = result_.jpeg_bytes;
    result_.jpeg_header_bytes /= count;
    for (Contender& contender : result_.contenders) {
      if (contender.coder == Coder::network || contender.coder == Coder::pca) {
        contender.numbers = std::llround(static_cast<double>(result_.numbers_latent) / count);
      } else if (contender.coder == Coder::network_8_bit) {
        contender.bytes = static_cast<double>(result_.numbers_latent) / count;
      } else if (contender.coder == Coder::jpeg) {
        contender.bytes = std::accumulate(jpeg.begin(), jpeg.end(), 0.0) / count;
      }
    }
  }

  const Model& model_;
  const EvaluateOptions& options_;
  const Callbacks& callbacks_;
  ModelFolder folder_;
  CorruptionRule rule_;
  References references_;
  std::vector<Reconstruct> reconstructs_;  // of result_.contenders, in their order
  std::vector<std::int64_t> measured_;     // of result_.images, in their order
  Evaluation result_;
};

}  // namespace

Evaluation evaluate(const Model& model, const EvaluateOptions& options,
                    const Callbacks& callbacks) {
  const torch::NoGradGuard no_grad;
  require_corruptions(options.corruptions);
  std::optional<OutputFolder> output;
  if (!options.output.empty()) {
    output.emplace(options.output, options.overwrite);
    output->reserve_exact("evaluate.json");
    output->reserve_exact("evaluate.csv");
    if (leads()) output->require_writable();  // before the work, which may take hours
  }
  Evaluation evaluation = Evaluator(model, options, callbacks).run();
  if (output && leads()) {
    callbacks.begin_writing();
    output->drop("evaluate.json");  // of other numbers
    write_file(output->prepare("evaluate.csv"), to_csv(evaluation));
    write_file(output->prepare("evaluate.json"), to_json(evaluation) + "\n");
  }
  return evaluation;
}

}  // namespace convae
