#include "convae/training/precision.h"

#include "convae/core/device.h"
#include "convae/core/errors.h"

#include <ATen/Context.h>

#include <algorithm>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace convae {
namespace {

constexpr std::int64_t kFewestChannels = 32;

bool processor_has_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16");
#elif defined(__aarch64__)
  constexpr unsigned long kBf16 = 1UL << 14;  // HWCAP2_BF16
  return (getauxval(AT_HWCAP2) & kBf16) != 0;
#else
  return false;
#endif
}

}  // namespace

bool has_fast_bf16(c10::Device device) {
  if (device.is_cpu()) return processor_has_bf16();
  return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
}

bool gains_from_bf16(const ModelOptions& model, c10::Device device) {
  if (!device.is_cpu()) return true;
  const auto is_known = [](const LevelSpec& level) {
    return std::max(level.stride.h, level.stride.w) <= 2 &&
           std::max(level.dilation.h, level.dilation.w) == 1;
  };
  const auto is_wide = [](const LevelSpec& level) { return level.channels >= kFewestChannels; };
  return std::ranges::all_of(model.levels, is_known) && std::ranges::any_of(model.levels, is_wide);
}

Precision choose_precision(Precision asked, const ModelOptions& model, c10::Device device,
                           const Callbacks& callbacks) {
  require_option(asked != Precision::tf32 || device.is_cuda(),
                 "--precision 'tf32': only GPUs have it; use fp32 or bf16 on a CPU");
  const bool is_fast = has_fast_bf16(device);
  if (asked == Precision::automatic) {
    return is_fast && gains_from_bf16(model, device) ? Precision::bf16 : Precision::fp32;
  }
  if (asked == Precision::bf16 && !is_fast) {
    callbacks.warn(std::string("--precision 'bf16': this ") +
                   (device.is_cpu() ? "processor" : "GPU") +
                   " has no instructions for it, which takes several times as long as fp32");
  }
  return asked;
}

void prepare_device(c10::Device device, Precision precision, bool deterministic, bool one_size) {
  if (device.is_cpu()) return;
  configure_gpu({precision == Precision::tf32, deterministic, /*measure=*/one_size});
}

}  // namespace convae
