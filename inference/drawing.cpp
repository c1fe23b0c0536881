#include "convae/inference/drawing.h"

#include "convae/core/files.h"
#include "convae/core/machine.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"
#include "convae/models/pixels.h"

#include <ATen/ops/lerp.h>

#include <fmt/format.h>

#include <cmath>

namespace convae {
namespace {

constexpr std::int64_t kMostOnSheet = 64;
constexpr std::int64_t kMostInStrip = 32;
constexpr std::int64_t kMostShownSide = 512;  // of a picture among others

void check_count(const char* option, std::int64_t count, std::int64_t low, std::int64_t high) {
  require_option(
      count >= low && count <= high,
      fmt::format("--{} '{}': expected a number between {} and {}", option, count, low, high));
}

/// Pictures that a decoder draws: PREFIX_00001.png and so on, and some of them in one.
struct Series {
  std::vector<std::filesystem::path> inputs;
  std::string prefix;
  std::int64_t count;
  Size size;
  /// The latent of picture `i`, from 0: (1, …).
  std::function<torch::Tensor(std::int64_t i)> latent;
  std::string sheet;  ///< name of the one picture
  std::function<bool(std::int64_t i)> is_on_sheet;
  torch::Tensor (*arrange)(const std::vector<torch::Tensor>& shown);
};

template <typename Options>
DrawnPictures draw(const Model& model, const Options& options, const Series& series,
                   const Callbacks& callbacks) {
  OutputFolder output(options.output, options.overwrite);
  DrawnPictures drawn{{}, series.sheet, 0, series.size};
  const auto name_of = [&](std::int64_t i) {
    return fmt::format("{}_{:05}.png", series.prefix, i + 1);
  };
  for (std::int64_t i = 0; i < series.count; ++i) {
    drawn.images.push_back(output.reserve_exact(name_of(i)));
  }
  output.reserve_exact(series.sheet);
  output.spare(series.inputs);
  warn_of_other_images(options.output, callbacks, &output);
  if (const auto next = options.output / name_of(series.count);
      options.overwrite && is_there(next)) {
    callbacks.warn(in_quotes(next) +
                   " and those after it are of an earlier call; remove them, or choose another -o");
  }
  callbacks.begin_writing();
  output.drop(series.sheet);
  ImageWriter writer(worker_count(options.workers));
  std::vector<torch::Tensor> shown;
  for (std::int64_t i = 0; i < series.count; ++i) {
    callbacks.stop_if_asked(i, series.count);
    const std::string& name = drawn.images[static_cast<std::size_t>(i)];
    const torch::Tensor decoded = model.decode(series.latent(i), series.size)[0];
    require_finite(decoded, name);
    const torch::Tensor image = to_uint8(decoded);
    writer.write(output.prepare(name), image, ImageFormat::png);
    if (series.is_on_sheet(i)) shown.push_back(at_shown_size(image, kMostShownSide));
    callbacks.show(series.prefix, i + 1, series.count);
  }
  writer.write(output.prepare(drawn.sheet), series.arrange(shown), ImageFormat::png);
  writer.finish();
  drawn.on_sheet = std::ssize(shown);
  return drawn;
}

/// Images beside and below each other, as square as it gets.
torch::Tensor contact_sheet(const std::vector<torch::Tensor>& images) {
  const auto columns = static_cast<std::ptrdiff_t>(std::ceil(std::sqrt(images.size())));
  std::vector<torch::Tensor> rows;
  for (auto begin = images.begin(); begin != images.end();) {
    const auto end = begin + std::min(columns, images.end() - begin);
    rows.push_back(row_of_pictures({begin, end}));
    begin = end;
  }
  return stack_pictures(rows);
}

torch::Tensor read_end(const std::filesystem::path& path, std::int64_t max_pixels,
                       const Model& model, const Callbacks& callbacks) {
  try {
    const std::vector<std::uint8_t> file = read_file(path);
    const ImageInfo info = probe_image(file, max_pixels);
    const Size own{info.height, info.width};
    const auto channels = static_cast<int>(model.options().channels);
    // What the codec has, the image and, if it is turned, another.
    require_memory_at(own, 3.0 * channels * info.bits / 8 * static_cast<double>(own.area()),
                      "make it smaller");
    std::int64_t clipped = 0;
    const ValueRange& range = model.info().value_range;
    torch::Tensor image =
        decode_image(file, channels, max_pixels, /*reduction=*/1, range, &clipped);
    if (clipped > 0) {
      callbacks.warn(in_quotes(path) + " has values outside the value range " + to_string(range) +
                     ", which were clipped");
    }
    return image;
  } catch (const ImageError& error) {
    throw std::runtime_error(in_quotes(path) + ": " + error.what());
  }
}

}  // namespace

DrawnPictures draw_samples(const Model& model, const SampleOptions& options,
                           const Callbacks& callbacks) {
  check_count("count", options.count, 1, 100'000);
  model.options().require_latents("sample");
  model.require_variational();
  const Size size = fixed_network_size(options.size, model.options());
  require_option(static_cast<bool>(size),
                 "--size is needed, such as --size 96: this model's images have no size of their "
                 "own");
  if (const auto reason = why_impossible(model.options().levels, size)) {
    throw OptionError("--size '" + to_string(size) + "': " + *reason);
  }
  require_memory(model, {size});
  return draw(
      model, options,
      {.inputs = {},
       .prefix = "sample",
       .count = options.count,
       .size = size,
       .latent = [&](std::int64_t i) { return model.draw_latents(1, size, options.seed, i); },
       .sheet = "samples.png",
       .is_on_sheet = [](std::int64_t i) { return i < kMostOnSheet; },
       .arrange = contact_sheet},
      callbacks);
}

DrawnPictures interpolate(const Model& model, const InterpolateOptions& options,
                          const Callbacks& callbacks) {
  const std::int64_t steps = options.steps;
  check_count("steps", steps, 2, 10'000);
  model.options().require_latents("interpolate");
  require_within(options.size, options.max_pixels);
  const torch::Tensor first = read_end(options.from, options.max_pixels, model, callbacks);
  const torch::Tensor last = read_end(options.to, options.max_pixels, model, callbacks);
  Size size = fixed_network_size(options.size, model.options());
  if (!size) size = {first.size(1), first.size(2)};
  if (const auto reason = why_impossible(model.options().levels, size)) {
    throw OptionError("images of " + to_string(size) + ": " + *reason + "; set another --size");
  }
  require_memory(model, {size});
  const auto latent_of = [&](const torch::Tensor& image) {
    const torch::Tensor seen = resize_image(image, size.h, size.w).unsqueeze(0);
    return model.encode(to_float(seen, model.device()));
  };
  const torch::Tensor from = latent_of(first);
  const torch::Tensor to = latent_of(last);
  const auto between = [&](std::int64_t i) {
    return at::lerp(from, to, static_cast<double>(i) / static_cast<double>(steps - 1));
  };
  // Both ends are in it: as many gaps as pictures less one.
  const std::int64_t every = (steps - 1 + kMostInStrip - 2) / (kMostInStrip - 1);
  return draw(model, options,
              {.inputs = {options.from, options.to},
               .prefix = "step",
               .count = steps,
               .size = size,
               .latent = between,
               .sheet = "strip.png",
               .is_on_sheet = [&](std::int64_t i) { return i % every == 0 || i + 1 == steps; },
               .arrange = row_of_pictures},
              callbacks);
}

}  // namespace convae
