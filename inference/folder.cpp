#include "convae/inference/folder.h"

#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/data/header_index.h"
#include "convae/data/listing.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"
#include "convae/training/image_list.h"
#include "convae/training/memory.h"

#include <torch/types.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace convae {

struct ModelFolder::Found {
  FoundImages images;
  std::optional<TilePlan> tiles;
};

ModelFolder::Found ModelFolder::find(const Model& model, const FolderOptions& options,
                                     const Callbacks& callbacks,
                                     const std::optional<TilePlan::Job>& job) {
  options.validate();
  const Size fixed = fixed_network_size(options.data.size, model.options());
  std::optional<TilePlan> tiles;
  if (job) tiles.emplace(model, options, *job);
  const bool lifts_limit = tiles && tiles->lifts_limit();
  const Refusal unfit = unfit_for(model.options(), fixed);
  DataOptions data = options.data;
  data.index = index_beside_run(model.path());
  if (lifts_limit) data.max_pixels = kAnyArea;  // the plan knows better
  const Refusal refuse = [&](const ImageEntry& entry) {
    const auto reason = lifts_limit ? tiles->refusal(entry) : std::nullopt;
    return reason ? reason : unfit(entry);
  };
  Found found{find_images(data.data, data, refuse, callbacks, options.prefix), tiles};
  if (leads()) found.images.keep_headers();
  callbacks.say("images " + std::to_string(found.images.entries.size()) + " · skipped " +
                std::to_string(found.images.skipped.size()));
  callbacks.say("device " + model.device().str());
  const std::string line = tiles ? tiles->line(found.images.entries) : "";
  if (!line.empty()) callbacks.say(line);
  return found;
}

void FolderOptions::validate() const {
  data.validate();
  require_option(batch_size >= 1,
                 "batch-size must be at least 1, but is " + std::to_string(batch_size));
  require_within(data.size, data.max_pixels);
}

Size fixed_network_size(Size asked, const ModelOptions& model) {
  if (model.latent == 0) return asked;
  require_option(!asked || asked == model.size,
                 "--size '" + to_string(asked) + "': this model has a dense latent and works at " +
                     to_string(model.size) + " only; leave --size out");
  return model.size;
}

Refusal unfit_for(const ModelOptions& model, Size fixed_size) {
  return [levels = model.levels, fixed_size](const ImageEntry& entry) {
    return why_impossible(levels, fixed_size ? fixed_size : entry.file_size());
  };
}

std::filesystem::path run_of(const Model& model) {
  return model.run().empty() ? run_of(model.path()) : model.run();
}

std::int64_t require_memory(const Model& model, const std::vector<Size>& sizes,
                            std::int64_t bytes_a_value) {
  if (!model.device().is_cpu()) return kMaxBatchPixels;
  return require_memory_for_inference(model.options(), sizes, free_memory_bytes(), /*beside=*/0,
                                      bytes_a_value);
}

void require_memory_at(Size own, double bytes, const char* way_out) {
  const auto free = static_cast<double>(free_memory_bytes());
  if (free == 0 || bytes <= free) return;
  throw std::runtime_error(
      fmt::format("an image of {} takes {:.1f} GB at its own size, but {:.1f} GB are free{}; {}",
                  to_string(own), bytes / 1e9, free / 1e9, limit_text(bytes), way_out));
}

torch::Tensor resize_back(const torch::Tensor& images, Size own) {
  if (images.size(2) == own.h && images.size(3) == own.w) return images;
  return at::_upsample_bilinear2d_aa(images, per_axis(own), /*align_corners=*/false).clamp(0, 1);
}

void require_finite(double error, const std::string& image) {
  if (std::isfinite(error)) return;
  throw std::runtime_error(in_quotes(image) +
                           ": the network's output is not finite; this checkpoint is of a run "
                           "that diverged");
}

void require_finite(const torch::Tensor& values, const std::string& image) {
  require_finite(values.abs().max().item<double>(), image);
}

void require_within(Size size, std::int64_t max_pixels) {
  require_sides("size", size);
  if (!size || size.h <= max_pixels / size.w) return;
  throw OptionError("--size '" + to_string(size) + "': more than --max-pixels " +
                    std::to_string(max_pixels));
}

std::string among_images(const std::filesystem::path& output) {
  return "--output " + in_quotes(output) +
         ": results would lie among the images, and training would leave out all of them as "
         "results; choose another folder";
}

