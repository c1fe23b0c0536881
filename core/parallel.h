#pragma once

#include <cstdint>
#include <functional>

namespace convae {

/// Calls work(0) … work(count - 1) on LibTorch's compute threads, in any order; `work` must not
/// throw. (at::parallel_for needs OpenMP switched on in every file that uses it.)
void parallel_for_each(std::int64_t count, const std::function<void(std::int64_t)>& work);

}  // namespace convae
