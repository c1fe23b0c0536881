#include "convae/inspection/live.h"

#include "convae/core/files.h"
#include "convae/core/machine.h"
#include "convae/core/paths.h"
#include "convae/core/stopwatch.h"
#include "convae/core/text.h"
#include "convae/data/folder.h"
#include "convae/data/listing.h"
#include "convae/data/mat.h"
#include "convae/inference/folder.h"
#include "convae/inspection/views.h"

#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace convae {
namespace {

namespace fs = std::filesystem;

constexpr int kPatience = 200;  // milliseconds between two looks at whether to stop

/// Around the strongest place of a map (H, W) and all that is half as strong and touches it.
nlohmann::json box_of(const torch::Tensor& map) {
  const torch::Tensor whole = map.contiguous();
  const cv::Mat values = mat_view(whole.unsqueeze(2));
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

/// What takes half of the memory leaves no room for the picture in it.
std::vector<std::uint8_t> read_picture(const std::string& path) {
  const std::int64_t memory = memory_limit_bytes();  // 0: unknown
  return memory > 0 ? read_file(path, memory / 2) : read_file(path);
}

torch::Tensor decode_for(const Inspector& inspector, const std::vector<std::uint8_t>& bytes,
                         std::int64_t max_pixels, std::int64_t& clipped) {
  const Model& model = inspector.model();
  const ImageInfo info = probe_image(bytes, max_pixels);
  const Refusal refuse = unfit_for(model.options(), inspector.size());
  if (const auto reason = refuse({{}, info})) throw ImageError(*reason);
  const Size own{info.height, info.width};
  require_memory_for_view(inspector.size() ? inspector.size() : own);
  if (inspector.size()) require_memory_to_resize(own);
  return decode_image(bytes, static_cast<int>(model.options().channels), max_pixels,
                      /*reduction=*/1, model.info().value_range, &clipped);
}

/// Tells of files that were written or moved into folders.
class FolderWatch {
public:
  enum class Event { found, begun, complete, gone, missed };  // the last without a file
  using Use = std::function<void(const fs::path& file, Event event)>;

  FolderWatch() : descriptor_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    if (descriptor_.get() < 0) fail("folders", EMFILE, "max_user_instances");
  }

  /// Watches these folders and no others; true where one of them was not watched yet. What is gone
  /// again is passed over.
  bool follow(const std::vector<fs::path>& folders) {
    std::map<int, fs::path> before = std::exchange(folders_, {});
    bool is_new = false;
    for (const fs::path& folder : folders) {
      const int watch = inotify_add_watch(descriptor_.get(), folder.c_str(),
                                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_MODIFY |
                                              IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR |
                                              IN_EXCL_UNLINK | IN_DELETE_SELF | IN_MOVE_SELF);
      if (watch < 0 && errno != ENOENT && errno != ENOTDIR) {
        fail(in_quotes(folder), ENOSPC, "max_user_watches");
      }
      if (watch < 0) continue;
      const bool is_known = before.erase(watch) > 0;
      // One that is mounted twice has one watch.
      is_new = (folders_.emplace(watch, folder).second && !is_known) || is_new;
    }
    for (const auto& [watch, folder] : before) inotify_rm_watch(descriptor_.get(), watch);
    return is_new;
  }

  /// Calls use(path, event) for each file that comes, changes or goes, after at most kPatience.
  /// True where folders came or went, or something was missed: all are to be listed anew.
  bool wait(const Use& use) {
    pollfd ready{descriptor_.get(), POLLIN, 0};
    if (::poll(&ready, 1, kPatience) <= 0) return false;
    alignas(inotify_event) std::array<char, 1 << 16> events;
    const auto count = ::read(descriptor_.get(), events.data(), events.size());
    bool is_changed = false;
    for (std::ptrdiff_t at = 0; at < count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(&events[at]);
      at += static_cast<std::ptrdiff_t>(sizeof(inotify_event) + event->len);
      is_changed = note(*event, use) || is_changed;
    }
    return is_changed;
  }

private:
  bool note(const inotify_event& event, const Use& use) {
    if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0) {
      folders_.erase(event.wd);
      inotify_rm_watch(descriptor_.get(),
                       event.wd);  // one that moved would tell of files elsewhere
      return true;
    }
    if ((event.mask & IN_Q_OVERFLOW) != 0) {
      use({}, Event::missed);
      return true;
    }
    const auto folder = folders_.find(event.wd);
    if (event.len == 0 || folder == folders_.end() || event.name[0] == '.') return false;
    if ((event.mask & IN_ISDIR) != 0) return true;
    const fs::path path = folder->second / event.name;
    if ((event.mask & IN_MODIFY) != 0) {
      use(path, Event::begun);
      return false;
    }
    if ((event.mask & IN_CREATE) == 0) {
      const bool is_gone = (event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0;
      use(path, is_gone ? Event::gone : Event::complete);
      std::error_code error;  // a link to a folder comes and goes like a file
      return is_gone ? is_followed(path) : fs::is_directory(path, error);
    }
    // A file that is made is written next. One with content may be a link, its first name gone.
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return false;
    if (S_ISREG(info.st_mode)) use(path, info.st_size > 0 ? Event::found : Event::begun);
    return S_ISLNK(info.st_mode);
  }

  bool is_followed(const fs::path& folder) const {
    return std::ranges::any_of(folders_, [&](const auto& own) { return own.second == folder; });
  }

  /// `at_limit`: the error that says that a setting's limit is reached.
  [[noreturn]] static void fail(const std::string& what, int at_limit, const char* setting) {
    const bool is_limit = errno == at_limit;
    throw std::runtime_error("cannot watch " + what + ": " + system_reason() +
                             (is_limit ? std::string("; the limit may be fs.inotify.") + setting +
                                             ", which sysctl raises"
                                       : ""));
  }

  Descriptor descriptor_;
  std::map<int, fs::path> folders_;
};

/// Scores the images of a folder, each as soon as it is complete.
class WatchedFolder {
public:
  WatchedFolder(const Inspector& inspector, const LiveOptions& options, const Callbacks& callbacks)
      : inspector_(inspector),
        options_(options),
        callbacks_(callbacks),
        root_(without_last_slash(options.data.data)),
        globs_{options.data.include, options.data.exclude} {}

