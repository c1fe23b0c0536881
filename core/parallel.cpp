#include "convae/core/parallel.h"

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
  char begun = 0;
  char ended = 0;
  hand_over(&begun);
  // The wheel's libgomp is linked (cmake/ConvaeKernels.cmake), so this is LibTorch's own pool.
#pragma omp parallel if (count > 1)
  {
    take_over(&begun);
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < count; ++i) work(i);
    hand_over(&ended);
  }
  take_over(&ended);
}

}  // namespace convae
