#include "convae/inspection/results.h"
#include "convae/inspection/test_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace convae {
namespace {

/// A score that follows the area of good images more than this measures sizes.
constexpr double kMostAreaCorrelation = 0.2;

using Images = std::vector<const ScoredImage*>;

ScoredImages labelled(const Images& images, Way way) {
  ScoredImages scored;
  for (const ScoredImage* image : images) {
    scored.add(image->scores[way], image->label != kGoodLabel);
  }
  return scored;
}

/// A measure of the images, and its interval over samples of their groups.
template <typename Measure>
Estimate estimate(const Images& images, std::uint64_t seed, const Measure& measure) {
  std::map<std::string, std::vector<std::int64_t>> by_group;
  for (std::size_t i = 0; i < images.size(); ++i) {
    by_group[images[i]->group].push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::vector<std::int64_t>> groups;
  for (auto& [group, members] : by_group) groups.push_back(std::move(members));
  const auto of_sample = [&](std::span<const std::int64_t> drawn) {
    Images sample;
    sample.reserve(drawn.size());
    for (const std::int64_t i : drawn) sample.push_back(images[static_cast<std::size_t>(i)]);
    return measure(sample);
  };
  return {measure(images), bootstrap_interval(groups, of_sample, {.seed = seed})};
}

/// Good images and those of one kind of defect, or of all where that is "".
Images images_of_kind(const Scores& scores, const std::string& kind) {
  Images images;
  for (const ScoredImage& image : scores.images) {
    const bool good = image.label == kGoodLabel;
    if (!image.label.empty() && (good || kind.empty() || image.label == kind)) {
      images.push_back(&image);
    }
  }
  return images;
}

/// Of good images and those of one kind, or of all.
void add_pixels(Measures& m, const std::map<std::string, PixelMetrics>& pixels,
                const std::string& kind) {
  if (pixels.empty()) return;
  PixelMetrics sum;
  for (const auto& [label, metrics] : pixels) {
    if (kind.empty() || label == kind || label == kGoodLabel) sum += metrics;
  }
  m.pixel_auroc = sum.auroc();
  m.pro = sum.pro();
  m.regions = sum.regions();
}

Measures measures(const Scores& scores, Way way, const std::string& kind, std::uint64_t seed) {
  const Images images = images_of_kind(scores, kind);
  const ScoredImages all = labelled(images, way);
  const auto of = [&](double (*measure)(const ScoredImages&)) {
    return estimate(images, seed,
                    [&](const Images& sample) { return measure(labelled(sample, way)); });
  };
  Measures m;
  m.anomalous = std::count(all.anomalous.begin(), all.anomalous.end(), true);
  m.good = std::ssize(images) - m.anomalous;
  m.auroc = of(&auroc);
  m.average_precision = of(&average_precision);
  m.at_threshold = detections(all, scores.thresholds[way]);
  add_pixels(m, scores.pixels[way], kind);
  return m;
}

/// How far a way tells images apart, whichever way round: small images may be the bad ones.
double usefulness(const ScoreResult& result, Way way) {
  const double value = result.overall[way].auroc.value;
  return way == kArea ? std::max(value, 1 - value) : value;
}

void measure_kinds(ScoreResult& result, std::uint64_t seed) {
  std::set<std::string> kinds;
  for (const ScoredImage& image : result.images) kinds.insert(image.label);
  kinds.erase("");
  result.labelled = kinds.erase(kGoodLabel) > 0 && !kinds.empty();
  if (!result.labelled) return;
  for (std::size_t way = 0; way < kWays; ++way) {
    result.overall[way] = measures(result, static_cast<Way>(way), "", seed);
  }
  for (const std::string& kind : kinds) {
    result.kinds[kind] = measures(result, kNetwork, kind, seed);
  }
  const Images all = images_of_kind(result, "");
  for (const Way control : kControls) {
    result.lead[control] = estimate(all, seed, [&](const Images& sample) {
      return auroc(labelled(sample, kNetwork)) - auroc(labelled(sample, control));
    });
    if (usefulness(result, control) > usefulness(result, result.strongest_control)) {
      result.strongest_control = control;
    }
  }
  result.beats_controls =
      usefulness(result, kNetwork) > usefulness(result, result.strongest_control);
}

std::string about_controls(const ScoreResult& result) {
  const Way control = result.strongest_control;
  const double ours = usefulness(result, kNetwork), theirs = usefulness(result, control);
  const Interval& lead = result.lead[control].interval;
  if (!result.beats_controls) {
    return fmt::format("the network does not beat the control '{}': AUROC {:.3f} against {:.3f}",
                       to_string(control), ours, theirs);
  }
  if (lead.low > 0 || std::isnan(lead.low) || control == kArea) return "";
  return fmt::format(
      "the network's lead over the control '{}' may be chance: AUROC {:.3f} against {:.3f}, "
      "difference in [{:.3f}, {:.3f}]",
      to_string(control), ours, theirs, lead.low, lead.high);
}

std::vector<std::string> warnings(const ScoreResult& result) {
  std::vector<std::string> warnings;
  if (result.rate < result.smallest_rate) {
    warnings.push_back(fmt::format(
        "{} good images cannot show a rate of {:g}: the threshold is the highest of their scores, "
        "which about {:.1f} % of good images exceed; keep more out of training with --val-split",
        result.calibration.images(), result.rate, 100 * result.smallest_rate));
  }
  const std::string controls = result.labelled ? about_controls(result) : "";
  if (!controls.empty()) warnings.push_back(controls);
  const auto& [r, interval] = result.area_correlation;
  if (std::abs(r) > kMostAreaCorrelation) {
    const bool may_be_chance = interval.low <= 0 && interval.high >= 0;
    warnings.push_back(fmt::format("scores of good images follow their area{}: r = {}",
                                   may_be_chance ? ", which may be chance" : "",
                                   to_string(result.area_correlation)));
  }
  return warnings;
}

}  // namespace

PerWay<double> Calibration::thresholds(double rate) const {
  PerWay<double> thresholds{};
  for (std::size_t way = 0; way < kWays; ++way) {
    thresholds[way] = threshold_for_rate(scores[way], rate);
  }
  return thresholds;
}

ScoreResult summarize(Scores scores, std::uint64_t seed) {
  ScoreResult result;
  static_cast<Scores&>(result) = std::move(scores);
  result.anomalous_images =
      std::count_if(result.images.begin(), result.images.end(),
                    [&](const ScoredImage& image) { return result.anomalous(image); });
  result.smallest_rate = smallest_rate(result.calibration.images());
  const Images good = images_of_kind(result, kGoodLabel);
  result.area_correlation = estimate(good, seed, [](const Images& sample) {
    return correlation(labelled(sample, kNetwork).scores, labelled(sample, kArea).scores);
  });
  measure_kinds(result, seed);
  result.warnings = warnings(result);
  return result;
}

}  // namespace convae
