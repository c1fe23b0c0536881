#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/app/output/progress_bar.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/npy.h"
#include "convae/inference/latents_file.h"

#include <spdlog/spdlog.h>

#include <set>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

class EncodeJob {
public:
  EncodeJob(const Options& options, Inference& inference)
      : options_(options),
        inference_(inference),
        pooled_(options.call.pool == "mean"),
        one_file_(!names_a_folder(options.run.output)),
        target_(options.run.output),
        output_(one_file_ ? fs::absolute(target_).parent_path() : target_, options.call.overwrite),
        latents_(static_cast<std::size_t>(inference.dataset.size())),
        files_(latents_.size()) {
    if (one_file_) {
      if (!pooled_) require_one_shape();
      output_.reserve_exact(target_.filename().string());
      output_.reserve_exact(latent_table_path(target_).filename().string());
    } else {
      std::vector<std::string> inputs;
      for (std::size_t i = 0; i < files_.size(); ++i) {
        inputs.push_back(inference.dataset.entry(i).file.name);
      }
      output_.expect(inputs);
      for (std::size_t i = 0; i < files_.size(); ++i) {
        files_[i] = output_.reserve(inference.dataset.entry(i).file.name, ".npy");
      }
      output_.reserve_exact("latents.csv");
    }
  }

  int run() {
    torch::NoGradGuard no_grad;
    ProgressBar progress(!options_.run.quiet);
    stop_in_order();
    Loader loader(inference_.dataset,
                  plan_in_order(inference_.dataset, options_.train.batch_size, kMaxBatchPixels),
                  View{}, inference_.workers);
    std::int64_t done = 0;
    while (const auto step = loader.next()) {
      for (const MicroBatch& batch : *step) encode(batch);
      done += image_count(*step);
      progress.show("encode", done, inference_.dataset.size(), done);
      if (stop_signal() != 0) {
        progress.clear();
        spdlog::warn("stopped after {} of {} images; no {} was written", done,
                     inference_.dataset.size(),
                     one_file_ ? printable(target_.string()) : "latents.csv");
        return 128 + stop_signal();
      }
    }
    progress.clear();
    return write();
  }

  static bool names_a_folder(const std::string& output) {
    std::error_code error;
    return output.ends_with('/') || fs::is_directory(output, error);
  }

private:
  Size network_size(std::int64_t index) const {
    return inference_.network_size(inference_.dataset.image_size(index));
  }

  /// Sizes are known from the headers, so this is said before anything is computed.
  void require_one_shape() const {
    const ModelOptions& model = inference_.model.options();
    if (model.latent > 0) return;
    const auto latent_of = [&](std::int64_t index) {
      return plan_sizes(model.levels, network_size(index), model.channels).latent();
    };
    const Size first = latent_of(0);
    for (std::int64_t i = 1; i < inference_.dataset.size(); ++i) {
      const Size other = latent_of(i);
      if (other == first) continue;
      throw UsageError("latents of different shapes do not fit one array ('" +
                       printable(inference_.dataset.entry(0).file.name) + "' gives " +
                       to_string(first) + ", '" + printable(inference_.dataset.entry(i).file.name) +
                       "' " + to_string(other) +
                       "): resize with --size N, average with --pool mean, or write one file an "
                       "image with -o DIR/");
    }
  }

  void encode(const MicroBatch& batch) {
    torch::Tensor latent =
        encode_images(inference_.model.net(), inference_.network_input(batch.images));
    if (pooled_ && latent.dim() == 4) latent = latent.mean({2, 3});
    latent = latent.cpu().contiguous();
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      const auto index = static_cast<std::size_t>(batch.indices[i]);
      const torch::Tensor row = latent[static_cast<std::int64_t>(i)];
      if (one_file_) {
        latents_[index] = row;
      } else {
        // A file of one image has the batch axis too, so that both kinds read alike.
        write_npy(output_.prepare(files_[index]), {row}, row.sizes().vec());
        latents_[index] = torch::empty({0});
      }
    }
  }

  int write() {
    std::vector<LatentRow> rows;
    std::vector<torch::Tensor> kept;
    for (std::size_t i = 0; i < latents_.size(); ++i) {
      if (!latents_[i]) continue;
      const auto index = static_cast<std::int64_t>(i);
      rows.push_back({inference_.dataset.entry(index).file.name,
                      inference_.dataset.image_size(index), std::ssize(rows), network_size(index),
                      files_[i]});
      kept.push_back(*latents_[i]);
    }
    if (rows.empty()) throw std::runtime_error("none of the images could be read");
    const fs::path table = one_file_ ? latent_table_path(target_).filename() : "latents.csv";
    if (one_file_) {
      write_npy(output_.prepare(target_.filename().string()), kept, kept[0].sizes().vec());
    }
    write_file(output_.prepare(table.string()), write_latent_rows(rows));
    fmt::print("{} latents in {}\n", rows.size(), printable(options_.run.output));
    return kDone;
  }

  const Options& options_;
  Inference& inference_;
  bool pooled_;
  bool one_file_;
  fs::path target_;
  OutputFolder output_;
  std::vector<std::optional<torch::Tensor>> latents_;
  std::vector<std::string> files_;
};

}  // namespace

int run_encode(const CommandLine& line) {
  const std::string& output = line.options.run.output;
  if (!output.empty() && !EncodeJob::names_a_folder(output) && !output.ends_with(".npy")) {
    throw UsageError("--output '" + printable(output) +
                     "': expected a file that ends in .npy, or a folder that ends in /");
  }
  require_given(output, "output", "-o latents.npy");
  const auto inference = start_inference(line.options);
  return EncodeJob(line.options, *inference).run();
}

}  // namespace convae::app
