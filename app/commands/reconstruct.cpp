#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/progress_bar.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/pictures.h"
#include "convae/metrics/image_metrics.h"
#include "convae/training/corruption.h"
#include "convae/training/run_folder.h"
#include "convae/training/validation.h"

#include <spdlog/spdlog.h>

#include <cstdio>

namespace convae::app {
namespace {

/// Where one image's results go; names relative to the output folder, empty where not asked for.
struct OutputNames {
  std::string reconstruction, grid, error_map;
};

/// What reconstruct.csv says of one image.
struct ImageQuality {
  std::int64_t width = 0, height = 0;
  double mse = 0, psnr = 0, ssim = 0;
  double input_mse = 0;  ///< of what the network was shown, where that was corrupted
};

class Reconstructor {
public:
  Reconstructor(const Options& options, Inference& inference)
      : options_(options),
        inference_(inference),
        output_(options.run.output, options.call.overwrite),
        progress_(!options.run.quiet),
        names_(static_cast<std::size_t>(inference.dataset.size())),
        qualities_(names_.size()),
        corruption_{options.train.corruptions, options.train.seed, /*epoch=*/0},
        writer_(inference.workers) {
    std::vector<std::string> inputs;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      inputs.push_back(inference.dataset.entry(i).file.name);
    }
    output_.expect(inputs);
    if (options_.call.grid) output_.expect(inputs, "grid");
    if (options_.call.error_map) output_.expect(inputs, "error");
    // Reconstructions first: an input may lie in a folder named grid, and keeps its name.
    for (std::size_t i = 0; i < names_.size(); ++i) {
      names_[i].reconstruction = reserve_reconstruction(inference.dataset.entry(i).file.name);
    }
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const std::string& name = inference.dataset.entry(i).file.name;
      if (options_.call.grid) names_[i].grid = output_.reserve(name, ".png", "grid");
      if (options_.call.error_map) names_[i].error_map = output_.reserve(name, ".png", "error");
    }
    output_.reserve_exact("reconstruct.csv");
  }

  int run() {
    torch::NoGradGuard no_grad;
    stop_in_order();
    Loader loader(inference_.dataset,
                  plan_in_order(inference_.dataset, options_.train.batch_size, kMaxBatchPixels),
                  View{}, inference_.workers);
    while (const auto step = loader.next()) {
      for (const MicroBatch& batch : *step) reconstruct(batch);
      if (stop_signal() != 0) return stop();
    }
    writer_.finish();
    progress_.clear();
    write_table();
    return report();
  }

private:
  std::string reserve_reconstruction(const std::string& name) {
    return options_.call.format == "keep" ? output_.reserve_exact(name)
                                          : output_.reserve(name, ".png");
  }

  void reconstruct(const MicroBatch& batch) {
    const Size own{batch.images.size(2), batch.images.size(3)};
    const torch::Tensor original = to_float(batch.images, inference_.device);
    const torch::Tensor shown =
        corrupt(inference_.network_input(batch.images), corruption_, batch.indices);
    const torch::Tensor output = reconstruct_images(inference_.model.net(), shown);
    const torch::Tensor reconstruction = Inference::resize_back(output, own);
    const torch::Tensor input = corrupts() ? Inference::resize_back(shown, own) : original;
    const torch::Tensor mse = image_mse(reconstruction, original);
    const torch::Tensor input_mse = image_mse(input, original);
    const torch::Tensor ssim = image_ssim(reconstruction, original);
    const bool compares = options_.call.grid || options_.call.error_map;
    const torch::Tensor originals = compares ? original.cpu() : original;
    const torch::Tensor inputs = compares ? input.cpu() : input;
    const torch::Tensor reconstructions = reconstruction.cpu();
    for (std::int64_t i = 0; i < mse.numel() && stop_signal() == 0; ++i) {
      const std::int64_t index = batch.indices[static_cast<std::size_t>(i)];
      const auto error = mse[i].item<double>();
      require_finite(error, inference_.dataset.entry(index).file.name);
      write_images(index, inputs[i], reconstructions[i], originals[i]);
      qualities_[static_cast<std::size_t>(index)] = ImageQuality{
          own.w, own.h, error, psnr(error), ssim[i].item<double>(), input_mse[i].item<double>()};
      ++done_;
      progress_.show("reconstruct", done_, inference_.dataset.size(), done_);
    }
  }