  /// Until it is to stop; returns how many were anomalous.
  std::int64_t run() {
    take(watch_all());
    while (!callbacks_.stopped()) {
      use_complete();
      const bool is_changed =
          watch_.wait([&](const fs::path& path, Event event) { hear(path, event); });
      // The folder may be a link, or lie in a folder, that is changed: a watch stays with the
      // folder it began with.
      if (is_changed || file_id(root_) != watched_root_) take(watch_all());
    }
    return anomalies_;
  }

private:
  using Event = FolderWatch::Event;
  using Clock = std::chrono::steady_clock;
  struct Pending {
    Event last;
    Clock::time_point heard;
  };

  /// A file that is found and not heard of may still be written: it is complete when it has not
  /// changed for so long.
  static constexpr std::chrono::seconds kSettled{1};
  /// One that is written counts as found after so long without a change: its end may be missed.
  static constexpr std::chrono::seconds kAbandoned{30};

  /// Lists it by the rules of every folder of images, but for archives: pictures are packed into
  /// some and removed, and others come. Again until all folders are watched, so that nothing that
  /// comes meanwhile is missed.
  ImageFolder watch_all() {
    for (;;) {
      watched_root_ = file_id(root_);
      ImageFolder listed = list_image_files(root_, globs_);
      folders_ = {listed.folders.begin(), listed.folders.end()};
      const auto is_left = [&](const fs::path& p) { return !folders_.contains(p.parent_path()); };
      std::erase_if(pending_, [&](const auto& pending) { return is_left(pending.first); });
      std::erase_if(seen_, [&](const auto& seen) { return is_left(seen.first); });
      if (!watch_.follow(listed.folders) || callbacks_.stopped()) return listed;
    }
  }

  void take(const ImageFolder& listed) {
    for (const SkippedFile& file : listed.skipped) {
      if (told_.insert(file.name).second) callbacks_.warn(skipped_line(file));
    }
    for (const ImageFile& file : listed.files) {
      pending_.try_emplace(file.path, Pending{Event::found, Clock::now()});
    }
  }

  void hear(const fs::path& path, Event event) {
    if (event == Event::missed) {
      for (auto& [file, pending] : pending_) {
        if (pending.last == Event::begun) pending.last = Event::found;
      }
    } else if (event == Event::gone) {
      pending_.erase(path);
      seen_.erase(path);  // or all names there ever were would fill memory
    } else {
      pending_[path] = {event, Clock::now()};
    }
  }

  bool is_complete(const fs::path& path, const Pending& pending) const {
    if (pending.last == Event::begun) return Clock::now() - pending.heard > kAbandoned;
    if (pending.last == Event::complete) return true;
    std::error_code gone;
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(path, gone);
    return gone || age < std::chrono::seconds(0) || age >= kSettled;
  }

