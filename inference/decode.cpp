#include "convae/inference/decode.h"

#include "convae/core/machine.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/image_writer.h"
#include "convae/data/npy.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"
#include "convae/inference/latents_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace convae {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const fs::path& file, const std::string& reason) {
  throw std::runtime_error(in_quotes(file) + ": " + reason);
}

/// The rows of a table, which anyone may have written.
std::vector<LatentRow> checked_rows(const fs::path& table, std::int64_t max_pixels) {
  std::vector<LatentRow> rows = read_latent_rows(table);
  if (rows.empty()) refuse(table, "it lists no images");
  for (LatentRow& row : rows) {
    for (const Size size : {row.own, row.encoded}) {
      if (size.h <= max_pixels / size.w) continue;
      refuse(table, in_quotes(row.name) + " is said to be " + to_string(size) +
                        ", more than --max-pixels " + std::to_string(max_pixels));
    }
    const fs::path name = fs::path(row.name).filename();
    if (name.empty() || name == ".") {
      refuse(table, "the path " + in_quotes(row.name) + " has no name of a file");
    }
    for (const std::string& path : {row.name, row.file}) {
      if (!leads_out(path)) continue;
      refuse(table, "the path " + in_quotes(path) + " leads out of the output folder");
    }
    row.name = fs::path(row.name).lexically_normal().string();  // "./a.png" is "a.png"
  }
  return rows;
}

/// At which the decoder draws it.
Size size_of(const LatentRow& row, const ModelOptions& model) {
  return model.latent > 0 ? model.size : row.encoded;
}

void require_fit(const torch::Tensor& latent, const ModelOptions& model, const fs::path& file) {
  const std::int64_t axes = model.latent > 0 ? 2 : 4;
  const std::int64_t channels = model.latent > 0 ? model.latent : model.latent_map_channels();
  if (latent.dim() == axes && latent.size(1) == channels) return;
  refuse(file, "latents have the shape " + c10::str(latent.sizes()) +
                   ", but this model's decoder takes (N, " + std::to_string(channels) +
                   (axes == 4 ? ", h, w); pooled latents cannot be decoded" : ")"));
}

/// (1, …), from `array` or, where that is undefined, from a file in the folder `path`.
torch::Tensor latent_of(const LatentRow& row, const torch::Tensor& array, const ModelOptions& model,
                        const fs::path& path) {
  const std::string name = row.file.empty() ? row.name + ".npy" : row.file;
  const fs::path file = array.defined() ? path : path / name;
  const torch::Tensor latent = array.defined() ? array.narrow(0, row.index, 1) : read_npy(file);
  if (latent.dim() > 0 && latent.size(0) != 1) {
    refuse(file, "it holds " + std::to_string(latent.size(0)) +
                     " latents, but in a folder each is a file of its own");
  }
  require_fit(latent, model, file);
  if (!latent.isfinite().all().item<bool>()) {
    refuse(file, "the latent of " + in_quotes(row.name) + " has values that are not finite");
  }
  return latent;
}

void require_rows(const std::vector<LatentRow>& rows, const torch::Tensor& array,
                  const fs::path& file) {
  for (const LatentRow& row : rows) {
    if (row.index < array.size(0)) continue;
    refuse(file, "it has " + std::to_string(array.size(0)) +
                     " latents, but its table asks for index " + std::to_string(row.index));
  }
}

void warn_of_more(const std::vector<LatentRow>& rows, const torch::Tensor& array,
                  const DecodeOptions& options, const Callbacks& callbacks) {
  std::set<std::int64_t> listed;
  for (const LatentRow& row : rows) listed.insert(row.index);
  const std::int64_t more = array.size(0) - std::ssize(listed);
  if (more == 0) return;
  callbacks.warn(in_quotes(options.latents) +
                 fmt::format(" has {} latents, but its table {} lists {} of them; the other {} {} "
                             "not decoded",
                             array.size(0), in_quotes(latent_table_path(options.latents)),
                             listed.size(), more, more == 1 ? "is" : "are"));
}

