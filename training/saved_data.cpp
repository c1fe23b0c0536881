#include "convae/training/saved_data.h"

// Errors come as exceptions, which carry line numbers.
#define TOML_EXCEPTIONS 1
#include "convae/core/csv.h"
#include "convae/core/errors.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"
#include "convae/metrics/similarity.h"
#include "convae/training/run_folder.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <map>
#include <sstream>

namespace convae {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse_value(const char* key) {
  throw OptionError(std::string(key) + " has a value that cannot be read");
}

template <typename T>
void read_value(const toml::table& config, const char* table, const char* key, T& field) {
  const auto node = config[table][key];
  if (!node) return;
  const std::optional<T> value = node.value<T>();
  if (!value) refuse_value(key);
  field = *value;
}

/// A list of strings.
void read_value(const toml::table& config, const char* key, std::vector<std::string>& field) {
  const auto node = config["data"][key];
  if (!node) return;
  const toml::array* list = node.as_array();
  if (list == nullptr) refuse_value(key);
  for (const toml::node& element : *list) {
    if (!element.is_string()) refuse_value(key);
    field.push_back(element.as_string()->get());
  }
}

/// "96x128", or `unset` for {0, 0}.
void read_value(const toml::table& config, const char* key, const char* unset, Size& field) {
  std::string text = unset;
  read_value(config, "data", key, text);
  if (text == unset) return;
  const std::optional<Size> size = parse_size(text);
  if (!size || std::min(size->h, size->w) < 1 || std::max(size->h, size->w) > kMaxSide) {
    refuse_value(key);
  }
  field = *size;
}

SavedData read_values(const toml::table& config) {
  SavedData saved;
  DataOptions& data = saved.data;
  read_value(config, "data", "data", data.data);
  read_value(config, "data", "val", data.val);
  read_value(config, "include", data.include);
  read_value(config, "exclude", data.exclude);
  read_value(config, "images", data.images);
  read_value(config, "data", "val-split", data.val_split);
  read_value(config, "data", "group-regex", data.group_regex);
  read_value(config, "size", "native", data.size);
  read_value(config, "crop", "none", data.crop);
  read_value(config, "data", "channels", data.channels);
  std::string range = to_string(data.value_range);
  read_value(config, "data", "value-range", range);
  data.value_range = parse_value_range(range);
  read_value(config, "data", "max-pixels", data.max_pixels);
  read_value(config, "data", "skip-bad", data.skip_bad);
  read_value(config, "data", "workers", data.workers);
  data.validate();
  std::string loss = to_string(saved.loss);
  read_value(config, "train", "loss", loss);
  saved.loss = parse_loss(loss);
  return saved;
}

/// Hashes of where images lie, behind links: there may be millions, so folders are looked at once,
/// and files only for whether they are links.
class Places {
public:
  std::uint64_t of(const ImageFile& image) {
    const fs::path& path = image.path;
    std::error_code error;
    if (fs::is_symlink(path, error)) {
      return hash(fs::weakly_canonical(path, error).string(), image.offset);
    }
    const fs::path parent = parent_folder(path);
    const auto [folder, is_new] = folders_.try_emplace(parent.string());
    if (is_new) folder->second = fs::weakly_canonical(absolute_path(parent), error).string();
    return hash(folder->second + "/" + path.filename().string(), image.offset);
  }

private:
  static std::uint64_t hash(const std::string& path, std::int64_t offset) {
    return std::hash<std::string>()(offset > 0 ? path + "/" + std::to_string(offset) : path);
  }

