#pragma once

#include "convae/inspection/results.h"

#include <cstdint>
#include <string>
#include <vector>

/// What comes of training and scoring a recipe several times.
namespace convae {

struct FoldsResult {
  std::int64_t groups = 0, good = 0;  ///< that were dealt: each good image is tested once
  double rate = 0.01;                 ///< share of good images that may be above a threshold
  std::vector<ScoreResult> folds;
};

/// A measure that every fold has, by its column in folds.csv.
struct FoldMeasure {
  const char* name;
  const char* title;                ///< for people
  double (*of)(const Measures& m);  ///< of all kinds, or of one
};
inline constexpr FoldMeasure kFoldMeasures[] = {
    {"image_auroc", "image AUROC", [](const Measures& m) { return m.auroc.value; }},
    {"average_precision", "average precision",
     [](const Measures& m) { return m.average_precision.value; }},
    {"recall", "recall", [](const Measures& m) { return m.at_threshold.recall(); }},
    {"false_alarms", "false alarms",
     [](const Measures& m) { return m.at_threshold.false_positive_rate(); }},
    {"pixel_auroc", "pixel AUROC", [](const Measures& m) { return m.pixel_auroc; }},
    {"pro", "PRO", [](const Measures& m) { return m.pro; }}};

/// The kinds of defects that any fold has, sorted.
std::vector<std::string> kinds_of(const FoldsResult& result);

/// A measure over the folds; of one kind, or of all together where `kind` is "".
Spread spread_of(const FoldsResult& result, const FoldMeasure& measure,
                 const std::string& kind = "");
/// A control's AUROC, and the network's lead over it.
Spread control_auroc(const FoldsResult& result, Way control);
Spread lead_over(const FoldsResult& result, Way control);

/// The content of folds.csv: a row for each fold and kind, the first of a fold for all kinds.
std::string to_csv(const FoldsResult& result);

/// The content of folds.json; indent: blanks a level, or -1 for one line.
std::string to_json(const FoldsResult& result, int indent = -1);

}  // namespace convae
