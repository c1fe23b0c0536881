#pragma once

#include "convae/inspection/results.h"

#include <string>

namespace convae::app {

/// What is to be said about the scores of a folder, for people: several lines.
std::string score_table(const ScoreResult& result);

}  // namespace convae::app
