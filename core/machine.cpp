#include "convae/core/machine.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace convae {

std::int64_t available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

std::int64_t free_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes && std::getline(file, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

c10::Device choose_device(const std::string& name) {
  const auto gpus = static_cast<int>(torch::cuda::is_available() ? torch::cuda::device_count() : 0);
  if (name == "cpu") return c10::kCPU;
  if (name == "auto") return gpus > 0 ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
  const bool numbered = name.starts_with("cuda:") && name.size() > 5 && name.size() < 9 &&
                        name.find_first_not_of("0123456789", 5) == std::string::npos;
  if (name != "cuda" && !numbered) {
    throw OptionError("--device " + in_quotes(name) + ": expected auto, cpu, cuda or cuda:N");
  }
  const int index = numbered ? std::stoi(name.substr(5)) : 0;
  if (gpus == 0) {
    throw std::runtime_error(fmt::format(
        "--device '{}': this LibTorch or machine has no CUDA; use --device cpu or auto", name));
  }
  if (index >= gpus) {
    throw std::runtime_error(fmt::format(
        "--device '{}': there are only {} CUDA devices, cuda:0 to cuda:{}", name, gpus, gpus - 1));
  }
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

std::int64_t use_threads(std::int64_t threads) {
  require_option(
      threads >= 0 && threads <= 4096,
      fmt::format("--threads '{}': expected a number between 0 (one a core) and 4096", threads));
  const std::int64_t count = threads > 0 ? threads : available_cores();
  at::set_num_threads(static_cast<int>(count));
  return count;
}

std::int64_t worker_count(std::int64_t workers) {
  return workers >= 0 ? workers : available_cores();
}

}  // namespace convae
