#include "convae/app/output/tables.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace convae::app {
namespace {

std::string cell(double value) { return to_string(Estimate{value, {}}); }

std::string difference(double value, const Interval& interval) {
  if (std::isnan(interval.low)) return fmt::format("{:+.3f}", value);
  return fmt::format("{:+.3f} [{:+.3f}, {:+.3f}]", value, interval.low, interval.high);
}

std::string row(const std::string& title, const Measures& m) {
  return fmt::format("{:<22}{:>9}  {:<22}  {:<22}  {:>6}  {:>6}  {:>11}  {:>6}\n", title,
                     m.anomalous, to_string(m.auroc), to_string(m.average_precision),
                     cell(m.at_threshold.recall()), cell(m.at_threshold.f1()), cell(m.pixel_auroc),
                     cell(m.pro));
}

std::string fold_row(const std::string& title, const Spread& spread) {
  return fmt::format("{:<26}{:>8}{:>8}  {} … {}\n", title, cell(spread.mean),
                     cell(spread.deviation), cell(spread.least), cell(spread.most));
}

std::string measures_table(const ScoreResult& r) {
  std::string text =
      fmt::format("\n{:<22}{:>9}  {:<22}  {:<22}  {:>6}  {:>6}  {:>11}  {:>6}\n", "", "anomalous",
                  "image AUROC [95 %]", "average precision", "recall", "F1", "pixel AUROC", "PRO");
  text += row("all", r.overall[kNetwork]);
  for (const auto& [kind, measures] : r.kinds) text += row("  " + printable(kind), measures);
  text += row(to_string(kResidualAlone), r.overall[kResidualAlone]) + "controls\n";
  for (const Way way : kControls) text += row(std::string("  ") + to_string(way), r.overall[way]);
  const Measures& m = r.overall[kNetwork];
  text += fmt::format("\n{}\n", to_string(r.masks));
  text += fmt::format("{} good images, false alarms {}; their scores and areas: r = {}\n", m.good,
                      cell(m.at_threshold.false_positive_rate()), to_string(r.area_correlation));
  if (!r.compares()) return text;
  const auto& [lead, interval] = r.lead[r.strongest_control];
  return text + fmt::format("network over '{}': AUROC {}\n", to_string(r.strongest_control),
                            difference(lead, interval));
}

}  // namespace

std::string score_table(const ScoreResult& r) {
  return fmt::format(
             "{} images, {} anomalous: score above {:.3f}, which at most {:.3g} % of good images "
             "exceed\n"
             "(calibrated on {} good images in {} groups)\n",
             r.images.size(), r.anomalous_images, r.thresholds[kNetwork],
             100 * std::max(r.rate, r.smallest_rate), r.calibration.images(),
             r.calibration.groups) +
         (r.labelled
              ? measures_table(r)
              : "no labels, so no measures; docs/inspection.md has the layout of folders that "
                "gives them\n");
}

std::string fold_line(std::int64_t fold, const ScoreResult& r) {
  const Measures& m = r.overall[kNetwork];
  return fmt::format(
      "fold {}: {} good images, {} with defects: image AUROC {}, no network {}, PRO {}, pixel "
      "AUROC {}, "
      "false alarms {}",
      fold, m.good, m.anomalous, cell(m.auroc.value), cell(r.overall[kNoNetwork].auroc.value),
      cell(m.pro), cell(m.pixel_auroc), cell(m.at_threshold.false_positive_rate()));
}

std::string folds_table(const FoldsResult& result) {
  std::string text = fmt::format(
      "\n{} good images in {} groups, each tested in one of {} folds\n\n{:<26}{:>8}{:>8}  {}\n",
      result.good, result.groups, result.folds.size(), "", "mean", "sd", "min … max");
  for (const FoldMeasure& measure : kFoldMeasures) {
    text += fold_row(measure.title, spread_of(result, measure));
    if (&measure != kFoldMeasures) continue;  // the image AUROC, which comes first
    for (const std::string& kind : kinds_of(result)) {
      text += fold_row("  " + printable(kind), spread_of(result, measure, kind));
    }
    for (const Way way : kControls) {
      text += fold_row(fmt::format("control: {}", to_string(way)), control_auroc(result, way));
    }
  }
  const Spread lead = lead_over(result, kNoNetwork);
  return text + fmt::format(
                    "\nnetwork over 'no network': AUROC {}\n"
                    "false alarms and recall at --fpr {}\n",
                    difference(lead.mean, lead.interval()), number_text(result.rate));
}

}  // namespace convae::app