/// That the network and memory can take them.
void require_sizes(const std::vector<LatentRow>& rows, const Model& model,
                   const DecodeOptions& options) {
  std::set<Size> sizes;
  Size largest;  // of those that are resized
  for (const LatentRow& row : rows) {
    const Size size = size_of(row, model.options());
    const Size own = options.size ? options.size : row.own;
    if (own != size && own.area() > largest.area()) largest = own;
    if (!sizes.insert(size).second) continue;
    if (const auto reason = why_impossible(model.options().levels, size)) {
      refuse(options.latents, printable(row.name) + ": " + *reason);
    }
  }
  require_memory(model, {sizes.begin(), sizes.end()});
  constexpr double kBytesAValue = 20;  // as measured: floats, and copies of them
  const auto values = static_cast<double>(model.options().channels * largest.area());
  require_memory_at(largest, kBytesAValue * values, "choose a smaller one with --size");
}

/// What a table would say of latents that came without one, from other programs.
std::vector<LatentRow> rows_without_table(const Model& model, const DecodeOptions& options,
                                          const torch::Tensor& array) {
  const Size size = fixed_network_size(options.size, model.options());
  if (!size) {
    throw std::runtime_error("there is no " + in_quotes(latent_table_path(options.latents)) +
                             ", so the images' size is not known; say it with --size HxW");
  }
  std::vector<LatentRow> rows;
  if (array.defined()) {
    for (std::int64_t i = 0; i < array.size(0); ++i) {
      rows.push_back({fmt::format("latent_{:05}.npy", i), size, i, size, ""});
    }
  } else {
    std::error_code error;
    for (fs::recursive_directory_iterator entries(options.latents, error);
         !error && entries != end(entries); entries.increment(error)) {
      if (entries->path().extension() != ".npy" || !entries->is_regular_file()) continue;
      const std::string name = entries->path().lexically_relative(options.latents).string();
      rows.push_back({name, size, 0, size, name});
    }
    if (error) {
      throw std::runtime_error("cannot read the folder " + in_quotes(options.latents) + ": " +
                               error.message());
    }
    std::ranges::sort(rows, {}, &LatentRow::name);
  }
  if (rows.empty()) refuse(options.latents, "there are no latents in it");
  return rows;
}

}  // namespace

DecodeResult decode_latents(const Model& model, const DecodeOptions& options,
                            const Callbacks& callbacks) {
  model.options().require_latents("decode");
  require_within(options.size, options.max_pixels);
  require_workers(options.workers);
  std::error_code error;
  torch::Tensor array;
  if (!fs::is_directory(options.latents, error)) {
    array = read_npy(options.latents);
    if (array.dim() < 1) {
      refuse(options.latents, "it holds a single number, not an array of latents");
    }
  }
  const fs::path table = latent_table_path(options.latents);
  const std::vector<LatentRow> rows = fs::exists(table, error)
                                          ? checked_rows(table, options.max_pixels)
                                          : rows_without_table(model, options, array);
  if (array.defined()) {
    require_rows(rows, array, options.latents);
    require_fit(array, model.options(), options.latents);
  }
  require_sizes(rows, model, options);
  if (array.defined()) warn_of_more(rows, array, options, callbacks);
  OutputFolder output(options.output, options.overwrite);
  std::vector<std::string> inputs(rows.size());
  std::ranges::transform(rows, inputs.begin(), &LatentRow::name);
  output.expect(inputs);
  DecodeResult result;
  for (const std::string& name : inputs) result.images.push_back(output.reserve(name, ".png"));
  callbacks.begin_writing();
  ImageWriter writer(worker_count(options.workers));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    callbacks.stop_if_asked(static_cast<std::int64_t>(i), std::ssize(rows));
    const torch::Tensor latent = latent_of(rows[i], array, model.options(), options.latents);
    try {
      const Size own = options.size ? options.size : rows[i].own;
      const torch::Tensor image =
          resize_back(model.decode(latent, size_of(rows[i], model.options())), own);
      if (!image.isfinite().all().item<bool>()) {
        refuse(options.latents,
               "what the decoder makes of " + in_quotes(rows[i].name) + " is not finite");
      }
      writer.write(output.prepare(result.images[i]), to_uint8(image[0]), ImageFormat::png);
    } catch (const GeometryError& error) {
      refuse(options.latents, printable(rows[i].name) + ": " + error.what());
    }
    callbacks.show("decode", static_cast<std::int64_t>(i) + 1, std::ssize(rows));
  }
  writer.finish();
  return result;
}

}  // namespace convae
