#include "convae/models/kernels/gpu_tail.h"

#include "convae/models/kernels/flat_maps.h"
#include "convae/models/kernels/gpu_program.h"
#include "convae/models/kernels/rank_sums.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <mutex>
#include <tuple>

namespace convae {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kSource =
#include "gpu_passes.cu.inc"
    ;

struct GpuPass {
  at::ScalarType type{};
  std::int64_t channels = 0;
  Activation activation{};
  bool after = false;  ///< the activation follows normalisation

  bool operator<(const GpuPass& other) const { return key() < other.key(); }

  /// Values that fit into the 16 bytes a thread reads at best.
  std::int64_t pack() const {
    const std::int64_t most = type == at::kBFloat16 ? 8 : 4;
    return channels % most == 0 ? most : 1;
  }

  GpuProgram& program(c10::DeviceIndex gpu) const {
    static std::mutex mutex;
    static std::map<std::pair<c10::DeviceIndex, GpuPass>, GpuProgram> programs;
    const std::lock_guard lock(mutex);
    const auto found = programs.find({gpu, *this});
    if (found != programs.end()) return found->second;
    GpuProgram made(kSource, {"-DBF16=" + std::to_string(static_cast<int>(type == at::kBFloat16)),
                              "-DPACK=" + std::to_string(pack()),
                              "-DACTIVATION=" + std::to_string(static_cast<int>(activation)),
                              "-DAFTER=" + std::to_string(static_cast<int>(after))});
    return programs.emplace(std::pair{gpu, *this}, std::move(made)).first->second;
  }

  GpuProgram::Grid grid(std::int64_t rows) const {
    constexpr std::int64_t kThreads = 256, kRowsOfThread = 8, kMostBlocks = 1056;
    const std::int64_t columns = channels / pack();
    const std::int64_t x = std::min<std::int64_t>(columns, 64);
    const std::int64_t y = kThreads / x;
    const std::int64_t blocks = (rows + y * kRowsOfThread - 1) / (y * kRowsOfThread);
    return {static_cast<unsigned>(std::min(blocks, kMostBlocks)),
            static_cast<unsigned>((columns + x - 1) / x), static_cast<unsigned>(x),
            static_cast<unsigned>(y)};
  }

  /// For the kernels that finish sums.
  GpuProgram::Grid finish_grid() const {
    return {static_cast<unsigned>((channels + 31) / 32), 1, 32, 32};
  }

private:
  std::tuple<int, std::int64_t, int, bool> key() const {
    return {static_cast<int>(type), pack(), static_cast<int>(activation), after};
  }
};

/// Maps of one pass, with a kernel's view of them.
class GpuMaps {
public:
  GpuMaps(const Maps& maps, const GpuPass& pass)
      : maps_(maps), pass_(pass), program_(pass.program(maps[0].device().index())) {
    for (const torch::Tensor& x : maps) {
      TORCH_CHECK(x.is_contiguous(at::MemoryFormat::ChannelsLast), "maps must be channels-last");
      blocks_ += static_cast<int>(pass.grid(rows(x)).blocks_x);
    }
  }

  static std::int64_t rows(const torch::Tensor& x) { return x.numel() / x.size(1); }

  /// Floats for `count` sums a channel of each block of each map.
  torch::Tensor partial_sums(int count) const {
    return at::empty({blocks_, count, pass_.channels}, floats());
  }
  at::TensorOptions floats() const { return maps_[0].options().dtype(at::kFloat); }
  int blocks() const { return blocks_; }
  int channels() const { return static_cast<int>(pass_.channels); }
  double count() const { return static_cast<double>(values_per_channel(maps_)); }

  /// Calls launch(i, its rows, its grid, its part of the partial sums) for each map.
  template <typename F>
  void for_each(const torch::Tensor& partial, const F& launch) const {
    std::int64_t block = 0;
    for (std::size_t i = 0; i < maps_.size(); ++i) {
      const long long count = rows(maps_[i]);
      const GpuProgram::Grid grid = pass_.grid(count);
      launch(i, count, grid,
             partial.defined() ? values<float>(partial) + block * partial.stride(0) : nullptr);
      block += grid.blocks_x;
    }
  }

