#include "models/parallel.h"

namespace convae {

void parallel_for_each(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  // The wheel's libgomp is linked (cmake/ConvaeDependencies.cmake), so this is LibTorch's own pool.
#pragma omp parallel for schedule(static) if (count > 1)
  for (std::int64_t i = 0; i < count; ++i) work(i);
}

}  // namespace convae
