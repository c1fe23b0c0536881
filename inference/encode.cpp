#include "convae/inference/encode.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/npy.h"
#include "convae/inference/folder.h"

#include <optional>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// True where `output` means one array, false for a folder of arrays.
bool means_one_array(const fs::path& output) {
  std::error_code error;
  if (!output.has_filename() || fs::is_directory(output, error)) return false;
  if (output.string().ends_with(".npy")) return true;
  throw OptionError("--output " + in_quotes(output) +
                    ": expected a file that ends in .npy, or a folder that ends in /");
}

class EncodeJob {
public:
  EncodeJob(const Model& model, const EncodeOptions& options, const Callbacks& callbacks)
      : options_(options),
        callbacks_(callbacks),
        one_array_(means_one_array(options.output)),
        array_(options.output.filename().string()),
        table_(one_array_ ? latent_table_path(options.output).filename().string() : "latents.csv"),
        folder_(model, options.images, callbacks),
        array_folder_(fs::absolute(options.output).parent_path()),
        folder_existed_(fs::exists(array_folder_)),
        output_(one_array_ ? array_folder_ : options.output, options.overwrite),
        is_encoded_(static_cast<std::size_t>(folder_.size()), false),
        files_(is_encoded_.size()),
        writer_(folder_.workers()) {
    if (one_array_) {
      if (options.pool == Pooling::none) require_one_shape();
      output_.reserve_exact(array_);
    } else {
      const std::vector<std::string> inputs = folder_.names();
      output_.expect(inputs);
      for (std::size_t i = 0; i < files_.size(); ++i) {
        files_[i] = output_.reserve(inputs[i], ".npy");
      }
    }
    output_.reserve_exact(table_);
  }

  EncodeResult run() {
    callbacks_.begin_writing();
    try {
      folder_.for_each("encode", [&](const MicroBatch& batch) { encode(batch); });
    } catch (const Interrupted& stop) {
      drop_array();
      throw Interrupted(std::string(stop.what()) + "; no " +
                        (one_array_ ? printable(options_.output.string()) : table_) +
                        " was written");
    }
    writer_.finish();
    EncodeResult result{rows(), folder_.skipped()};
    if (rows_) rows_->commit();
    write_file(output_.prepare(table_), write_latent_rows(result.rows));
    return result;
  }

private:
  Size network_size(std::int64_t index) const {
    return folder_.network_size(folder_.entry(index).file_size());
  }

  /// Sizes are known from the headers, so this is said before anything is computed.
  void require_one_shape() const {
    const ModelOptions& model = folder_.model().options();
    if (model.latent > 0) return;
    const auto latent_of = [&](std::int64_t index) {
      return plan_sizes(model.levels, network_size(index), model.channels).latent();
    };
    const Size first = latent_of(0);
    for (std::int64_t i = 1; i < folder_.size(); ++i) {
      const Size other = latent_of(i);
      if (other == first) continue;
      throw OptionError("latents of different shapes do not fit one array (" +
                        in_quotes(folder_.name(0)) + " gives " + to_string(first) + ", " +
                        in_quotes(folder_.name(i)) + " " + to_string(other) +
                        "): resize with --size N, average with --pool mean, or write one file an "
                        "image with -o DIR/");
    }
  }

  void encode(const MicroBatch& batch) {
    torch::Tensor latents = folder_.model().encode(folder_.network_input(batch.images));
    if (options_.pool == Pooling::mean && latents.dim() == 4) latents = latents.mean({2, 3});
    latents = latents.cpu().contiguous();
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      const auto index = static_cast<std::size_t>(batch.indices[i]);
      const torch::Tensor latent = latents[static_cast<std::int64_t>(i)];
      if (one_array_) {
        if (!rows_) rows_.emplace(output_.prepare(array_), folder_.size(), latent.sizes().vec());
        rows_->write(batch.indices[i], latent);
      } else {
        // A file of one image has the batch axis too, so that both kinds read alike.
        writer_.write(static_cast<std::int64_t>(latent.nbytes()),
                      [path = output_.prepare(files_[index]), latent] {
                        write_npy(path, {latent}, latent.sizes().vec());
                      });
      }
      is_encoded_[index] = true;
    }
  }

  /// An array that is not complete goes, and its folder if it was made for it.
  void drop_array() {
    if (!rows_) return;
    rows_.reset();
    std::error_code ignored;
    if (!folder_existed_) fs::remove(array_folder_, ignored);
  }

  std::vector<LatentRow> rows() const {
    std::vector<LatentRow> rows;
    for (std::int64_t i = 0; i < folder_.size(); ++i) {
      const auto index = static_cast<std::size_t>(i);
      if (!is_encoded_[index]) continue;
      rows.push_back({folder_.name(i), folder_.entry(i).file_size(), std::ssize(rows),
                      network_size(i), files_[index]});
    }
    return rows;
  }

  const EncodeOptions& options_;
  const Callbacks& callbacks_;
  bool one_array_;
  std::string array_, table_;  // names in the output folder
  ModelFolder folder_;
  fs::path array_folder_;
  bool folder_existed_;
  OutputFolder output_;
  std::vector<bool> is_encoded_;
  std::vector<std::string> files_;  // of one image each
  std::optional<NpyFile> rows_;     // of one array, once the shape is known
  ImageWriter writer_;
};

}  // namespace

EncodeResult encode_folder(const Model& model, const EncodeOptions& options,
                           const Callbacks& callbacks) {
  model.options().require_latents("encode");
  return EncodeJob(model, options, callbacks).run();
}

}  // namespace convae
