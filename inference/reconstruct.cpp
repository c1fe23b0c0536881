#include "convae/inference/reconstruct.h"

#include "convae/core/csv.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_io.h"
#include "convae/data/image_writer.h"
#include "convae/data/picture_file.h"
#include "convae/data/pictures.h"
#include "convae/inference/folder.h"
#include "convae/inference/reconstruct_tiles.h"
#include "convae/metrics/image_metrics.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"
#include "convae/training/corruption.h"
#include "convae/training/run_folder.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <optional>
#include <utility>

namespace convae {
namespace {

constexpr const char* kTable = "reconstruct.csv";

class ReconstructJob {
public:
  ReconstructJob(const Model& model, const ReconstructOptions& options, const Callbacks& callbacks)
      : options_(options),
        callbacks_(callbacks),
        folder_(model, options.images, callbacks, ImagesAt::own_size, tiled_job(options)),
        good_pictures_(good_pictures_for(options.corruptions, folder_.dataset(),
                                         /*at=*/folder_.network_size({}))),
        output_(options.output, options.overwrite),
        names_(static_cast<std::size_t>(folder_.size())),
        images_(names_.size()),
        writer_(folder_.workers()) {
    // As measured: an image as floats, its reconstruction, and what compares them.
    folder_.require_memory_at_own_size(/*bytes_a_value=*/32);
    reserve_names();
    if (options.overwrite) output_.spare(folder_.paths());
    std::error_code error;
    const bool is_data =
        std::filesystem::equivalent(options.output, options.images.data.data, error);
    require_option(!is_data && !folder_.has_images_in(options.output),
                   "--output " + in_quotes(options.output) +
                       ": reconstructions would lie among the images, and be taken for some; "
                       "choose another folder");
    warn_of_other_images(options.output, callbacks, &output_);
    if (options.overwrite && !options.grid) warn_of_earlier("grid");
    if (options.overwrite && !options.error_map) warn_of_earlier("error");
  }

  ReconstructResult run() {
    ranks().barrier();  // all have looked whether files exist before one writes any
    callbacks_.begin_writing();
    if (leads()) output_.drop(kTable);
    const auto note = [&](const std::vector<Numbers>& images) {
      for (const Numbers& image : images) images_[static_cast<std::size_t>(image.index)] = image;
    };
    try {
      folder_.for_each(
          "reconstruct", [&](const MicroBatch& batch) { return reconstruct(batch); }, note);
      folder_.for_each_tiled(
          [&](std::int64_t index, ImageWindows& picture) {
            return std::vector{reconstruct_tiled(index, picture)};
          },
          note);
    } catch (const Interrupted& stop) {
      throw Interrupted(std::string(stop.what()) + "; no reconstruct.csv was written");
    }
    writer_.finish();
    skip_changed();
    for (const std::string& line : lines_of(lost_by_ranks())) callbacks_.warn(line);
    const ReconstructResult result = summary();
    if (leads()) write_file(output_.prepare(kTable), to_csv(result));
    return result;
  }

private:
  static TilePlan::Job tiled_job(const ReconstructOptions& options) {
    // The image, its reconstruction and what is made of them to be seen.
    TilePlan::Job job{.result = TiledResult::reconstruction,
                      .bytes_a_pixel = 60,
                      .bytes_written = 3 + (options.grid ? 9 : 0) + (options.error_map ? 3 : 0)};
    if (!options.corruptions.empty()) job.never = "--corrupt corrupts whole pictures";
    return job;
  }

  using Notes = std::vector<std::pair<std::string, std::int64_t>>;  // on which images

  /// What is told of an image.
  struct Numbers {
    std::int64_t index;
    double mse, ssim, input_mse;
  };

  /// Where one image's results go; relative to the output folder, empty where not asked for.
  struct Names {
    std::string reconstruction, grid, error_map;
  };

  void reserve_names() {
    const std::vector<std::string> inputs = folder_.names();
    output_.expect(inputs);
    if (options_.grid) output_.expect(inputs, "grid");
    if (options_.error_map) output_.expect(inputs, "error");
    // Reconstructions first: an input may lie in a folder named grid, and keeps its name.
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      require_format_of_tiles(static_cast<std::int64_t>(i));
      names_[i].reconstruction =
          keeps_format() ? output_.reserve_exact(inputs[i]) : output_.reserve(inputs[i], ".png");
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (options_.grid) names_[i].grid = output_.reserve(inputs[i], ".png", "grid");
      if (options_.error_map) names_[i].error_map = output_.reserve(inputs[i], ".png", "error");
    }
    output_.reserve_exact(kTable);
  }

