#include "convae/models/kernels/kernels.h"

namespace convae::kernels {

extern const Kernels baseline;
#ifdef CONVAE_X86_KERNELS
extern const Kernels avx2;
extern const Kernels avx512;
#endif

const Kernels& kernels_for([[maybe_unused]] InstructionSet set) {
#ifdef CONVAE_X86_KERNELS
  if (set == InstructionSet::avx512) return avx512;
  if (set == InstructionSet::avx2) return avx2;
#endif
  return baseline;
}

}  // namespace convae::kernels
