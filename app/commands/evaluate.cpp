#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/evaluation_report.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/core/parallel.h"
#include "convae/data/jpeg_size.h"
#include "convae/evaluation/references.h"
#include "convae/training/validation.h"

#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSeveralSizes =
    "the images have several sizes, and references need one; choose it with --size";

/// Names of the two files of --output, reserved before anything is computed.
struct OutputFiles {
  explicit OutputFiles(const Options& options) {
    if (options.run.output.empty()) return;
    folder.emplace(options.run.output, options.call.overwrite);
    folder->reserve_exact("evaluate.json");
    folder->reserve_exact("evaluate.csv");
  }

  void write(const Evaluation& evaluation) {
    if (!folder) return;
    write_file(folder->prepare("evaluate.csv"), evaluation_csv(evaluation));
    write_file(folder->prepare("evaluate.json"), evaluation_json(evaluation));
  }

  std::optional<OutputFolder> folder;
};

/// The size of all images, or {0, 0}.
Size one_size(const Inference& inference) {
  const Size first = inference.network_size(inference.dataset.image_size(0));
  for (std::int64_t i = 1; i < inference.dataset.size(); ++i) {
    if (inference.network_size(inference.dataset.image_size(i)) != first) return {};
  }
  return first;
}

/// JPEG files of a batch's images, near `bytes` each, and what they decode to.
struct JpegBatch {
  std::vector<torch::Tensor> images;
  std::vector<SizedJpeg> files;
};

