#include "convae/inference/encode.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/npy.h"
#include "convae/inference/folder.h"
#include "convae/models/pixels.h"
#include "convae/models/tiling.h"
#include "convae/training/collective.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <tuple>

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

/// An image as floats, and its latents, beside what the network takes.
constexpr std::int64_t kBytesAPixel = 20;

class EncodeJob {
public:
  EncodeJob(const Model& model, const EncodeOptions& options, const Callbacks& callbacks)
      : options_(options),
        callbacks_(callbacks),
        one_array_(means_one_array(options.output)),
        array_(options.output.filename().string()),
        table_(one_array_ ? latent_table_path(options.output).filename().string() : "latents.csv"),
        folder_(model, options.images, callbacks, ImagesAt::own_size,
                TilePlan::Job{.result = TiledResult::latents, .bytes_a_pixel = kBytesAPixel}),
        output_(one_array_ ? fs::absolute(options.output).parent_path() : options.output,
                options.overwrite),
        is_encoded_(static_cast<std::size_t>(folder_.size()), false),
        files_(is_encoded_.size()),
        writer_(folder_.workers()) {
    folder_.require_memory_at_own_size(/*bytes_a_value=*/0);
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
    if (options.overwrite) output_.spare(folder_.paths());  // an image may be named a.npy
  }

  EncodeResult run() {
    ranks().barrier();  // all have looked whether files exist before one writes any
    callbacks_.begin_writing();
    if (!one_array_ && leads()) output_.drop(table_);
    try {
      folder_.for_each(
          "encode", [&](const MicroBatch& batch) { return encode(batch); },
          [&](const Encoded& encoded) { note(encoded); });
      if (!one_array_) {
        encode_all_tiled();
      } else if (leads()) {
        // Rows that memory may not hold go straight into the array, which one rank writes.
        const Alone alone;
        encode_all_tiled();
      }
    } catch (const Interrupted& stop) {
      throw Interrupted(std::string(stop.what()) + "; no " +
                        (one_array_ ? printable(options_.output.string()) : table_) +
                        " was written");
    }
    writer_.finish();
    ranks().barrier();
    EncodeResult result{rows(), folder_.skipped()};
    if (!leads()) return result;
    if (rows_) {
      output_.drop(table_);  // of other latents
      rows_->commit();
    }
    write_file(output_.prepare(table_), write_latent_rows(result.rows));
    return result;
  }

private:
  /// Images of a batch, and their latents where they are still to be written.
  struct Encoded {
    std::vector<std::int64_t> images;
    torch::Tensor latents;  ///< on the CPU
    template <typename Self>
    static auto parts(Self& self) {
      return std::tie(self.images, self.latents);
    }
  };

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

  Encoded encode(const MicroBatch& batch) {
    torch::Tensor latents = folder_.model().encode(folder_.network_input(batch.images));
    if (options_.pool == Pooling::mean && latents.dim() == 4) latents = latents.mean({2, 3});
    latents = latents.cpu().contiguous();
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      require_finite(latents[static_cast<std::int64_t>(i)], folder_.name(batch.indices[i]));
    }
    if (one_array_) return {batch.indices, latents};
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      write_own_file(batch.indices[i], latents[static_cast<std::int64_t>(i)]);
    }
    return {batch.indices, {}};
  }

  /// latent: (c, h, w) or (D), on the CPU.
  void write_own_file(std::int64_t image, const torch::Tensor& latent) {
    // A file of one image has the batch axis too, so that both kinds read alike.
    writer_.write(static_cast<std::int64_t>(latent.nbytes()),
                  [path = output_.prepare(files_[static_cast<std::size_t>(image)]), latent] {
                    write_npy(path, {latent}, latent.sizes().vec());
                  });
  }

  void note(const Encoded& encoded) {
    for (std::size_t i = 0; i < encoded.images.size(); ++i) {
      const std::int64_t image = encoded.images[i];
      is_encoded_[static_cast<std::size_t>(image)] = true;
      if (!encoded.latents.defined() || !leads()) continue;
      const torch::Tensor latent = encoded.latents[static_cast<std::int64_t>(i)];
      array(latent.sizes().vec()).write(image, latent);
    }
  }

  /// The one array, of such rows.
  NpyFile& array(const std::vector<std::int64_t>& shape) {
    if (!rows_) rows_.emplace(output_.prepare(array_), folder_.size(), shape);
    return *rows_;
  }

  void encode_all_tiled() {
    folder_.for_each_tiled(
        [&](std::int64_t index, ImageWindows& picture) { return encode_tiled(index, picture); },
        [&](const Encoded& encoded) { note(encoded); });
  }

  Encoded encode_tiled(std::int64_t image, ImageWindows& picture) {
    const Model& model = folder_.model();
    const std::vector<std::int64_t> shape = model.options().latent_shape(picture.size());
    const auto index = static_cast<std::size_t>(image);
    const bool pools = options_.pool == Pooling::mean;
    std::optional<NpyFile> own_file;
    if (!pools && !one_array_) own_file.emplace(output_.prepare(files_[index]), 1, shape);
    torch::Tensor sum = at::zeros({shape[0]}, at::kDouble);
    torch::Tensor band;  // (c, n, w): what lies side by side
    for_each_latent_tile(image, picture, [&](const Region& part, const torch::Tensor& latent) {
      require_finite(latent, folder_.name(image));
      if (pools) return void(sum += latent.sum({1, 2}, /*keepdim=*/false, at::kDouble));
      if (part.columns.begin == 0) band = at::empty({shape[0], part.rows.length(), shape[2]});
      band.slice(2, part.columns.begin, part.columns.end).copy_(latent);
      if (part.columns.end < shape[2]) return;
      NpyFile& file = own_file ? *own_file : array(shape);
      file.write_lines(own_file ? 0 : image, part.rows.begin, band);
    });
    if (pools) {
      const auto places = static_cast<double>(shape[1] * shape[2]);
      const torch::Tensor latent = (sum / places).to(at::kFloat);
      if (one_array_) return {{image}, latent.unsqueeze(0)};
      write_own_file(image, latent);
    }
    if (own_file) own_file->commit();
    return {{image}, {}};
  }

  void for_each_latent_tile(
      std::int64_t image, ImageWindows& picture,
      const std::function<void(const Region& part, const torch::Tensor& latent)>& use) {
    const Model& model = folder_.model();
    const Tiling tiling(model.options(), TiledResult::latents);
    const Size map = plan_sizes(model.options().levels, picture.size(), 1).latent();
    const std::int64_t side = folder_.tiles().side(folder_.entry(image));
    const Size tile{std::max<std::int64_t>(1, side / tiling.scale().h),
                    std::max<std::int64_t>(1, side / tiling.scale().w)};
    std::int64_t done = 0;
    for_each_tile(map, tile, [&](const Region& part) {
      if (callbacks_.stopped())
        throw Interrupted("stopped within " + in_quotes(folder_.name(image)));
      const Region window = tiling.window(part, picture.size());
      const torch::Tensor input = to_float(picture.read(window).unsqueeze(0), model.device());
      use(part, cut(model.encode(input)[0], tiling.place(part, window)).cpu());
      callbacks_.show("tiles", ++done, tile_count(map, tile));
    });
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
  require_option(!options.output.empty(), "-o is needed, such as -o latents.npy or -o latents/");
  return EncodeJob(model, options, callbacks).run();
}

}  // namespace convae
