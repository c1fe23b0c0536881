#pragma once

#include "convae/training/run_folder.h"

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace convae {

/// Input, reconstruction and error of an image, as data: URIs.
using ThumbnailRow = std::array<std::string, 3>;

/// The sample pictures of a run as its report shows them.
class ReportPictures {
public:
  /// Adds "samples" (pictures of up to 20 epochs), "best" and "worst" to a report's data, their
  /// "pictures", each data: URI once, and "defects", samples/defects.png (null: none). A picture
  /// that cannot be read or does not match samples.csv is not shown; the rest of the report still
  /// helps.
  void add_to(nlohmann::ordered_json& data, const RunFolder& folder);

private:
  /// Of the last report, by the picture's name and epoch, so that no picture is read twice.
  std::map<std::pair<std::string, std::int64_t>, std::vector<ThumbnailRow>> cut_;
};

}  // namespace convae
