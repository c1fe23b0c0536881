#include "convae/app/output/tables.h"
#include "convae/core/text.h"
#include "convae/metrics/similarity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace convae::app {
namespace {

const char* title(Coder coder) {
  switch (coder) {
    case Coder::network: return "network";
    case Coder::pca: return "PCA";
    case Coder::mean_image: return "mean image";
    case Coder::network_8_bit: return "network in 8 bits";
    case Coder::jpeg: return "JPEG";
    case Coder::corrupted: return "corrupted image";
    case Coder::gaussian_blur: return "Gaussian blur";
    case Coder::non_local_means: return "non-local means";
  }
  return "";
}

/// What an image's code takes or, where images are restored, how strong a filter is.
std::string code(const Evaluation& e, const Contender& contender) {
  if (contender.strength) {
    return fmt::format("{} {:g}", contender.coder == Coder::gaussian_blur ? "sigma" : "h",
                       *contender.strength);
  }
  if (!e.corruptions.empty()) return "";
  if (contender.coder == Coder::network && contender.numbers == 0) return "";
  return contender.bytes ? fmt::format("{:.0f} bytes", *contender.bytes)
                         : fmt::format("{} numbers", contender.numbers);
}

/// Factor and digits with which a measure is shown.
struct Shown {
  const char* title;
  double factor;
  int digits;
};

Shown shown(Measure measure) {
  switch (measure) {
    case Measure::mse: return {"mse x 1e-3", 1e3, 3};
    case Measure::psnr: return {"PSNR dB", 1, 2};
    case Measure::ssim: return {"SSIM", 1, 4};
    case Measure::ms_ssim: return {"MS-SSIM", 1, 4};
  }
  return {};
}

std::string number(double value, Measure measure) {
  const Shown how = shown(measure);
  return std::isnan(value) ? "none" : fmt::format("{:.{}f}", value * how.factor, how.digits);
}

std::string range(const Interval& interval, Measure measure) {
  if (std::isnan(interval.low)) return "";
  return number(interval.low, measure) + " – " + number(interval.high, measure);
}

std::string without_trailing_blanks(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

/// Two lines: means, and their intervals below them.
std::string rows(const Evaluation& e, const Contender& contender) {
  std::string means = fmt::format("{:<20}{:<15}", title(contender.coder), code(e, contender));
  std::string intervals(35, ' ');
  for (const Measure measure : kMeasures) {
    const MeanInterval value = contender.measures.mean(measure);
    means += fmt::format("{:<19}", number(value.mean, measure));
    intervals += fmt::format("{:<19}", range(value.interval, measure));
  }
  return without_trailing_blanks(means) + without_trailing_blanks(intervals);
}

std::string head(const Evaluation& e) {
  const auto count = static_cast<std::int64_t>(e.images.size());
  const auto of_an_image = [&](std::int64_t numbers) {
    return std::llround(static_cast<double>(numbers) / static_cast<double>(count));
  };
  const double ratio = static_cast<double>(e.numbers_in) / static_cast<double>(e.numbers_latent);
  const std::string shape = e.size ? fmt::format("of {}x{}", e.channels, to_string(e.size))
                                   : fmt::format("of several sizes, {} channels", e.channels);
  if (!e.corruptions.empty()) {
    return fmt::format("{} images {}, corrupted by {}\n", count, shape, e.corruptions);
  }
  if (e.numbers_latent == 0) {
    return fmt::format("{} images {} · {} numbers in\n", count, shape, of_an_image(e.numbers_in));
  }
  return fmt::format("{} images {} · {} numbers in, {} latent: {:.1f} to 1\n", count, shape,
                     of_an_image(e.numbers_in), of_an_image(e.numbers_latent), ratio);
}

std::string verdict(const Evaluation& e, const Duel& duel) {
  const Contender& network = *e.find(duel.network);
  const Contender& rival = *e.find(duel.rival);
  const bool is_name =
      duel.rival == Coder::pca || duel.rival == Coder::jpeg || duel.rival == Coder::non_local_means;
  const std::string rival_name = std::string(is_name ? "" : "the ") + title(duel.rival);
  const std::string how = code(e, rival);
  const auto mse = [](double value) { return number(value, Measure::mse); };
  const auto mean = [&](const Contender& c) { return mse(c.measures.mean(Measure::mse).mean); };
  std::string line = fmt::format(
      "The {}{} {} {}{}: mse {} against {} x 1e-3, difference {}", title(duel.network),
      network.bytes ? " (" + code(e, network) + ")" : "", duel.wins() ? "beats" : "LOSES TO",
      rival_name, how.empty() ? "" : " (" + how + ")", mean(network), mean(rival),
      mse(duel.difference.mean));
  const Interval& interval = duel.difference.interval;
  if (!std::isnan(interval.low)) {
    line += fmt::format(" [{}, {}]", mse(interval.low), mse(interval.high));
  }
  if (!duel.is_settled()) line += "; these images do not settle it";
  constexpr double kMuchMore = 1.2;
  if (rival.bytes && *rival.bytes > kMuchMore * *network.bytes) {
    line += fmt::format("; {} cannot be smaller", rival_name);
  }
  return line + "\n";
}

/// A line a reason.
std::string left_out_lines(const Evaluation& e) {
  std::string text;
  for (auto first = e.left_out.begin(); first != e.left_out.end();) {
    const std::string& reason = first->reason;
    std::vector<const char*> coders;
    for (; first != e.left_out.end() && first->reason == reason; ++first) {
      coders.push_back(title(first->coder));
    }
    text += fmt::format("{} left out: {}\n", fmt::join(coders, ", "), reason);
  }
  return text;
}

std::string notes(const Evaluation& e) {
  std::string text = left_out_lines(e);
  const bool any_small = std::any_of(e.images.begin(), e.images.end(), [](const auto& image) {
    return std::min(image.size.h, image.size.w) < kSimilarityWindow;
  });
  if (any_small) {
    text +=
        fmt::format("SSIM and MS-SSIM leave out images with a side under {}\n", kSimilarityWindow);
  }
  const std::int64_t scales = ms_ssim_scales(std::min(e.size.h, e.size.w));
  if (scales > 0 && scales < 5) {
    text += fmt::format("MS-SSIM at {} has {} of its 5 scales\n", to_string(e.size), scales);
  }
  if (e.training_images > 0) {
    text += fmt::format("References fitted to {} images of {}", e.training_images,
                        printable(e.train_data));
    text += e.pca_method.empty() ? "\n" : " (PCA: " + e.pca_method + ")\n";
  }
  if (!e.ranges_from.empty()) text += "Ranges of the 8-bit codes: " + e.ranges_from + "\n";
  if (!e.jpeg_bytes.empty()) {
    text +=
        fmt::format("JPEG without its headers and tables, {:.0f} bytes more, the same for all\n",
                    e.jpeg_header_bytes);
  }
  if (e.trained_on > 0) {
    text += fmt::format(
        "{} of these images are among the training images: what is new to the "
        "network will come out worse\n",
        e.trained_on);
  }
  return text;
}

}  // namespace

std::string evaluation_table(const Evaluation& e) {
  std::string text = head(e) + "\n";
  const char* of_code = e.corruptions.empty() ? "an image" : "strength";
  std::string titles = fmt::format("{:<20}{:<15}", "", of_code);
  for (const Measure measure : kMeasures) titles += fmt::format("{:<19}", shown(measure).title);
  text += without_trailing_blanks(titles);
  for (const Contender& contender : e.contenders) text += rows(e, contender);
  text += "\n";
  for (const Duel& duel : e.duels()) text += verdict(e, duel);
  return text + notes(e) + "Below each mean its 95 % interval, by bootstrap over the images\n";
}

}  // namespace convae::app