void warn_of_other_images(const std::filesystem::path& output, const Callbacks& callbacks,
                          const OutputFolder* own) {
  if (is_folder_of_results(output)) return;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(output, error)) {
    const bool is_own = own != nullptr && own->reserves(entry.path().filename().string());
    if (is_own || !looks_like_image(entry.path())) continue;
    callbacks.warn("the results lie among the images in " + in_quotes(output) +
                   ": training will take that folder for results, and leave out all its images");
    return;
  }
}

ModelFolder::ModelFolder(Model model, const FolderOptions& options, const Callbacks& callbacks,
                         ImagesAt at, const std::optional<TilePlan::Job>& job)
    : ModelFolder(model, find(model, options, callbacks, job), options, callbacks, at) {}

ModelFolder::ModelFolder(Model model, FoundImages images, const FolderOptions& options,
                         const Callbacks& callbacks, ImagesAt at)
    : ModelFolder(std::move(model), Found{std::move(images), std::nullopt}, options, callbacks,
                  at) {}

ModelFolder::ModelFolder(Model model, Found found, const FolderOptions& options,
                         const Callbacks& callbacks, ImagesAt at)
    : model_(std::move(model)),
      callbacks_(callbacks),
      skips_bad_(options.data.skip_bad),
      max_pixels_(options.data.max_pixels),
      tiles_(std::move(found.tiles)),
      fixed_size_(fixed_network_size(options.data.size, model_.options())),
      skipped_(std::move(found.images.skipped)),
      dataset_(std::move(found.images.entries),
               {.channels = model_.options().channels,
                .size = at == ImagesAt::network_size ? fixed_size_ : Size{},
                .crop = {},
                .cache = Cache::none,
                .skip_bad = options.data.skip_bad,
                .max_pixels = options.data.max_pixels,
                .value_range = model_.info().value_range}) {
  batches_.batch_size = options.batch_size;
  batches_.network_size = fixed_size_;
  batches_.workers = worker_count(options.data.workers);
  if (!tiled().empty()) {
    batches_.leaves_out = [this](std::int64_t index) { return is_tiled(index); };
  }
  for (const std::int64_t i : tiled()) tiles_->require_memory_to_decode(entry(i));
  batches_.max_pixels = least_of_ranks(require_memory(model_, network_sizes()));
  if (at == ImagesAt::network_size) require_memory_at_own_size(/*bytes_a_value=*/0);
  if (ranks().size() > 1) require_same_images_on_ranks(image_digest(dataset_, nullptr));
  dataset_.on_bad_file = [this](const SkippedFile& bad) {
    // In an earlier pass another rank may have met it.
    if (!bad_elsewhere_.contains(bad.name)) callbacks_.warn(skipped_line(bad));
  };
}

void ModelFolder::require_memory_at_own_size(std::int64_t bytes_a_value) const {
  if (!fixed_size_) return;
  // Where an image is not resized as it is loaded, it is in a batch, too, beside the next one.
  const std::int64_t copies = dataset_.options().size ? 0 : 2;
  Size largest;
  double needed = 0;
  for (std::int64_t i = 0; i < size(); ++i) {
    const Size own = entry(i).file_size();
    const auto bytes =
        static_cast<double>(dataset_.decoded_bytes(i) + copies * dataset_.stored_bytes(i) +
                            bytes_a_value * model_.options().channels * own.area());
    if (bytes > needed) std::tie(largest, needed) = std::tie(own, bytes);
  }
  require_memory_at(largest, needed, "make it smaller or leave it out with --exclude");
}

void ModelFolder::make_own(const std::string& stage, std::vector<Step> plan,
                           const std::function<void(const Step&)>& use) {
  const torch::NoGradGuard no_grad;
  batches_.stage = stage;
  batches_.processes = ranks().size();
  for_each_planned(dataset_, own_items(std::move(plan)), batches_, callbacks_, use);
}

void ModelFolder::open_tiled(std::int64_t index, const std::function<void(ImageWindows&)>& use) {
  const torch::NoGradGuard no_grad;
  std::optional<ImageWindows> picture;
  try {
    picture.emplace(entry(index).file, static_cast<int>(model_.options().channels), max_pixels_,
                    model_.info().value_range);
  } catch (const std::exception& error) {
    return skip(index, first_line(error.what()));
  }
  try {
    if (picture->size() != entry(index).file_size()) {
      throw ImageError("its size changed since it was listed");
    }
    use(*picture);
  } catch (const ImageError& error) {
    skip(index, error.what());
  } catch (const std::exception& error) {
    if (!may_pass(error)) throw;
    skip(index, "there is not enough memory for its rows");
  }
  if (picture->clipped() > 0) {
    const std::int64_t values = picture->size().area() * model_.options().channels;
    // Windows overlap, so that only their share is that of the picture.
    const double share =
        static_cast<double>(picture->clipped()) / static_cast<double>(picture->decoded());
    const auto clipped = std::max(1LL, std::llround(share * static_cast<double>(values)));
    dataset_.note_clipped({{index, {clipped, values}}});
  }
}

