#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace convae::app {

/// The candidate nearest to `word` in edits, or "" if none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// ", did you mean 'x'?" or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace convae::app
