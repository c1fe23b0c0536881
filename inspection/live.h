#pragma once

#include "convae/inspection/inspector.h"

#include <cstdint>
#include <functional>
#include <string>

/// Scoring pictures one by one, as they come from a production line.
namespace convae {

struct LiveOptions {
  DataOptions data;  ///< used are data (what to watch), include, exclude and max_pixels
  double fpr = 0.01;
  std::function<void(const std::string& line)> on_line;  ///< takes a line of JSON for each picture
};

/// {"path","score","anomalous","threshold","box":[x,y,w,h]|null,"ms"}: the box is around the
/// strongest place of an anomalous picture, in its pixels. Then "clipped", where that many values
/// are outside the run's value range. {"path","error"} for a file that cannot be used. Returns
/// whether the picture is anomalous.
bool score_file(const Inspector& inspector, const std::string& path, const LiveOptions& options);

/// Scores the files whose paths stand in the lines that the descriptor gives, until it ends or
/// `callbacks` say stop. Returns how many were anomalous. Throws std::runtime_error where it cannot
/// be read.
std::int64_t score_paths(const Inspector& inspector, int descriptor, const LiveOptions& options,
                         const Callbacks& callbacks);

/// Throws OptionError where `data` names tar shards, std::runtime_error where it names no folder,
/// and what list_images() throws: better known before a calibration.
void require_watchable(const DataOptions& data);

/// Scores the images of a folder that require_watchable() takes, and then those that are written or
/// moved into it, when they are complete, until `callbacks` say stop. Throws what list_images()
/// throws, and std::runtime_error where the folder cannot be watched.
std::int64_t score_watched(const Inspector& inspector, const LiveOptions& options,
                           const Callbacks& callbacks);

}  // namespace convae