  GpuProgram& program() const { return program_; }

private:
  const Maps& maps_;
  const GpuPass& pass_;
  GpuProgram& program_;
  int blocks_ = 0;
};

void apply_on_gpu(const Maps& x, const GpuPass& pass, const torch::Tensor& bias,
                  const torch::Tensor& scale, const torch::Tensor& shift, const Maps& z) {
  const GpuMaps maps(x, pass);
  maps.for_each({}, [&](std::size_t i, long long rows, const GpuProgram::Grid& grid, float*) {
    maps.program().launch("apply", grid,
                          {x[i].data_ptr(), rows, maps.channels(), bias.data_ptr(),
                           scale.data_ptr(), shift.data_ptr(), z[i].data_ptr()});
  });
}

/// The same of all processes' images. Those of this one alone are `moments`, of `count` values a
/// channel, which becomes 0 where there are too few.
torch::Tensor lanes_of_ranks(torch::Tensor moments, std::int64_t& count,
                             const torch::Tensor& weight, const torch::Tensor& offset,
                             const BlockTail& tail, double epsilon, BatchStatistics* statistics) {
  pool_moments_over_ranks(moments, count);
  if (statistics != nullptr) *statistics = {moments[0], moments[1], count};
  if (count < 2) {
    count = 0;
    moments = at::stack({tail.running_mean, tail.running_var}).to(at::kDouble);
  }
  const torch::Tensor deviation = (moments[1] + epsilon).sqrt();
  const torch::Tensor scale = weight / deviation;
  return at::stack({moments[0], deviation, scale, offset - moments[0] * scale}).to(at::kFloat);
}

/// (4, C): mean, deviation, scale and shift. `count`: values a channel that they are of, or 0 where
/// they are running ones.
torch::Tensor batch_lanes(const Maps& x, const GpuPass& pass, const torch::Tensor& bias,
                          const torch::Tensor& weight, const torch::Tensor& offset,
                          const BlockTail& tail, double epsilon, BatchStatistics* statistics,
                          std::int64_t& count) {
  const GpuMaps maps(x, pass);
  const torch::Tensor partial = maps.partial_sums(2);
  const void* origin = x[0].data_ptr();  // its first pixel: differences from it do not cancel
  maps.for_each(partial, [&](std::size_t i, long long rows, const GpuProgram::Grid& grid,
                             float* sums) {
    maps.program().launch("moments", grid,
                          {x[i].data_ptr(), rows, maps.channels(), bias.data_ptr(), origin, sums});
  });
  const torch::Tensor lanes = at::empty({4, pass.channels}, maps.floats());
  const torch::Tensor found = at::empty({2, pass.channels}, maps.floats().dtype(at::kDouble));
  maps.program().launch(
      "finish_moments", pass.finish_grid(),
      {partial.data_ptr(), maps.blocks(), maps.channels(), maps.count(), bias.data_ptr(), origin,
       weight.data_ptr(), offset.data_ptr(), epsilon, found.data_ptr(), lanes.data_ptr()});
  count = values_per_channel(x);
  if (rank_sums().sum != nullptr) {
    return lanes_of_ranks(found, count, weight, offset, tail, epsilon, statistics);
  }
  if (statistics != nullptr) *statistics = {found[0], found[1], count};
  return lanes;
}

/// Replaces what a value adds and what all add by those of all processes' images.
void use_all_ranks(torch::Tensor& more, const torch::Tensor& lanes, std::int64_t count) {
  more.narrow(0, 2, 2).zero_();
  if (count == 0) return;
  const torch::Tensor sums = more.narrow(0, 0, 2).to(at::kDouble);
  rank_sums().sum(sums);
  if (rank_sums().stands_in) return;
  const torch::Tensor factor = lanes[2] / -static_cast<double>(count);
  more[2].copy_(factor * sums[0] / lanes[1]);
  more[3].copy_(factor * sums[1]);
}

struct GpuTail : torch::autograd::Function<GpuTail> {
  static variable_list forward(AutogradContext* context, at::TensorList convolved,
                               const torch::Tensor& bias, const torch::Tensor& weight,
                               const torch::Tensor& offset, const BlockTail* tail, double epsilon,
                               BatchStatistics* statistics) {
    const Maps x = channels_last(convolved.vec());
    const bool normalised = weight.numel() > 0;
    const GpuPass pass{x[0].scalar_type(), x[0].size(1), tail->activation,
                       normalised && tail->order == Order::conv_bn_act};
    torch::Tensor lanes;
    std::int64_t count = 0;
    if (normalised) {
      lanes = batch_lanes(x, pass, bias, weight, offset, *tail, epsilon, statistics, count);
    } else {
      lanes = at::zeros({4, pass.channels}, bias.options());
      lanes.narrow(0, 1, 2).fill_(1);
    }
    Maps z;
    for (const torch::Tensor& map : x) z.push_back(at::empty_like(map));
    apply_on_gpu(x, pass, bias, lanes[2], lanes[3], z);
    variable_list saved = x;
    saved.push_back(bias);
    saved.push_back(lanes);
    context->save_for_backward(std::move(saved));
    context->saved_data["activation"] = static_cast<std::int64_t>(tail->activation);
    context->saved_data["after"] = pass.after;
    context->saved_data["normalised"] = normalised;
    context->saved_data["count"] = count;
    return z;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    variable_list saved = context->get_saved_variables();
    const torch::Tensor lanes = saved.back(), bias = saved[saved.size() - 2];
    const Maps x(saved.begin(), saved.end() - 2);
    const bool normalised = context->saved_data["normalised"].toBool();
    const GpuPass pass{x[0].scalar_type(), x[0].size(1),
                       static_cast<Activation>(context->saved_data["activation"].toInt()),
                       context->saved_data["after"].toBool()};
    const Maps dz = channels_last(gradients);
    const GpuMaps maps(x, pass);
    // Of weight and offset, then what a value adds and what all add; see fused.cpp.
    torch::Tensor more = at::zeros({4, pass.channels}, maps.floats());
    if (normalised) {
      const torch::Tensor partial = maps.partial_sums(2);
      maps.for_each(
          partial, [&](std::size_t i, long long rows, const GpuProgram::Grid& grid, float* sums) {
            maps.program().launch("gradient_sums", grid,
                                  {x[i].data_ptr(), dz[i].data_ptr(), rows, maps.channels(),
                                   bias.data_ptr(), lanes.data_ptr(), sums});
          });
      maps.program().launch("finish_gradient_sums", pass.finish_grid(),
                            {partial.data_ptr(), maps.blocks(), maps.channels(), maps.count(),
                             lanes.data_ptr(), more.data_ptr()});
      if (rank_sums().sum != nullptr) {
        use_all_ranks(more, lanes, context->saved_data["count"].toInt());
      }
    }
    variable_list result;
    const torch::Tensor partial = maps.partial_sums(1);
    maps.for_each(partial,
                  [&](std::size_t i, long long rows, const GpuProgram::Grid& grid, float* sums) {
                    result.push_back(at::empty_like(x[i]));
                    maps.program().launch("gradient", grid,
                                          {x[i].data_ptr(), dz[i].data_ptr(), rows, maps.channels(),
                                           bias.data_ptr(), lanes.data_ptr(), more[2].data_ptr(),
                                           more[3].data_ptr(), result.back().data_ptr(), sums});
                  });
    // Before normalisation, a bias changes nothing; rounding errors must not move it.
    const torch::Tensor dbias = at::zeros({pass.channels}, maps.floats());
    if (!pass.after) {
      maps.program().launch("finish_sum", pass.finish_grid(),
                            {partial.data_ptr(), maps.blocks(), maps.channels(), dbias.data_ptr()});
    }
    result.push_back(dbias);
    result.push_back(normalised ? more[0] : torch::Tensor());
    result.push_back(normalised ? more[1] : torch::Tensor());
    result.resize(result.size() + 3);  // tail, epsilon, statistics
    return result;
  }
};

torch::Tensor on_gpu(const torch::Tensor& per_channel, const torch::Tensor& map, double or_else) {
  const auto options = map.options().dtype(at::kFloat);
  if (!per_channel.defined()) return at::empty({map.size(1)}, options).fill_(or_else);
  return per_channel.to(at::kFloat).contiguous();
}

}  // namespace

bool gpu_can_fuse(c10::Device device) {
  static const bool can = GpuProgram::possible();
  return can && c10::impl::VirtualGuardImpl(device.type()).getStream(device).id() == 0;
}

Maps gpu_training_tail(const Maps& convolved, const BlockTail& tail, double epsilon,
                       BatchStatistics* statistics) {
  const auto or_none = [&](const torch::Tensor& x) {
    return x.defined() ? x : at::empty({0}, convolved[0].options());
  };
  return GpuTail::apply(at::TensorList(convolved), on_gpu(tail.conv_bias, convolved[0], 0),
                        or_none(tail.norm_weight), or_none(tail.norm_bias), &tail, epsilon,
                        statistics);
}

void gpu_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                         const torch::Tensor& scale, const torch::Tensor& shift) {
  const Maps x = channels_last({convolved});
  const GpuPass pass{x[0].scalar_type(), x[0].size(1), tail.activation,
                     scale.defined() && tail.order == Order::conv_bn_act};
  apply_on_gpu(x, pass, on_gpu(tail.conv_bias, x[0], 0), on_gpu(scale, x[0], 1),
               on_gpu(shift, x[0], 0), x);
  convolved = x[0];
}

}  // namespace convae