void ModelFolder::end_pass() {
  hear_ranks();
  if (std::ssize(bad()) == size()) throw std::runtime_error("none of the images could be read");
  const std::string clipped = dataset_.clipped_line();
  if (!clipped.empty() && clipped != std::exchange(said_clipped_, clipped)) {
    callbacks_.warn(clipped);
  }
}

/// What other ranks found out about their images; the first rank tells of it.
void ModelFolder::hear_ranks() {
  if (ranks().size() == 1) return;
  for (const auto& clipped : told_by_ranks(dataset_.clipped())) dataset_.note_clipped(clipped);
  std::vector<std::pair<std::string, std::string>> bad(bad_later_.begin(), bad_later_.end());
  for (const SkippedFile& file : dataset_.bad_files()) bad.emplace_back(file.name, file.reason);
  const std::map<std::string, std::string> own(bad.begin(), bad.end());
  for (const auto& told : told_by_ranks(bad)) {
    for (const auto& [name, reason] : told) {
      if (own.contains(name) || !bad_elsewhere_.emplace(name, reason).second) continue;
      callbacks_.warn(skipped_line({name, reason}));
    }
  }
  const auto warnings = told_by_ranks(std::exchange(unheard_, {}));
  for (std::size_t rank = 1; rank < warnings.size(); ++rank) {
    for (const std::string& line : warnings[rank]) callbacks_.warn(line);
  }
}

void ModelFolder::warn(const std::string& line) {
  callbacks_.warn(line);  // where this is not the first rank, nobody hears it
  if (!leads()) unheard_.push_back(line);
}

void ModelFolder::skip(std::int64_t index, const std::string& reason) {
  if (!skips_bad_) throw std::runtime_error(in_quotes(name(index)) + ": " + reason);
  bad_later_[name(index)] = reason;
  callbacks_.warn(skipped_line({name(index), reason}));
}

std::vector<std::int64_t> ModelFolder::tiled() const {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < size(); ++i) {
    if (is_tiled(i)) indices.push_back(i);
  }
  return indices;
}

std::vector<Size> ModelFolder::network_sizes() const {
  std::set<Size> sizes;
  for (std::int64_t i = 0; i < size(); ++i) {
    if (!is_tiled(i)) sizes.insert(network_size(dataset_.image_size(i)));
  }
  return {sizes.begin(), sizes.end()};
}

std::vector<std::filesystem::path> ModelFolder::paths() const {
  std::vector<std::filesystem::path> paths;
  for (std::int64_t i = 0; i < size(); ++i) paths.emplace_back(entry(i).file.path);
  return paths;
}

bool ModelFolder::has_images_in(const std::filesystem::path& folder) const {
  const auto wanted = file_id(folder);
  std::set<std::filesystem::path> folders;
  for (std::int64_t i = 0; i < size(); ++i) folders.insert(parent_folder(entry(i).file.path));
  return wanted && std::ranges::any_of(folders, [&](const std::filesystem::path& own) {
           return file_id(own) == wanted;
         });
}

/// Those that turned out unusable, on any rank, and why.
std::map<std::string, std::string> ModelFolder::bad() const {
  std::map<std::string, std::string> bad = bad_elsewhere_;
  for (const SkippedFile& file : dataset_.bad_files()) bad[file.name] = file.reason;
  bad.insert(bad_later_.begin(), bad_later_.end());
  return bad;
}

std::vector<SkippedFile> ModelFolder::skipped() const {
  std::vector<SkippedFile> all = skipped_;
  for (const auto& [name, reason] : bad()) all.push_back({name, reason});
  return all;
}

torch::Tensor ModelFolder::network_input(const torch::Tensor& images) const {
  const Size own{images.size(2), images.size(3)};
  const Size size = network_size(own);
  if (size == own) return to_float(images, model_.device());
  std::vector<torch::Tensor> resized;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    resized.push_back(resize_image(images[i], size.h, size.w));
  }
  return to_float(torch::stack(resized), model_.device());
}

}  // namespace convae
