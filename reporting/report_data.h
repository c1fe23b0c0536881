#pragma once

#include "convae/models/options.h"
#include "convae/training/run_folder.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <vector>

namespace convae {

/// Places of at most `at_most` of `count` things, spread evenly, first and last among them.
std::vector<std::size_t> spread(std::size_t count, std::size_t at_most);

/// The columns of metrics.csv, thinned to `at_most` rows; `best_epoch` is always among them.
nlohmann::ordered_json metrics_json(const std::vector<MetricsRow>& rows, std::size_t at_most,
                                    std::int64_t best_epoch);

/// Root mean squared errors of images, counted in bins of one width, a round number:
/// {"width", "start", "counts"}. Errors that are not finite are left out.
nlohmann::ordered_json histogram_json(const std::vector<ImageQuality>& images);

/// Sizes level by level as `convae shapes` shows them, and how many numbers the latent has.
nlohmann::ordered_json model_json(const ModelOptions& model, Size input);

/// JSON as it may stand in a page's `<script>`: whatever a name holds, it never ends the script.
/// Bytes that are not UTF-8 become U+FFFD.
std::string script_json(const nlohmann::ordered_json& data);

}  // namespace convae
