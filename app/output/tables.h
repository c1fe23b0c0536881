#pragma once

#include "convae/evaluation/evaluation.h"
#include "convae/inspection/fold_results.h"

#include <string>

namespace convae::app {

/// For people, several lines: a table with intervals, what was left out and why, and who beats
/// whom.
std::string evaluation_table(const Evaluation& evaluation);

/// Likewise, what is to be said about the scores of a folder.
std::string score_table(const ScoreResult& result);

/// Likewise, of a recipe's folds.
std::string folds_table(const FoldsResult& result);
/// One fold in a line.
std::string fold_line(std::int64_t fold, const ScoreResult& result);

}  // namespace convae::app
