#include "convae/app/inference.h"

#include "convae/core/files.h"
#include "convae/training/validation.h"

#include <torch/cuda.h>
#include <torch/nn/functional/upsampling.h>

#include <spdlog/spdlog.h>

#include <cmath>

namespace convae::app {
Size fixed_network_size(const Options& options, const ModelOptions& model) {
  const Size asked = options.data.size;
  const Size size{asked.h, asked.w};
  if (model.latent > 0 && asked.h > 0 && size != model.size) {
    throw UsageError("--size '" + to_string(size) +
                     "': this model has a dense latent and works at " + to_string(model.size) +
                     " only; leave --size out");
  }
  return model.latent > 0 ? model.size : size;
}

void log_skipped(const std::vector<SkippedFile>& skipped) {
  for (const SkippedFile& file : skipped) {
    spdlog::warn("skipped '{}': {}", printable(file.name), printable(file.reason));
  }
}

void log_unread_pages(const std::vector<ImageEntry>& entries) {
  for (const ImageEntry& entry : entries) {
    if (entry.info.pages == 1) continue;
    spdlog::warn("'{}': only the first of its {} pages is read", printable(entry.file.name),
                 entry.info.pages < kMaxPages ? std::to_string(entry.info.pages)
                                              : std::to_string(kMaxPages) + " or more");
  }
}

void require_finite(double error, const std::string& image) {
  if (std::isfinite(error)) return;
  throw std::runtime_error(in_quotes(image) +
                           ": the network's output is not finite; this checkpoint is of a run "
                           "that diverged");
}

void require_given(const std::string& value, const char* flag, const char* example) {
  if (value.empty()) throw UsageError(std::string("--") + flag + " is needed, such as " + example);
}

Inference::Inference(const Options& options, std::vector<ImageEntry> entries, Model loaded,
                     torch::Device on, ImagesAt at)
    : model(std::move(loaded)),
      device(on),
      fixed_size(fixed_network_size(options, model.options())),
      workers(worker_count(options.data.workers)),
      dataset(std::move(entries), {.channels = model.options().channels,
                                   .size = at == ImagesAt::network_size ? fixed_size : Size{},
                                   .crop = {},
                                   .cache = Cache::none,
                                   .skip_bad = options.data.skip_bad,
                                   .max_pixels = options.data.max_pixels}) {
  dataset.on_bad_file = [](const SkippedFile& bad) { log_skipped({bad}); };
}

Size Inference::network_size(Size own) const { return fixed_size.h > 0 ? fixed_size : own; }

torch::Tensor Inference::network_input(const torch::Tensor& images) const {
  const Size size = network_size({images.size(2), images.size(3)});
  if (size == Size{images.size(2), images.size(3)}) return to_float(images, device);
  std::vector<torch::Tensor> resized;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    resized.push_back(resize_image(images[i], size.h, size.w));
  }
  return to_float(torch::stack(resized), device);
}

torch::Tensor Inference::resize_back(const torch::Tensor& images, Size own) {
  if (images.size(2) == own.h && images.size(3) == own.w) return images;
  namespace F = torch::nn::functional;
  return F::interpolate(images, F::InterpolateFuncOptions()
                                    .size(std::vector<std::int64_t>{own.h, own.w})
                                    .mode(torch::kBilinear)
                                    .align_corners(false)
                                    .antialias(true))
      .clamp(0, 1);
}

void check_inference_options(const Options& options) {
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(options.data.data, "data", "--data photos");
  options.data.validate();
  options.train.validate();
  const Size asked = options.data.size;
  if (asked.h > 0 && asked.h > options.data.max_pixels / asked.w) {
    throw UsageError("--size '" + to_string(asked) + "': more than --max-pixels " +
                     std::to_string(options.data.max_pixels));
  }
}

Model open_checkpoint(const Options& options, torch::Device device) {
  Model model = load(options.call.checkpoint, device.str());
  spdlog::info("checkpoint {}: epoch {}, step {}, {} channels, levels {}",
               printable(model.path().string()), model.info().progress.epoch,
               model.info().progress.step, model.options().channels,
               to_string(model.options().levels));
  return model;
}

std::vector<ImageEntry> usable_images(FolderScan& scan, const std::string& folder,
                                      const Options& options, const ModelOptions& model) {
  const Size fixed = fixed_network_size(options, model);
  const auto specs = model.levels;
  std::vector<ImageEntry> usable;
  for (ImageEntry& entry : scan.entries) {
    const Size size = fixed.h > 0 ? fixed : Size{entry.info.height, entry.info.width};
    if (const auto reason = why_impossible(specs, size)) {
      scan.skipped.push_back({entry.file.name, *reason});
    } else {
      usable.push_back(std::move(entry));
    }
  }
  log_skipped(scan.skipped);
  if (!options.data.skip_bad && !scan.skipped.empty()) {
    throw std::runtime_error(in_quotes(scan.skipped[0].name) + ": " + scan.skipped[0].reason +
                             " (--skip-bad is false)");
  }
  if (usable.empty()) {
    throw std::runtime_error("no usable image in '" + printable(folder) + "' (" +
                             std::to_string(scan.skipped.size()) + " skipped)");
  }
  log_unread_pages(usable);
  spdlog::info("images {} · skipped {}", usable.size(), scan.skipped.size());
  return usable;
}

std::unique_ptr<Inference> start_inference(const Options& options, ImagesAt at) {
  check_inference_options(options);
  const torch::Device device = choose_device(options.run.device);
  use_threads(options.run.threads);
  Model model = open_checkpoint(options, device);
  FolderScan scan = scan_headers(list_images(options.data.data), options.data.max_pixels,
                                 worker_count(options.data.workers));
  std::vector<ImageEntry> usable = usable_images(scan, options.data.data, options, model.options());
  spdlog::info("device {}", device.str());
  auto inference =
      std::make_unique<Inference>(options, std::move(usable), std::move(model), device, at);
  inference->skipped = std::move(scan.skipped);
  return inference;
}

}  // namespace convae::app