JpegBatch through_jpeg(const torch::Tensor& images, std::int64_t bytes) {
  const auto count = static_cast<std::size_t>(images.size(0));
  JpegBatch jpeg{std::vector<torch::Tensor>(count), std::vector<SizedJpeg>(count)};
  std::vector<std::exception_ptr> errors(count);
  parallel_for_each(images.size(0), [&](std::int64_t at) {
    const auto i = static_cast<std::size_t>(at);
    try {
      jpeg.files[i] = encode_jpeg_near(images[at], bytes);
      jpeg.images[i] = decode_image(jpeg.files[i].file, static_cast<int>(images.size(1)));
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return jpeg;
}

class Evaluator {
public:
  Evaluator(const Options& options, Inference& inference)
      : options_(options), inference_(inference), model_(inference.model.options()) {
    result_.checkpoint = inference.model.path().string();
    result_.data = options.data.data;
    result_.channels = model_.channels;
    result_.size = one_size(inference);
    result_.skipped = inference.skipped;
    network_ = add_contender("network", "network");
    if (result_.size.h > 0) {
      latent_numbers_ = c10::multiply_integers(model_.latent_shape(result_.size));
      set_up_references();
    } else {
      for (const auto& [key, title] : kReferences) leave_out(key, title, kSeveralSizes);
    }
  }

  Evaluation run() {
    ProgressBar progress(!options_.run.quiet);
    for_each_batch(inference_.dataset, inference_.workers, progress, "evaluate",
                   [&](const MicroBatch& batch) { evaluate(batch); });
    if (result_.images.empty()) throw std::runtime_error("none of the images could be read");
    for (const SkippedFile& bad : inference_.dataset.bad_files()) result_.skipped.push_back(bad);
    name_codes();
    return std::move(result_);
  }

private:
  static constexpr std::pair<const char*, const char*> kReferences[] = {
      {"pca", "PCA"},
      {"mean_image", "mean image"},
      {"network_8_bit", "network in 8 bits"},
      {"jpeg", "JPEG"}};

  std::size_t add_contender(const char* key, const char* title) {
    result_.contenders.push_back({key, title, {}, {}, {}});
    return result_.contenders.size() - 1;
  }

  void leave_out(const char* key, const char* title, const std::string& reason) {
    result_.left_out.push_back({key, title, reason});
  }

  void set_up_references() {
    TrainingImages training =
        find_training_images(options_, inference_.model, {result_.size.h, result_.size.w});
    if (training.dataset) {
      references_ = fit_references(training, inference_, latent_numbers_, options_.run.quiet);
      result_.train_data = training.folder;
      result_.training_images = references_->statistics.count;
      trained_paths_ = std::move(training.paths);
    }
    if (references_ && references_->pca) {
      pca_ = add_contender("pca", "PCA");
      result_.pca_method = to_string(references_->pca_method);
    } else {
      leave_out("pca", "PCA", references_ ? references_->why_no_pca : training.missing);
    }
    if (references_) {
      mean_image_ = add_contender("mean_image", "mean image");
      rounding_ = references_->rounding;
      result_.ranges_from = "each channel's smallest and largest value on the training images";
    } else {
      leave_out("mean_image", "mean image", training.missing);
      rounding_ = ranges_of_these_images();
      result_.ranges_from = "each channel's smallest and largest value on these images";
    }
    rounded_ = add_contender("network_8_bit", "network in 8 bits");
    if (std::max(result_.size.h, result_.size.w) <= kMaxJpegSide) {
      jpeg_ = add_contender("jpeg", "JPEG");
    } else {
      leave_out("jpeg", "JPEG", "a side is above " + std::to_string(kMaxJpegSide));
    }
  }

  torch::Tensor encode(const torch::Tensor& images) {
    return encode_images(inference_.model.net(), images);
  }

  torch::Tensor decode(const torch::Tensor& latents, Size size) {
    return decode_images(inference_.model.net(), latents, size);
  }

  LatentRounding ranges_of_these_images() {
    LatentRounding ranges;
    ProgressBar progress(!options_.run.quiet);
    for_each_batch(inference_.dataset, inference_.workers, progress, "latent ranges",
                   [&](const MicroBatch& batch) {
                     ranges.see(encode(to_float(batch.images, inference_.device)));
                   });
    return ranges;
  }

  void evaluate(const MicroBatch& batch) {
    const torch::Tensor images = to_float(batch.images, inference_.device);
    const Size size{images.size(2), images.size(3)};
    const torch::Tensor latents = encode(images);
    measure(network_, decode(latents, size), images);
    check_finite(batch);
    if (rounded_) measure(*rounded_, decode(rounding_.round(latents), size), images);
    if (references_) {
      const torch::Tensor targets = images.cpu();
      const torch::Tensor rows = rows_of_images(targets);
      const auto measure_rows = [&](std::size_t contender, const torch::Tensor& found) {
        measure(contender, images_of_rows(found, targets), targets);
      };
      // Cut to the range of images, as what the network gives is.
      if (pca_) measure_rows(*pca_, references_->pca->project(rows).clamp(0, 1));
      measure_rows(*mean_image_, references_->statistics.mean.expand_as(rows));
    }
    if (jpeg_) measure_jpeg(batch.images, images);
    for (const std::int64_t index : batch.indices) note(index, size, latents[0].numel());
  }

  void measure(std::size_t contender, const torch::Tensor& found, const torch::Tensor& images) {
    result_.contenders[contender].measures.add(found, images);
  }

  void check_finite(const MicroBatch& batch) const {
    const std::vector<double>& errors = result_.contenders[network_].measures.values(Measure::mse);
    const std::size_t first = errors.size() - batch.indices.size();
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      require_finite(errors[first + i], inference_.dataset.entry(batch.indices[i]).file.name);
    }
  }

  void measure_jpeg(const torch::Tensor& stored, const torch::Tensor& images) {
    const JpegBatch jpeg = through_jpeg(stored, latent_numbers_);
    measure(*jpeg_, to_float(torch::stack(jpeg.images), inference_.device), images);
    for (const SizedJpeg& file : jpeg.files) {
      result_.jpeg_bytes.push_back(static_cast<double>(file.picture_bytes));
      jpeg_file_bytes_ += static_cast<double>(file.file.size());
    }
  }

  void note(std::int64_t index, Size size, std::int64_t latent) {
    const ImageFile& file = inference_.dataset.entry(index).file;
    result_.images.push_back({file.name, size.w, size.h});
    result_.numbers_in += model_.channels * size.h * size.w;
    result_.numbers_latent += latent;
    if (trained_paths_.contains((root_ / file.name).string())) ++result_.trained_on;
  }

  void name_codes() {
    const auto count = static_cast<double>(result_.images.size());
    const std::string numbers =
        std::to_string(result_.numbers_latent / std::ssize(result_.images)) + " numbers";
    result_.contenders[network_].code = numbers;
    if (pca_) result_.contenders[*pca_].code = numbers;
    if (mean_image_) result_.contenders[*mean_image_].code = "0 numbers";
    if (rounded_) name_bytes(*rounded_, static_cast<double>(latent_numbers_));
    if (!jpeg_) return;
    double bytes = 0;
    for (const double image : result_.jpeg_bytes) bytes += image;
    name_bytes(*jpeg_, bytes / count);
    result_.jpeg_header_bytes = (jpeg_file_bytes_ - bytes) / count;
  }

  void name_bytes(std::size_t contender, double bytes) {
    result_.contenders[contender].bytes = bytes;
    result_.contenders[contender].code = fmt::format("{:.0f} bytes", bytes);
  }

  const Options& options_;
  Inference& inference_;
  const ModelOptions& model_;
  Evaluation result_;
  std::int64_t latent_numbers_ = 0;  // of one image, where all have one size
  std::optional<References> references_;
  LatentRounding rounding_;
  std::set<std::string> trained_paths_;
  fs::path root_ = fs::weakly_canonical(options_.data.data);
  double jpeg_file_bytes_ = 0;
  // Places in result_.contenders.
  std::size_t network_ = 0;
  std::optional<std::size_t> pca_, mean_image_, rounded_, jpeg_;
};

}  // namespace

int run_evaluate(const CommandLine& line) {
  // Nothing is written before the end, so an interrupt may end the program at once.
  const Options& options = line.options;
  torch::NoGradGuard no_grad;
  const auto inference = start_inference(options, ImagesAt::network_size);
  OutputFiles files(options);
  const Evaluation evaluation = Evaluator(options, *inference).run();
  files.write(evaluation);
  const std::string text =
      options.call.json ? evaluation_json(evaluation) : evaluation_table(evaluation);
  std::fputs(text.c_str(), stdout);
  return kDone;
}

}  // namespace convae::app
