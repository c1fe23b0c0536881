#include "convae/inspection/live.h"

#include "convae/core/files.h"
#include "convae/core/stopwatch.h"
#include "convae/core/text.h"
#include "convae/data/folder.h"
#include "convae/data/globs.h"
#include "convae/data/shards.h"
#include "convae/inference/folder.h"

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

namespace convae {
namespace {

namespace fs = std::filesystem;

constexpr int kPatience = 200;  // milliseconds between two looks at whether to stop

/// Around the strongest place of a map (H, W) and all that is half as strong and touches it.
nlohmann::json box_of(const torch::Tensor& map) {
  const torch::Tensor whole = map.contiguous();
  const cv::Mat values(static_cast<int>(whole.size(0)), static_cast<int>(whole.size(1)), CV_32F,
                       whole.data_ptr());
  double most = 0;
  cv::Point at;
  cv::minMaxLoc(values, nullptr, &most, nullptr, &at);
  cv::Mat regions, boxes, centres;
  cv::connectedComponentsWithStats(values >= most / 2, regions, boxes, centres);
  const int region = regions.at<int>(at);
  const auto number = [&](int what) { return boxes.at<int>(region, what); };
  return {number(cv::CC_STAT_LEFT), number(cv::CC_STAT_TOP), number(cv::CC_STAT_WIDTH),
          number(cv::CC_STAT_HEIGHT)};
}

torch::Tensor decode_for(const Inspector& inspector, const std::vector<std::uint8_t>& bytes,
                         std::int64_t max_pixels) {
  const Model& model = inspector.model();
  const ImageInfo info = probe_image(bytes, max_pixels);
  const Refusal refuse = unfit_for(model.options(), inspector.size());
  if (const auto reason = refuse({{}, info})) throw ImageError(*reason);
  // Whole numbers stay the file's own: the model knows what they mean.
  const ValueRange& range = model.info().value_range;
  const bool is_placed = info.bits == 32 || !range.is_fixed();
  return decode_image(bytes, static_cast<int>(model.options().channels), max_pixels,
                      /*reduction=*/1, is_placed ? range : ValueRange{ValueRange::Kind::automatic});
}

bool is_wanted(const Globs& globs, const std::string& name) {
  const auto any = [&](const std::vector<std::string>& of) {
    return std::ranges::any_of(of, [&](const auto& glob) { return matches_glob(glob, name); });
  };
  return (globs.include.empty() || any(globs.include)) && !any(globs.exclude);
}

/// Tells of files that were written or moved into a folder or the folders in it.
class FolderWatch {
public:
  explicit FolderWatch(const fs::path& root)
      : descriptor_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    if (descriptor_ < 0) fail(root);
    add(root);
  }
  ~FolderWatch() { ::close(descriptor_); }
  FolderWatch(const FolderWatch&) = delete;
  FolderWatch& operator=(const FolderWatch&) = delete;

  /// Calls use(path) for each file that is complete, after at most kPatience.
  void wait(const std::function<void(const fs::path&)>& use) {
    pollfd ready{descriptor_, POLLIN, 0};
    if (::poll(&ready, 1, kPatience) <= 0) return;
    alignas(inotify_event) std::array<char, 1 << 16> events;
    const auto count = ::read(descriptor_, events.data(), events.size());
    for (std::ptrdiff_t at = 0; at < count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(&events[at]);
      at += static_cast<std::ptrdiff_t>(sizeof(inotify_event) + event->len);
      const auto folder = folders_.find(event->wd);
      if (event->len == 0 || folder == folders_.end() || event->name[0] == '.') continue;
      const fs::path path = folder->second / event->name;
      if ((event->mask & IN_ISDIR) == 0) {
        if ((event->mask & IN_CREATE) == 0) use(path);
        continue;
      }
      add(path);
      // What came into it before it was watched.
      for (const auto& entry : fs::recursive_directory_iterator(path)) {
        if (entry.is_regular_file()) use(entry.path());
      }
    }
  }

private:
  void add(const fs::path& folder) {
    const int watch = inotify_add_watch(descriptor_, folder.c_str(),
                                        IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR);
    if (watch < 0) fail(folder);
    folders_[watch] = folder;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_directory() && !entry.is_symlink()) add(entry.path());
    }
  }

  [[noreturn]] static void fail(const fs::path& folder) {
    throw std::runtime_error("cannot watch " + in_quotes(folder) + ": " +
                             std::generic_category().message(errno));
  }

  int descriptor_;
  std::map<int, fs::path> folders_;
};

}  // namespace

