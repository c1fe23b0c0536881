// libconvae_nccl.so: ranks on GPUs. A module of its own: it needs a LibTorch with CUDA, and headers
// of CUDA that most builds of convae do without.
#include "convae/training/engines/torch_ranks.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace convae {
namespace {

/// This rank's GPU; torchrun numbers the processes of a machine.
at::Device gpu_of(const Torchrun& place) {
  const int gpus = c10::cuda::device_count();
  if (place.size_here > gpus) {
    throw std::runtime_error(
        fmt::format("torchrun started {} processes here, which has {} usable GPUs; start one a GPU "
                    "(--nproc-per-node {}), or use CPUs: mpirun -n {} convae train …",
                    place.size_here, gpus, std::max(gpus, 1), place.size));
  }
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(place.rank_here));
  return {at::kCUDA, static_cast<c10::DeviceIndex>(place.rank_here)};
}

}  // namespace
}  // namespace convae

/// The ranks that torchrun started; it lives as long as the process.
extern "C" __attribute__((visibility("default"))) convae::Collective* convae_engine() {
  static const convae::Torchrun place;
  static const at::Device gpu = convae::gpu_of(place);
  // Ranks wait for the first while it saves; torchrun ends those whose others have died.
  static const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::hours(24);
  static convae::TorchRanks engine(
      place,
      c10::make_intrusive<c10d::ProcessGroupNCCL>(place.store(), place.rank, place.size, options),
      "NCCL " + c10d::getNcclVersion(), gpu);
  return &engine;
}
