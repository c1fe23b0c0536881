#include "convae/app/output/evaluation_report.h"

#include "convae/core/files.h"
#include "convae/metrics/similarity.h"
#include "convae/training/run_folder.h"

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

namespace convae::app {
namespace {

using nlohmann::ordered_json;

/// A rival for the network, coded as it stands or through 8 bits: keys, and names in a sentence.
struct Duel {
  const char* network;
  const char* rival;
  const char* network_name;
  const char* rival_name;
};
constexpr Duel kDuels[] = {{"network", "pca", "network", "PCA"},
                           {"network", "mean_image", "network", "the mean image"},
                           {"network_8_bit", "jpeg", "network in 8 bits", "JPEG"}};

/// Factor and digits with which a measure is shown.
struct Shown {
  const char* title;
  double factor;
  int digits;
};

Shown shown(Measure measure) {
  switch (measure) {
    case Measure::mse:
      return {"mse x 1e-3", 1e3, 3};
    case Measure::psnr:
      return {"PSNR dB", 1, 2};
    case Measure::ssim:
      return {"SSIM", 1, 4};
    case Measure::ms_ssim:
      return {"MS-SSIM", 1, 4};
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
std::string rows(const Contender& contender) {
  std::string means = fmt::format("{:<20}{:<15}", contender.title, contender.code);
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
  const double ratio = static_cast<double>(e.numbers_in) / static_cast<double>(e.numbers_latent);
  const std::string shape = e.size.h > 0 ? fmt::format("of {}x{}", e.channels, to_string(e.size))
                                         : fmt::format("of several sizes, {} channels", e.channels);
  return fmt::format("{} images {} · {} numbers in, {} latent: {:.1f} to 1\n", count, shape,
                     e.numbers_in / count, e.numbers_latent / count, ratio);
}

MeanInterval difference(const Evaluation& e, const Duel& duel) {
  return mean_difference(e.find(duel.network)->measures.values(Measure::mse),
                         e.find(duel.rival)->measures.values(Measure::mse));
}

bool can_meet(const Evaluation& e, const Duel& duel) {
  return e.find(duel.network) != nullptr && e.find(duel.rival) != nullptr;
}

/// True where the interval of a difference holds no other sign.
bool is_settled(const Interval& interval) { return interval.low > 0 || interval.high < 0; }

std::string verdict(const Evaluation& e, const Duel& duel) {
  const Contender& network = *e.find(duel.network);
  const Contender& rival = *e.find(duel.rival);
  const MeanInterval by = difference(e, duel);
  const auto mse = [](const Contender& c) {
    return number(c.measures.mean(Measure::mse).mean, Measure::mse);
  };
  std::string line = fmt::format("The {}{} {} {} ({}): mse {} against {} x 1e-3, difference {}",
                                 duel.network_name, network.bytes ? " (" + network.code + ")" : "",
                                 by.mean < 0 ? "beats" : "LOSES TO", duel.rival_name, rival.code,
                                 mse(network), mse(rival), number(by.mean, Measure::mse));
  if (!std::isnan(by.interval.low)) {
    line += fmt::format(" [{}, {}]", number(by.interval.low, Measure::mse),
                        number(by.interval.high, Measure::mse));
  }
  if (!is_settled(by.interval)) line += "; these images do not settle it";
  constexpr double kMuchMore = 1.2;
  if (rival.bytes && *rival.bytes > kMuchMore * *network.bytes) {
    line += fmt::format("; {} cannot be smaller", duel.rival_name);
  }
  return line + "\n";
}

/// A line a reason.
std::string left_out_lines(const Evaluation& e) {
  std::string text;
  for (auto first = e.left_out.begin(); first != e.left_out.end();) {
    const auto end = std::find_if(first, e.left_out.end(), [&](const LeftOut& reference) {
      return reference.reason != first->reason;
    });
    text += first->title;
    for (auto other = first + 1; other != end; ++other) text += ", " + other->title;
    text += " left out: " + first->reason + "\n";
    first = end;
  }
  return text;
}

std::string notes(const Evaluation& e) {
  std::string text = left_out_lines(e);
  const bool any_small = std::any_of(e.images.begin(), e.images.end(), [](const auto& image) {
    return std::min(image.width, image.height) < kSimilarityWindow;
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

ordered_json json_number(double value) {
  return std::isnan(value) ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json to_json(const MeanInterval& value) {
  return {{"mean", json_number(value.mean)},
          {"low", json_number(value.interval.low)},
          {"high", json_number(value.interval.high)}};
}

ordered_json to_json(const Contender& contender) {
  ordered_json result;
  if (contender.bytes) result["bytes"] = *contender.bytes;
  for (const Measure measure : kMeasures) {
    result[to_string(measure)] = to_json(contender.measures.mean(measure));
  }
  return result;
}

ordered_json to_json(const Evaluation& e, const Duel& duel) {
  const MeanInterval by = difference(e, duel);
  return {{"contender", duel.network},
          {"mse_difference", to_json(by)},
          {"wins", by.mean < 0},
          {"settled", is_settled(by.interval)}};
}

}  // namespace

const Contender* Evaluation::find(const std::string& key) const {
  const auto found = std::find_if(contenders.begin(), contenders.end(),
                                  [&](const Contender& c) { return c.key == key; });
  return found == contenders.end() ? nullptr : &*found;
}

std::string evaluation_table(const Evaluation& e) {
  std::string text = head(e) + "\n";
  std::string titles = fmt::format("{:<20}{:<15}", "", "an image");
  for (const Measure measure : kMeasures) titles += fmt::format("{:<19}", shown(measure).title);
  text += without_trailing_blanks(titles);
  for (const Contender& contender : e.contenders) text += rows(contender);
  text += "\n";
  for (const Duel& duel : kDuels) {
    if (can_meet(e, duel)) text += verdict(e, duel);
  }
  return text + notes(e) + "Below each mean its 95 % interval, by bootstrap over the images\n";
}

std::string evaluation_json(const Evaluation& e) {
  ordered_json json;
  json["checkpoint"] = printable(e.checkpoint);
  json["data"] = printable(e.data);
  json["images"] = e.images.size();
  json["skipped"] = ordered_json::array();
  for (const SkippedFile& file : e.skipped) {
    json["skipped"].push_back({{"path", printable(file.name)}, {"reason", printable(file.reason)}});
  }
  json["size"] = e.size.h > 0 ? ordered_json(to_string(e.size)) : ordered_json(nullptr);
  json["channels"] = e.channels;
  const auto count = static_cast<double>(e.images.size());
  json["numbers_in"] = static_cast<double>(e.numbers_in) / count;
  json["numbers_latent"] = static_cast<double>(e.numbers_latent) / count;
  json["compression"] = static_cast<double>(e.numbers_in) / static_cast<double>(e.numbers_latent);
  json["train_data"] =
      e.training_images > 0 ? ordered_json(printable(e.train_data)) : ordered_json(nullptr);
  json["training_images"] = e.training_images;
  json["also_training_images"] = e.trained_on;
  if (!e.pca_method.empty()) json["pca_method"] = e.pca_method;
  if (!e.ranges_from.empty()) json["ranges_from"] = e.ranges_from;
  if (!e.jpeg_bytes.empty()) json["jpeg_header_bytes"] = e.jpeg_header_bytes;
  const BootstrapOptions bootstrap;
  json["interval"] = {
      {"confidence", bootstrap.confidence}, {"draws", bootstrap.draws}, {"seed", bootstrap.seed}};
  json["results"] = ordered_json::object();
  for (const Contender& contender : e.contenders) {
    json["results"][contender.key] = to_json(contender);
  }
  json["left_out"] = ordered_json::object();
  for (const LeftOut& reference : e.left_out) json["left_out"][reference.key] = reference.reason;
  json["against"] = ordered_json::object();
  for (const Duel& duel : kDuels) {
    if (can_meet(e, duel)) json["against"][duel.rival] = to_json(e, duel);
  }
  return json.dump() + "\n";
}

std::string evaluation_csv(const Evaluation& e) {
  std::string text = "path,width,height";
  for (const Contender& contender : e.contenders) {
    const std::string prefix = contender.key == "network" ? "" : contender.key + "_";
    for (const Measure measure : kMeasures) text += "," + prefix + to_string(measure);
  }
  if (!e.jpeg_bytes.empty()) text += ",jpeg_bytes";
  text += "\n";
  for (std::size_t i = 0; i < e.images.size(); ++i) {
    const EvaluatedImage& image = e.images[i];
    text += csv_field(image.name) + "," + std::to_string(image.width) + "," +
            std::to_string(image.height);
    for (const Contender& contender : e.contenders) {
      for (const Measure measure : kMeasures) {
        text += "," + csv_number(contender.measures.values(measure)[i]);
      }
    }
    if (!e.jpeg_bytes.empty()) text += "," + csv_number(e.jpeg_bytes[i]);
    text += "\n";
  }
  return text;
}

}  // namespace convae::app
