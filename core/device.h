#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace convae {

/// "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N" → device. Throws OptionError for
/// other words and std::runtime_error for CUDA where there is none: never a silent fall-back.
c10::Device choose_device(const std::string& name);

/// Sets the number of compute threads of the process, 0 to 4096 (0: one a core), and returns it.
std::int64_t use_threads(std::int64_t threads);

}  // namespace convae
