#include "convae/reporting/page.h"

#include "convae/core/local_time.h"
#include "convae/core/version.h"
#include "convae/data/image_io.h"
#include "convae/data/pictures.h"
#include "convae/reporting/report_data.h"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>

namespace convae {

// With style and script; see cmake/EmbedReport.cmake.
extern const std::string_view k_report_page, k_scores_page;

namespace {

constexpr double kAboutBins = 20;
constexpr int kThumbnailQuality = 80;  // of JPEG: half the bytes of 95

std::string base64(const std::vector<std::uint8_t>& bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? bytes[i + k] : 0U);
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

/// The smallest of 1, 2 or 5 times a power of ten that is at least `value`.
double round_up(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * power >= value) return step * power;
  }
  return 10 * power;
}

}  // namespace

std::string page_with(Page page, nlohmann::ordered_json data) {
  constexpr std::string_view kPlace = "@PAGE_DATA@";
  const std::string_view text = page == Page::run ? k_report_page : k_scores_page;
  const std::size_t place = text.find(kPlace);
  if (place == std::string_view::npos) throw std::logic_error("a page's template has no data");
  data["version"] = kVersion;
  data["written"] = local_time();
  std::string result(text);
  return result.replace(place, kPlace.size(), script_json(data));
}

std::string thumbnail_uri(const torch::Tensor& picture, std::int64_t side) {
  const Size own{picture.size(1), picture.size(2)};
  const Size size = shown_size(own, side);
  const bool shrinks = size.h < own.h || size.w < own.w;
  const torch::Tensor shown = shrinks ? resize_image(picture, size.h, size.w) : picture;
  const bool is_enlarged = shown_size(own).h > own.h;
  if (is_enlarged) {
    return "data:image/png;base64," + base64(encode_image(shown, ImageFormat::png));
  }
  return "data:image/jpeg;base64," + base64(encode_small_jpeg(shown, kThumbnailQuality));
}

std::vector<std::int64_t> Bins::counts(const std::vector<double>& values) const {
  std::vector<std::int64_t> counts(count);
  for (const double value : values) {
    const double bin = std::floor(value / width) - std::round(start / width);
    ++counts[static_cast<std::size_t>(std::clamp(bin, 0.0, static_cast<double>(count - 1)))];
  }
  return counts;
}

Bins bins_between(double low, double high) {
  const double range = std::max(high - low, std::abs(high) * 1e-3);
  const double width = range > 0 ? round_up(range / kAboutBins) : 1e-3;
  const double first = std::floor(low / width);
  return {width, first * width, static_cast<std::size_t>(std::floor(high / width) - first) + 1};
}

}  // namespace convae