  bool corrupts() const { return !corruption_.corruptions.empty(); }

  void write_images(std::int64_t index, const torch::Tensor& input,
                    const torch::Tensor& reconstruction, const torch::Tensor& original) {
    const OutputNames& names = names_[static_cast<std::size_t>(index)];
    const ImageInfo& info = inference_.dataset.entry(index).info;
    const bool keep = options_.call.format == "keep";
    const torch::Tensor pixels =
        keep && info.bits == 16 ? to_uint16(reconstruction) : to_uint8(reconstruction);
    write_image(names.reconstruction, pixels, keep ? info.format : ImageFormat::png);
    if (!names.grid.empty()) {
      write_image(names.grid, comparison_picture(input, reconstruction, original),
                  ImageFormat::png);
    }
    if (!names.error_map.empty()) {
      write_image(names.error_map, error_picture(original, reconstruction), ImageFormat::png);
    }
  }

  void write_image(const std::string& name, const torch::Tensor& pixels, ImageFormat format) {
    writer_.write(output_.prepare(name), pixels, format);
  }

  void write_table() {
    std::string text = "path,width,height,mse,psnr,ssim";
    text += corrupts() ? ",input_mse,input_psnr\n" : "\n";
    for (std::size_t i = 0; i < qualities_.size(); ++i) {
      if (!qualities_[i]) continue;
      const ImageQuality& q = *qualities_[i];
      text += csv_field(inference_.dataset.entry(static_cast<std::int64_t>(i)).file.name) + "," +
              std::to_string(q.width) + "," + std::to_string(q.height) + "," + csv_number(q.mse) +
              "," + csv_number(q.psnr) + "," + csv_number(q.ssim);
      if (corrupts()) text += "," + csv_number(q.input_mse) + "," + csv_number(psnr(q.input_mse));
      text += "\n";
      input_psnr_.add(psnr(q.input_mse));
      mse_.add(q.mse);
      psnr_.add(q.psnr);
      ssim_.add(q.ssim);
    }
    write_file(output_.prepare("reconstruct.csv"), text);
  }

  int report() const {
    if (psnr_.count() == 0) throw std::runtime_error("none of the images could be read");
    const std::string ssim =
        ssim_.count() > 0 ? fmt::format("{:.4f}", ssim_.mean()) : "none (sides under 11)";
    fmt::print("{} reconstructions in {}: mse {:.6f}, PSNR {:.2f} dB, SSIM {}\n", psnr_.count(),
               printable(output_.root().string()), mse_.mean(), psnr_.mean(), ssim);
    if (corrupts()) {
      fmt::print("corrupted by {}: PSNR {:.2f} dB before, {:.2f} dB after the network\n",
                 to_string(corruption_.corruptions), input_psnr_.mean(), psnr_.mean());
    }
    return kDone;
  }

  int stop() {
    writer_.finish();
    progress_.clear();
    spdlog::warn("stopped after {} of {} images; no reconstruct.csv was written", done_,
                 inference_.dataset.size());
    return 128 + stop_signal();
  }

  const Options& options_;
  Inference& inference_;
  OutputFolder output_;
  ProgressBar progress_;
  std::vector<OutputNames> names_;
  std::vector<std::optional<ImageQuality>> qualities_;
  std::int64_t done_ = 0;
  ImageMean mse_, psnr_, ssim_, input_psnr_;
  CorruptionRule corruption_;
  ImageWriter writer_;
};

}  // namespace

int run_reconstruct(const CommandLine& line) {
  require_given(line.options.run.output, "output", "-o out");
  const auto inference = start_inference(line.options);
  return Reconstructor(line.options, *inference).run();
}

}  // namespace convae::app