  /// Of pictures beside other reconstructions; an input may lie in a folder of that name.
  void warn_of_earlier(const std::string& folder) const {
    const auto pictures = options_.output / folder;
    const bool is_own = std::ranges::any_of(
        names_, [&](const Names& names) { return names.reconstruction.starts_with(folder + "/"); });
    std::error_code error;
    if (is_own || !std::filesystem::is_directory(pictures, error)) return;
    callbacks_.warn(in_quotes(pictures) +
                    " is of an earlier call, not of these reconstructions; remove it, or choose "
                    "another -o");
  }

  void require_format_of_tiles(std::int64_t index) const {
    if (!keeps_format() || !folder_.is_tiled(index)) return;
    require_option(is_written_in_rows(folder_.entry(index).info.format),
                   "--format 'keep': " + in_quotes(folder_.name(index)) +
                       " goes through in tiles, and only PNG and TIFF are written from such; leave "
                       "--format out");
  }

  Numbers reconstruct_tiled(std::int64_t index, ImageWindows& picture) {
    const Names& names = names_[static_cast<std::size_t>(index)];
    const auto path = [&](const std::string& name) {
      return name.empty() ? std::filesystem::path() : output_.prepare(name);
    };
    const TiledFiles files{path(names.reconstruction), path(names.grid), path(names.error_map),
                           options_.format};
    std::vector<std::string> lost;
    const ImageQuality quality =
        reconstruct_in_tiles(folder_, index, picture, files, callbacks_, lost);
    note_losses(index, lost);
    ++done_;
    return {index, quality.mse, quality.ssim, /*input_mse=*/0};
  }

  void note_losses(std::int64_t index, const std::vector<std::string>& lost) {
    std::lock_guard lock(mutex_);
    for (const std::string& part : lost) lost_.emplace_back("not kept: " + part, index);
  }

  /// Of all ranks, in the order of the images, each once.
  static Notes told_once(const Notes& own) {
    Notes all;
    for (Notes& told : told_by_ranks(own)) std::ranges::move(told, std::back_inserter(all));
    std::ranges::sort(all);
    const auto rest = std::ranges::unique(all);
    all.erase(rest.begin(), rest.end());
    return all;
  }

  Remarks lost_by_ranks() {
    Remarks remarks;
    for (const auto& [remark, index] : told_once(lost_)) {
      remarks[remark].push_back(folder_.name(index));
    }
    return remarks;
  }

  void remove_results(const Names& names) const {
    std::error_code ignored;
    for (const std::string& name : {names.reconstruction, names.grid, names.error_map}) {
      if (!name.empty()) std::filesystem::remove(options_.output / name, ignored);
    }
  }

  /// Those whose file was replaced after it was decoded: they have no reconstruction.
  void skip_changed() {
    for (const auto& [reason, index] : told_once(changed_)) {
      images_[static_cast<std::size_t>(index)].reset();
      folder_.skip(index, reason);
      if (leads()) remove_results(names_[static_cast<std::size_t>(index)]);
    }
    if (std::ranges::none_of(images_, [](const auto& image) { return image.has_value(); })) {
      throw std::runtime_error("none of the images could be read");
    }
  }

  std::vector<Numbers> reconstruct(const MicroBatch& batch) {
    const Size own{batch.images.size(2), batch.images.size(3)};
    const torch::Tensor original = to_float(batch.images, folder_.model().device());
    const torch::Tensor shown =
        corrupt(folder_.network_input(batch.images),
                {options_.corruptions, options_.seed, /*epoch=*/0, good_pictures_}, batch.indices);
    const torch::Tensor reconstruction = resize_back(folder_.model().reconstruct(shown), own);
    // As a picture shows it: noise has left [0,1].
    const torch::Tensor input = corrupts() ? resize_back(shown, own).clamp(0, 1) : original;
    const torch::Tensor mse = image_mse(reconstruction, original);
    const torch::Tensor input_mse = image_mse(input, original);
    const torch::Tensor ssim = image_ssim(reconstruction, original);
    const bool compares = options_.grid || options_.error_map;
    const torch::Tensor originals = compares ? original.cpu() : original;
    const torch::Tensor inputs = compares ? input.cpu() : input;
    const torch::Tensor reconstructions = reconstruction.cpu();
    std::vector<Numbers> numbers;
    for (std::int64_t i = 0; i < mse.numel(); ++i) {
      callbacks_.stop_if_asked(done_, folder_.size());
      const std::int64_t index = batch.indices[static_cast<std::size_t>(i)];
      const auto error = mse[i].item<double>();
      require_finite(error, folder_.name(index));
      if (!write_images(index, inputs[i], reconstructions[i], originals[i])) continue;
      numbers.push_back({index, error, ssim[i].item<double>(), input_mse[i].item<double>()});
      ++done_;
    }
    return numbers;
  }

