#include "convae/app/output/tables.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {
namespace {

std::string fold_cell(double value) { return to_string(Estimate{value, {}}); }

std::string fold_row(const std::string& title, const Spread& spread) {
  return fmt::format("{:<26}{:>8}{:>8}  {} … {}\n", title, fold_cell(spread.mean),
                     fold_cell(spread.deviation), fold_cell(spread.least), fold_cell(spread.most));
}

}  // namespace

std::string fold_line(std::int64_t fold, const ScoreResult& r) {
  const Measures& m = r.overall[kNetwork];
  return fmt::format(
      "fold {}: {} good images, {} with defects: image AUROC {}, no network {}, PRO {}, pixel "
      "AUROC {}, "
      "false alarms {}",
      fold, m.good, m.anomalous, fold_cell(m.auroc.value),
      fold_cell(r.overall[kNoNetwork].auroc.value), fold_cell(m.pro), fold_cell(m.pixel_auroc),
      fold_cell(m.at_threshold.false_positive_rate()));
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
  const Interval interval = lead.interval();
  return text + fmt::format(
                    "\nnetwork over 'no network': AUROC {:+.3f} [{:+.3f}, {:+.3f}]\n"
                    "false alarms and recall at --fpr {}\n",
                    lead.mean, interval.low, interval.high, number_text(result.rate));
}

}  // namespace convae::app
