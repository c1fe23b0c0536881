#pragma once

#include "convae/models/options.h"
#include "convae/training/run_folder.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <vector>

namespace convae {

/// At most `at_most` of the indices 0 … count-1, spread evenly, with the first and the last.
std::vector<std::size_t> spread(std::size_t count, std::size_t at_most);

/// The columns of metrics.csv, thinned to about `at_most` rows; keeps `best_epoch`.
nlohmann::ordered_json metrics_json(const std::vector<MetricsRow>& rows, std::size_t at_most,
                                    std::int64_t best_epoch);

/// The curve by which `lr auto` chose `chosen`: {"rates", "losses", "chosen"}; null without one.
nlohmann::ordered_json rate_test_json(const std::vector<RatePoint>& curve, double chosen);

/// Root mean squared errors of images, counted in bins of a round width: {"width", "start",
/// "counts"}. Leaves out errors that are not finite.
nlohmann::ordered_json histogram_json(const std::vector<ImageQuality>& images);

/// plan_json(), the number of "parameters", and each level's "settings" as a text.
nlohmann::ordered_json model_json(const ModelOptions& model, Size input);

/// JSON for a page's `<script>`: no name can end the script. Bytes that are not UTF-8 become
/// U+FFFD.
std::string script_json(const nlohmann::ordered_json& data);

}  // namespace convae
