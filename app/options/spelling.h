#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace convae::app {

/// "; did you mean 'x'?" with the candidate nearest to `word` in edits, or "" if none is near.
/// `dashes` are shown before it.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& dashes = "");

}  // namespace convae::app
