#include "convae/models/kernels/flat_maps.h"

#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

namespace convae {

namespace kernels {
extern const Kernels baseline;
#ifdef CONVAE_X86_KERNELS
extern const Kernels avx2, avx512;
#endif
}  // namespace kernels

namespace {

constexpr std::int64_t kPieceValues = 32768;
constexpr std::int64_t kMinWidth = 512;  // a loop long enough for its start not to count

}  // namespace

const kernels::Kernels& kernels_of_this_processor() {
#ifdef CONVAE_X86_KERNELS
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return kernels::avx512;
  if (capability == "AVX2") return kernels::avx2;
#endif
  return kernels::baseline;
}

std::vector<torch::Tensor> channels_last(const std::vector<torch::Tensor>& maps) {
  std::vector<torch::Tensor> result = maps;
  for (torch::Tensor& x : result) x = x.contiguous(at::MemoryFormat::ChannelsLast);
  return result;
}

at::ScalarType computed_type(const torch::Tensor& x) {
  return at::autocast::is_autocast_enabled(at::kCPU) ? at::autocast::get_autocast_dtype(at::kCPU)
                                                     : x.scalar_type();
}

Pieces::Pieces(const std::vector<torch::Tensor>& maps, std::int64_t channels)
    : channels_(channels), width_((kMinWidth + channels - 1) / channels * channels) {
  const std::int64_t step = std::max<std::int64_t>(1, kPieceValues / width_) * width_;
  for (std::size_t map = 0; map < maps.size(); ++map) {
    const std::int64_t all = maps[map].numel();
    for (std::int64_t begin = 0; begin < all; begin += step) {
      pieces_.push_back({map, begin, std::min(step, all - begin)});
    }
  }
}

Numbers numbers(const torch::Tensor& per_channel, std::int64_t count, double or_else) {
  if (!per_channel.defined() || per_channel.numel() == 0) {
    return Numbers(or_else, static_cast<std::size_t>(count));
  }
  const torch::Tensor doubles = per_channel.detach().to(at::kDouble).contiguous();
  return Numbers(values<double>(doubles), static_cast<std::size_t>(doubles.numel()));
}

torch::Tensor to_tensor(const Numbers& numbers, at::ScalarType type) {
  return at::tensor(at::ArrayRef<double>(&numbers[0], numbers.size()), at::kDouble).to(type);
}

std::vector<float> Pieces::lanes(const Numbers& per_channel) const {
  std::vector<float> lanes(width_);
  for (std::int64_t i = 0; i < width_; ++i) lanes[i] = per_channel[i % channels_];
  return lanes;
}

void Pieces::for_each(const std::function<void(const Piece&)>& work) const {
  parallel_for_each(size(), [&](std::int64_t i) { work((*this)[i]); });
}

}  // namespace convae