  /// False where the file, whose format is to be kept, cannot be read any more.
  bool write_images(std::int64_t index, const torch::Tensor& input,
                    const torch::Tensor& reconstruction, const torch::Tensor& original) {
    const Names& names = names_[static_cast<std::size_t>(index)];
    if (keeps_format()) {
      if (!write_like_original(index, reconstruction)) return false;
    } else {
      write(names.reconstruction, to_uint8(reconstruction));
    }
    if (options_.grid) write(names.grid, comparison_picture(input, reconstruction, original));
    if (options_.error_map) write(names.error_map, error_picture(original, reconstruction));
    return true;
  }

  bool write_like_original(std::int64_t index, const torch::Tensor& reconstruction) {
    auto original = folder_.dataset().read_file_of(index);
    if (!original) return false;
    const std::string& name = names_[static_cast<std::size_t>(index)].reconstruction;
    writer_.write(output_.prepare(name), reconstruction,
                  [this, index, file = std::move(*original)](const torch::Tensor& image) {
                    return encoded_like(index, file, image);
                  });
    return true;
  }

  /// Empty where the file has changed too much.
  std::vector<std::uint8_t> encoded_like(std::int64_t index, const std::vector<std::uint8_t>& file,
                                         const torch::Tensor& image) {
    std::vector<std::string> lost;
    try {
      auto bytes = encode_like(image, file, options_.images.data.max_pixels,
                               folder_.model().info().value_range, lost);
      note_losses(index, lost);
      return bytes;
    } catch (const ImageError& error) {
      std::lock_guard lock(mutex_);
      changed_.emplace_back(error.what(), index);
      return {};
    }
  }

  void write(const std::string& name, const torch::Tensor& pixels) {
    writer_.write(output_.prepare(name), pixels, ImageFormat::png);
  }

  ReconstructResult summary() {
    ReconstructResult result;
    ImageMean mse, psnrs, ssim, input_psnr;
    for (const std::optional<Numbers>& image : images_) {
      if (!image) continue;
      mse.add(image->mse);
      psnrs.add(psnr(image->mse));
      ssim.add(image->ssim);
      input_psnr.add(psnr(image->input_mse));
      result.images.push_back({{folder_.name(image->index), folder_.entry(image->index).file_size(),
                                image->mse, psnr(image->mse), image->ssim},
                               image->input_mse});
    }
    result.skipped = folder_.skipped();
    result.mse = mse.mean();
    result.psnr = psnrs.mean();
    result.ssim = ssim.mean();
    result.input_psnr = input_psnr.mean();
    result.corrupted = corrupts();
    result.precision = folder_.model().precision();
    return result;
  }

  bool corrupts() const { return !options_.corruptions.empty(); }
  bool keeps_format() const { return options_.format == WriteAs::keep; }

  const ReconstructOptions& options_;
  const Callbacks& callbacks_;
  ModelFolder folder_;
  GoodPictures good_pictures_;
  OutputFolder output_;
  std::vector<Names> names_;
  std::vector<std::optional<Numbers>> images_;
  std::int64_t done_ = 0;
  std::mutex mutex_;  // guards what follows
  Notes lost_;        // what files have that their reconstructions have not
  Notes changed_;     // why they are no longer what they were
  ImageWriter writer_;
};

}  // namespace

std::string to_csv(const ReconstructResult& result) {
  std::string text = "path,width,height,mse,psnr,ssim";
  if (result.corrupted) text += ",input_mse,input_psnr";
  const bool says_precision = result.precision != Precision::fp32;
  text += says_precision ? ",precision\n" : "\n";
  for (const auto& [quality, input_mse] : result.images) {
    text += csv_fields(quality);
    if (result.corrupted) text += "," + csv_number(input_mse) + "," + csv_number(psnr(input_mse));
    if (says_precision) text += std::string(",") + to_string(result.precision);
    text += "\n";
  }
  return text;
}

ReconstructResult reconstruct_folder(const Model& model, const ReconstructOptions& options,
                                     const Callbacks& callbacks) {
  require_corruptions(options.corruptions);
  return ReconstructJob(model, options, callbacks).run();
}

}  // namespace convae