  void use_complete() {
    std::erase_if(pending_, [&](const auto& entry) {
      const auto& [path, pending] = entry;
      if (callbacks_.stopped() || !is_complete(path, pending)) return false;
      use(path);
      return true;
    });
  }

  void use(const fs::path& path) {
    struct stat file {};
    if (!folders_.contains(path.parent_path()) || callbacks_.stopped() ||
        ::stat(path.c_str(), &file) != 0 || !chosen_.takes(path.lexically_relative(root_)) ||
        !looks_like_image(path)) {
      return;
    }
    // Another picture of that name may have been written within the same second.
    const Written written{file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_size,
                          static_cast<std::int64_t>(file.st_ino)};
    if (std::exchange(seen_[path], written) == written) return;
    anomalies_ += score_file(inspector_, path.string(), options_);
  }

  const Inspector& inspector_;
  const LiveOptions& options_;
  const Callbacks& callbacks_;
  fs::path root_;
  Globs globs_;
  Chosen chosen_{globs_};
  FolderWatch watch_;
  using Written = std::array<std::int64_t, 4>;  // when, how much, which file
  std::map<fs::path, Written> seen_;
  std::optional<FileId> watched_root_;
  std::set<fs::path> folders_;           // that are watched, by the latest listing
  std::map<fs::path, Pending> pending_;  // files to be scored
  std::set<std::string> told_;
  std::int64_t anomalies_ = 0;
};

}  // namespace

bool score_file(const Inspector& inspector, const std::string& path, const LiveOptions& options) {
  const Stopwatch time;
  nlohmann::ordered_json line = {{"path", json_text(path)}};
  bool anomalous = false;
  try {
    std::int64_t clipped = 0;
    const torch::Tensor image =
        decode_for(inspector, read_picture(path), options.data.max_pixels, clipped);
    const double threshold = inspector.threshold(options.fpr);
    const auto [score, map] = inspector.score_placed(image, /*map_above=*/threshold);
    anomalous = score > threshold;
    line["score"] = score;
    line["anomalous"] = anomalous;
    line["threshold"] = threshold;
    line["box"] = anomalous ? box_of(map) : nlohmann::json(nullptr);
    line["ms"] = 1000 * time.seconds();
    if (clipped > 0) line["clipped"] = clipped;
  } catch (const std::exception& error) {
    line["error"] = json_text(first_line(error.what()));
  }
  options.on_line(line.dump());
  return anomalous;
}

std::int64_t score_paths(const Inspector& inspector, int descriptor, const LiveOptions& options,
                         const Callbacks& callbacks) {
  std::int64_t anomalies = 0;
  char end_of_path = '\n';  // as `find` prints them; 0 once one is seen, as by `find -print0`
  std::string waiting;      // the beginning of a path
  const auto use = [&](std::string_view path) {
    if (end_of_path == '\n' && path.ends_with('\r')) path.remove_suffix(1);
    if (!path.empty()) anomalies += score_file(inspector, std::string(path), options);
  };
  while (!callbacks.stopped()) {
    pollfd ready{descriptor, POLLIN, 0};
    if (::poll(&ready, 1, kPatience) <= 0) continue;
    std::array<char, 4096> some;
    const auto count = ::read(descriptor, some.data(), some.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) {
      throw std::runtime_error("cannot read the standard input: " + system_reason());
    }
    if (count == 0) {
      use(waiting);
      break;
    }
    waiting.append(some.data(), static_cast<std::size_t>(count));
    if (waiting.find('\0') != std::string::npos) end_of_path = '\0';
    std::size_t begin = 0;
    for (std::size_t end = waiting.find(end_of_path);
         end != std::string::npos && !callbacks.stopped(); end = waiting.find(end_of_path, begin)) {
      use(std::string_view(waiting).substr(begin, end - begin));
      begin = end + 1;
    }
    waiting.erase(0, begin);
  }
  return anomalies;
}

void require_watchable(const DataOptions& data) {
  const fs::path root = data.data;
  const ImageFolder listed = list_images(root, {data.include, data.exclude});
  require_option(listed.files.empty() || !listed.files.is_in_shard(0),
                 "--watch: " + in_quotes(root) +
                     " holds tar shards, into which nothing is written; name a folder of image "
                     "files, or score without --watch");
  if (!fs::is_directory(root)) {
    throw std::runtime_error("cannot watch " + in_quotes(root) + ": it is not a folder");
  }
}

std::int64_t score_watched(const Inspector& inspector, const LiveOptions& options,
                           const Callbacks& callbacks) {
  return WatchedFolder(inspector, options, callbacks).run();
}

}  // namespace convae
