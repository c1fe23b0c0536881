#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace convae {

/// Calls work(0) … work(count - 1) on LibTorch's compute threads, in any order, in the inference
/// mode of the calling thread. Throws what the first call to fail threw, when all are done.
/// (at::parallel_for needs OpenMP switched on in every file that uses it, and ends the process
/// where `work` throws.)
void parallel_for_each(std::int64_t count, const std::function<void(std::int64_t)>& work);

/// Starts `count` threads that run `work`, or fewer where the system gives no more (a limit on
/// processes): check that there is one.
std::vector<std::jthread> start_threads(std::int64_t count, const std::function<void()>& work);

/// Makes LibTorch and OpenMP work on the calling thread alone from now on, which is one of several
/// that each do a job of their own: each would start compute threads of its own otherwise.
void compute_on_this_thread_alone();

}  // namespace convae
