#pragma once

#include "convae/evaluation/evaluation.h"

#include <string>

namespace convae::app {

/// A table with intervals, what was left out and why, and who beats whom.
std::string evaluation_table(const Evaluation& evaluation);

}  // namespace convae::app