bool score_file(const Inspector& inspector, const std::string& path, const LiveOptions& options) {
  const Stopwatch time;
  nlohmann::ordered_json line = {{"path", printable(path)}};
  bool anomalous = false;
  try {
    const torch::Tensor image =
        decode_for(inspector, read_file(path), options.images.data.max_pixels);
    const double threshold = inspector.threshold(options.fpr);
    const auto [score, map] = inspector.score(image, /*map_above=*/threshold);
    anomalous = score > threshold;
    line["score"] = score;
    line["anomalous"] = anomalous;
    line["threshold"] = threshold;
    line["box"] = anomalous ? box_of(map) : nlohmann::json(nullptr);
    line["ms"] = 1000 * time.seconds();
  } catch (const std::exception& error) {
    line["error"] = printable(first_line(error.what()));
  }
  options.on_line(line.dump());
  return anomalous;
}

std::int64_t score_paths(const Inspector& inspector, int descriptor, const LiveOptions& options,
                         const Callbacks& callbacks) {
  std::int64_t anomalies = 0;
  std::string waiting;  // the beginning of a line
  const auto use = [&](std::string_view path) {
    if (path.ends_with('\r')) path.remove_suffix(1);
    if (!path.empty()) anomalies += score_file(inspector, std::string(path), options);
  };
  while (!callbacks.stopped()) {
    pollfd ready{descriptor, POLLIN, 0};
    if (::poll(&ready, 1, kPatience) <= 0) continue;
    std::array<char, 4096> some;
    const auto count = ::read(descriptor, some.data(), some.size());
    if (count <= 0) {
      use(waiting);
      break;
    }
    waiting.append(some.data(), static_cast<std::size_t>(count));
    std::size_t begin = 0;
    for (std::size_t end = waiting.find('\n'); end != std::string::npos && !callbacks.stopped();
         end = waiting.find('\n', begin)) {
      use(std::string_view(waiting).substr(begin, end - begin));
      begin = end + 1;
    }
    waiting.erase(0, begin);
  }
  return anomalies;
}

std::int64_t score_watched(const Inspector& inspector, const LiveOptions& options,
                           const Callbacks& callbacks) {
  const fs::path root = options.images.data.data;
  const Globs globs{options.images.data.include, options.images.data.exclude};
  const auto refuse_shards = [&](bool are_shards) {
    require_option(!are_shards, "--watch: " + in_quotes(root) +
                                    " holds tar shards, into which nothing is written; name a "
                                    "folder of image files, or score without --watch");
  };
  refuse_shards(!shards_named(root).empty());
  FolderWatch watch(root);  // before the listing: what comes meanwhile is not missed
  std::int64_t anomalies = 0;
  std::map<fs::path, fs::file_time_type> seen;
  const auto use = [&](const fs::path& path) {
    std::error_code gone;
    const auto time = fs::last_write_time(path, gone);
    if (gone || callbacks.stopped() || !is_wanted(globs, path.lexically_relative(root).string()) ||
        !looks_like_image(path)) {
      return;
    }
    const auto [place, is_new] = seen.try_emplace(path, time);
    if (!is_new && place->second == time) return;
    place->second = time;
    anomalies += score_file(inspector, path.string(), options);
  };
  for (const ImageFile& file : list_images(root, globs).files) {
    refuse_shards(file.is_in_shard());
    use(file.path);
  }
  while (!callbacks.stopped()) watch.wait(use);
  return anomalies;
}

}  // namespace convae
