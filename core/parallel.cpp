#include "convae/core/parallel.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <exception>
#include <mutex>
#include <system_error>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace convae {
namespace {

// libgomp is not built for ThreadSanitizer, so tell it that a parallel region begins after what
// came before it and ends before what follows; and not to watch what the compiler itself hands to
// the region's threads before take_over().
#ifdef __SANITIZE_THREAD__
#define CONVAE_UNWATCHED __attribute__((no_sanitize_thread))
void hand_over(void* tag) { __tsan_release(tag); }
void take_over(void* tag) { __tsan_acquire(tag); }
#else
#define CONVAE_UNWATCHED
void hand_over(void* /*tag*/) {}
void take_over(void* /*tag*/) {}
#endif

}  // namespace

CONVAE_UNWATCHED void parallel_for_each(std::int64_t count,
                                        const std::function<void(std::int64_t)>& work) {
  std::exception_ptr error;
  std::mutex mutex;  // guards it
  const bool inference = c10::InferenceMode::is_enabled();
  const auto guarded = [&](std::int64_t i) {
    const c10::InferenceMode mode(inference);
    try {
      work(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  char begun = 0;
  char ended = 0;
  hand_over(&begun);
  // The wheel's libgomp is linked (cmake/ConvaeKernels.cmake), so this is LibTorch's own pool.
#pragma omp parallel if (count > 1)
  {
    take_over(&begun);
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < count; ++i) guarded(i);
    hand_over(&ended);
  }
  take_over(&ended);
  if (error) std::rethrow_exception(error);
}

std::vector<std::jthread> start_threads(std::int64_t count, const std::function<void()>& work) {
  std::vector<std::jthread> threads;
  try {
    while (std::ssize(threads) < count) threads.emplace_back(work);
  } catch (const std::system_error&) {
  }
  return threads;
}

void compute_on_this_thread_alone() {
  at::get_num_threads();  // LibTorch sets the number at a thread's first use of it
#ifdef _OPENMP
  omp_set_num_threads(1);
#endif
}

}  // namespace convae