  std::map<std::string, std::string> folders_;
};

/// Of the images of these names in `folder`, sorted.
std::vector<std::uint64_t> places_of(const std::vector<std::string>& names, const fs::path& folder,
                                     const DataOptions& data, bool in_shards, Places& places) {
  std::vector<std::uint64_t> found;
  if (in_shards) {
    const std::set<std::string_view> listed(names.begin(), names.end());
    for (const ImageFile& file :
         list_images(folder, {data.include, data.exclude}, "", data.index).files) {
      if (listed.contains(file.name)) found.push_back(places.of(file));
    }
  } else {
    const fs::path root = fs::is_regular_file(folder) ? folder.parent_path() : folder;
    for (const std::string& name : names) found.push_back(places.of({name, root / name}));
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

std::string data_config(const SavedData& saved) {
  const auto list = [](const std::vector<std::string>& elements) {
    toml::array all;
    for (const std::string& element : elements) all.push_back(element);
    return all;
  };
  const auto size_or = [](Size size, const char* unset) {
    return size ? to_string(size) : std::string(unset);
  };
  const DataOptions& data = saved.data;
  const toml::table config{{"data", toml::table{{"data", data.data},
                                                {"val", data.val},
                                                {"include", list(data.include)},
                                                {"exclude", list(data.exclude)},
                                                {"images", list(data.images)},
                                                {"val-split", data.val_split},
                                                {"group-regex", data.group_regex},
                                                {"size", size_or(data.size, "native")},
                                                {"crop", size_or(data.crop, "none")},
                                                {"channels", data.channels},
                                                {"value-range", to_string(data.value_range)},
                                                {"max-pixels", data.max_pixels},
                                                {"skip-bad", data.skip_bad},
                                                {"workers", data.workers}}},
                           {"train", toml::table{{"loss", to_string(saved.loss)}}}};
  std::ostringstream text;
  text << "# Of a run trained by a program: what convae needs to find its images again.\n"
       << config << "\n";
  return text.str();
}

void keep_to_trained_images(SplitImages& images, const std::filesystem::path& run,
                            const CheckpointInfo& info, const Callbacks& callbacks) {
  if (run.empty()) return;
  const ImageList list = RunFolder::watch(run).read_images();
  if (list.digest() != info.images) return;
  const auto leave_out = [](ImageEntries& entries, const std::vector<std::string>& listed) {
    const std::set<std::string_view> known(listed.begin(), listed.end());
    return entries.take_if([&](std::size_t i) { return !known.contains(entries.files().name(i)); })
        .size();
  };
  const std::size_t count =
      leave_out(images.training, list.training) + leave_out(images.validation, list.validation);
  if (count > 0) {
    callbacks.warn(fmt::format("left out {} image{} in {} that the training did not use", count,
                               count == 1 ? "" : "s", in_quotes(images.folder)));
  }
  const std::size_t had = list.training.size() + list.validation.size();
  const std::size_t has = images.training.size() + images.validation.size();
  if (has == had) return;
  callbacks.warn(
      fmt::format("{} of the {} images of the training are no longer in {}, or cannot be "
                  "used; only the others count",
                  had - has, had, in_quotes(images.folder)));
}

OwnImages own_images_among(std::int64_t count, const ImageAt& image_at, const fs::path& run,
                           const CheckpointInfo& info) {
  OwnImages own;
  if (run.empty() || count == 0) return own;
  DataOptions data = saved_data(info).data;
  if (data.data.empty()) return own;
  data.index = (run.parent_path() / ".index").string();
  Places places;
  std::vector<std::uint64_t> images;
  for (std::int64_t i = 0; i < count; ++i) images.push_back(places.of(image_at(i)));
  const bool in_shards = image_at(0).is_in_shard();
  const auto among = [&](const std::vector<std::string>& names, const std::string& folder) {
    const std::vector<std::uint64_t> known = places_of(names, folder, data, in_shards, places);
    return std::ranges::count_if(
        images, [&](std::uint64_t image) { return std::ranges::binary_search(known, image); });
  };
  try {
    const ImageList list = RunFolder::watch(run).read_images();
    if (has_images(data.data)) {
      own.training = among(list.training, data.data);
    } else {
      const std::set<std::string_view> known(list.training.begin(), list.training.end());
      for (std::int64_t i = 0; i < count; ++i) own.namesakes += known.contains(image_at(i).name);
    }
    own.validation = among(list.validation, data.val.empty() ? data.data : data.val);
  } catch (const std::runtime_error&) {
    // A damaged table, or a folder that is gone, only means no warning.
  }
  return own;
}

std::set<std::string> names_in(const std::filesystem::path& run, const char* table) {
  std::set<std::string> names;
  if (run.empty() || !is_there(run / table)) return names;
  try {
    for (CsvReader rows(run / table); rows.next();) names.insert(rows.text("path"));
  } catch (const std::runtime_error&) {
    names.clear();
  }
  return names;
}

SavedData saved_data(const CheckpointInfo& info) {
  try {
    return read_values(toml::parse(info.config));
  } catch (const toml::parse_error& error) {
    throw CheckpointError("the checkpoint's configuration, line " +
                          std::to_string(error.source().begin.line) + ": " +
                          printable(error.description()));
  } catch (const OptionError& error) {
    throw CheckpointError(std::string("the checkpoint's configuration: ") + error.what());
  }
}

Refusal unfit_for_training(const ModelOptions& model, const DataOptions& data, const Loss& loss) {
  const auto why_unfit = [levels = model.levels, data,
                          loss](const ImageEntry& entry) -> std::optional<std::string> {
    if (const auto reason = why_not_cropped(entry, data)) return reason;
    const Size size = size_in_batches(entry, data);
    if (needs_window(loss) && std::min(size.h, size.w) < kSimilarityWindow) {
      return "smaller than the " + std::to_string(kSimilarityWindow) +
             " pixels a side that --loss " + in_quotes(to_string(loss)) + " needs";
    }
    return why_impossible(levels, size);
  };
  return why_unfit;
}

}  // namespace convae
