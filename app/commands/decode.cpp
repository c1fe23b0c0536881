#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/progress_bar.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/npy.h"
#include "convae/data/pictures.h"
#include "convae/inference/latents_file.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const fs::path& file, const std::string& reason) {
  throw std::runtime_error(in_quotes(file) + ": " + reason);
}

class DecodeJob {
public:
  DecodeJob(const Options& options, Model& model)
      : options_(options),
        model_(model),
        latents_(options.call.latents),
        rows_(read_latent_rows(latent_table_path(latents_))),
        output_(options.run.output, options.call.overwrite),
        writer_(worker_count(options.data.workers)) {
    std::error_code error;
    is_folder_ = fs::is_directory(latents_, error);
    if (rows_.empty()) refuse(latent_table_path(latents_), "it lists no images");
    std::vector<std::string> inputs;
    for (const LatentRow& row : rows_) {
      // The table is a file that anyone may have written.
      for (const Size size : {row.own, row.encoded}) {
        if (size.h <= kDefaultMaxPixels / size.w) continue;
        refuse(latent_table_path(latents_), in_quotes(row.name) + " is said to be " +
                                                to_string(size) + ", more than " +
                                                std::to_string(kDefaultMaxPixels) + " pixels");
      }
      if (!is_safe(row.name) || !is_safe(row.file)) {
        refuse(latent_table_path(latents_),
               "the path '" + printable(row.name) + "' leads out of the output folder");
      }
      inputs.push_back(row.name);
    }
    output_.expect(inputs);
    for (const std::string& name : inputs) names_.push_back(output_.reserve(name, ".png"));
  }

  int run() {
    torch::NoGradGuard no_grad;
    ProgressBar progress(!options_.run.quiet);
    if (!is_folder_) array_ = read_npy(latents_);
    stop_in_order();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      decode(rows_[i], names_[i]);
      const auto done = static_cast<std::int64_t>(i) + 1;
      progress.show("decode", done, std::ssize(rows_), done);
      if (stop_signal() != 0) {
        writer_.finish();
        progress.clear();
        spdlog::warn("stopped after {} of {} images", done, rows_.size());
        return 128 + stop_signal();
      }
    }
    writer_.finish();
    progress.clear();
    fmt::print("{} images in {}\n", rows_.size(), printable(options_.run.output));
    return kDone;
  }

private:
  static bool is_safe(const std::string& name) {
    const fs::path path(name);
    return path.is_relative() && std::none_of(path.begin(), path.end(),
                                              [](const fs::path& part) { return part == ".."; });
  }

  torch::Tensor latent_of(const LatentRow& row) const {
    if (is_folder_) return read_npy(latents_ / (row.file.empty() ? row.name + ".npy" : row.file));
    if (array_.dim() < 1) refuse(latents_, "it holds a single number, not an array of latents");
    if (row.index >= array_.size(0)) {
      refuse(latents_, "it has " + std::to_string(array_.size(0)) +
                           " latents, but its table asks for index " + std::to_string(row.index));
    }
    return array_.narrow(0, row.index, 1);
  }

  void decode(const LatentRow& row, const std::string& name) {
    const torch::Tensor latent = latent_of(row);
    const ModelOptions& model = model_.options();
    const std::int64_t axes = model.latent > 0 ? 2 : 4;
    const std::int64_t channels = model.latent > 0 ? model.latent : model.latent_map_channels();
    if (latent.dim() != axes || latent.size(1) != channels) {
      refuse(latents_, "latents have the shape " + c10::str(latent.sizes()) +
                           ", but this model's decoder takes (N, " + std::to_string(channels) +
                           (axes == 4 ? ", h, w); pooled latents cannot be decoded" : ")"));
    }
    const Size size = model.latent > 0 ? model.size : row.encoded;
    torch::Tensor image;
    try {
      image = decode_images(model_.net(), latent.to(device()), size);
    } catch (const GeometryError& error) {
      refuse(latents_, printable(row.name) + ": " + error.what());
    }
    image = Inference::resize_back(image, row.own);
    writer_.write(output_.prepare(name), to_uint8(image[0]), ImageFormat::png);
  }

  torch::Device device() const { return model_.net()->parameters().front().device(); }

  const Options& options_;
  Model& model_;
  fs::path latents_;
  std::vector<LatentRow> rows_;
  OutputFolder output_;
  bool is_folder_ = false;
  std::vector<std::string> names_;
  torch::Tensor array_;
  ImageWriter writer_;
};

}  // namespace

int run_decode(const CommandLine& line) {
  require_given(line.options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
  require_given(line.options.call.latents, "latents", "--latents latents.npy");
  require_given(line.options.run.output, "output", "-o out");
  line.options.data.validate();
  use_threads(line.options.run.threads);
  Model model = load(line.options.call.checkpoint, line.options.run.device);
  return DecodeJob(line.options, model).run();
}

}  // namespace convae::app
