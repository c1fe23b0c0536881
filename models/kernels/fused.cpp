#include "convae/models/kernels/fused.h"

#include "convae/models/kernels/flat_maps.h"
#include "convae/models/kernels/gpu_tail.h"
#include "convae/models/kernels/rank_sums.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace convae {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::Place place_of(Order order, bool normalised) {
  return normalised && order == Order::conv_bn_act ? kernels::Place::after : kernels::Place::before;
}

/// What a pass does to each channel: with a = x + bias, or its activation if that comes before,
/// z = (a - mean)·weight/deviation + offset, or its activation if that comes after.
struct ChannelValues {
  Numbers bias, weight, offset, mean, deviation;

  Numbers scale() const { return weight / deviation; }
  Numbers shift() const { return offset - mean * weight / deviation; }
};

/// The bias, scale and shift of each lane.
struct LaneValues {
  LaneValues(const Pieces& pieces, const Numbers& bias_of, const Numbers& scale_of,
             const Numbers& shift_of)
      : bias(pieces.lanes(bias_of)),
        scale(pieces.lanes(scale_of)),
        shift(pieces.lanes(shift_of)),
        lanes{pieces.width(), bias.data(), scale.data(), shift.data()} {}
  LaneValues(const LaneValues&) = delete;
  LaneValues& operator=(const LaneValues&) = delete;

  std::vector<float> bias, scale, shift;
  kernels::Lanes lanes;
};

/// How a pass runs over maps of values of type T.
template <typename T>
struct Pass {
  const Maps& x;
  const Pieces& pieces;
  const kernels::BlockKernels<T>& kernel;

  Pass(const Maps& maps, const Pieces& their_pieces, kernels::Place place, Activation activation)
      : x(maps),
        pieces(their_pieces),
        kernel(kernels_of_this_processor().of<T>().block[static_cast<int>(place)]
                                                        [static_cast<int>(activation)]) {}

  static T* at(const Maps& maps, const Pieces::Piece& piece) {
    return values<T>(maps[piece.map]) + piece.begin;
  }

  /// The mean of some pixels. E[x²] - E[x]² cancels far from zero, so moments are taken of
  /// differences from about the middle.
  Numbers rough_mean(const kernels::Lanes& lanes) const {
    constexpr std::int64_t kSamples = 8;
    const std::vector<float> zero(static_cast<std::size_t>(pieces.width()), 0.0F);
    std::vector<float> sum(zero);
    std::vector<float> unused(zero);
    std::int64_t count = 0;
    const std::int64_t step = std::max<std::int64_t>(1, pieces.size() / kSamples);
    for (std::int64_t i = 0; i < pieces.size(); i += step) {
      const std::int64_t some = std::min(pieces[i].count, pieces.width());
      kernel.moments(at(x, pieces[i]), some, lanes, zero.data(), sum.data(), unused.data());
      count += some / pieces.channels();
    }
    return Pieces::add_rows(sum, pieces.channels()) / static_cast<double>(count);
  }

  struct Moments {
    Numbers mean, variance;
  };

  Moments moments(const Numbers& bias) const {
    const LaneValues own(pieces, bias, bias, bias);
    const std::vector<float> origins = pieces.lanes(rough_mean(own.lanes));
    const auto [sum, square_sum] = pieces.sums<2>([&](const Pieces::Piece& piece, const auto& to) {
      kernel.moments(at(x, piece), piece.count, own.lanes, origins.data(), to[0], to[1]);
    });
    const auto count = static_cast<double>(values_per_channel(x));
    const Numbers offset = sum / count;
    const Numbers variance = square_sum / count - offset * offset;
    Numbers mean(bias.size());  // from the origin as the kernel saw it, in float
    std::copy_n(origins.begin(), mean.size(), std::begin(mean));
    mean += offset;
    return {mean, variance.apply([](double v) { return std::max(v, 0.0); })};
  }

  void apply(const LaneValues& own, const Maps& z) const {
    pieces.for_each([&](const Pieces::Piece& piece) {
      kernel.apply(at(x, piece), piece.count, own.lanes, at(z, piece));
    });
  }

  /// Sums over all pixels of g and of g·(a - mean).
  std::array<Numbers, 2> gradient_sums(const LaneValues& own, const std::vector<float>& mean,
                                       const Maps& dz) const {
    return pieces.sums<2>([&](const Pieces::Piece& piece, const auto& sum) {
      kernel.gradient_sums(at(x, piece), at(dz, piece), piece.count, own.lanes, mean.data(), sum[0],
                           sum[1]);
    });
  }

  /// Fills dx and returns its sum over all pixels.
  Numbers gradient(const LaneValues& own, const kernels::GradientLanes& lanes, const Maps& dz,
                   const Maps& dx) const {
    return pieces.sums<1>([&](const Pieces::Piece& piece, const auto& sum) {
      kernel.gradient(at(x, piece), at(dz, piece), piece.count, own.lanes, lanes, at(dx, piece),
                      sum[0]);
    })[0];
  }
};

torch::Tensor rows_of(const Numbers& first, const Numbers& second) {
  return at::stack({to_tensor(first, at::kDouble), to_tensor(second, at::kDouble)});
}

/// Mean and variance of `count` values a channel → those of all processes together.
void pool_over_ranks(Numbers& mean, Numbers& variance, std::int64_t& count) {
  if (rank_sums().sum == nullptr) return;
  torch::Tensor moments = rows_of(mean, variance);
  pool_moments_over_ranks(moments, count);
  mean = numbers(moments[0], std::ssize(mean), 0);
  variance = numbers(moments[1], std::ssize(variance), 1);
}

/// Gradient sums of this process → of all.
std::array<Numbers, 2> add_over_ranks(const std::array<Numbers, 2>& sums) {
  if (rank_sums().sum == nullptr) return sums;
  const torch::Tensor all = rows_of(sums[0], sums[1]);
  rank_sums().sum(all);
  return {numbers(all[0], all.size(1), 0), numbers(all[1], all.size(1), 0)};
}

/// What the forward pass leaves for the backward pass, besides the maps.
struct TailRecord : torch::CustomClassHolder {
  kernels::Place place{};
  Activation activation{};
  bool normalised = false;
  std::int64_t count = 0;  ///< values a channel that mean and deviation are of; 0: running ones
  ChannelValues channel;
};

struct TrainingTail : torch::autograd::Function<TrainingTail> {
  static variable_list forward(AutogradContext* context, at::TensorList convolved,
                               const torch::Tensor& conv_bias, const torch::Tensor& norm_weight,
                               const torch::Tensor& norm_bias, const BlockTail* tail,
                               double epsilon, BatchStatistics* statistics) {
    const Maps x = channels_last(convolved.vec());
    const std::int64_t channels = x[0].size(1);
    auto record = c10::make_intrusive<TailRecord>();
    record->normalised = tail->norm_weight.defined();
    record->place = place_of(tail->order, record->normalised);
    record->activation = tail->activation;
    record->channel = {numbers(conv_bias, channels, 0), numbers(norm_weight, channels, 1),
                       numbers(norm_bias, channels, 0), numbers({}, channels, 0),
                       numbers({}, channels, 1)};
    const Pieces pieces(x, channels);
    Maps z;
    for (const torch::Tensor& map : x) z.push_back(at::empty_like(map));
    ChannelValues& channel = record->channel;
    with_type(x[0], [&]<typename T>(T) {
      const Pass<T> pass(x, pieces, record->place, record->activation);
      if (record->normalised) {
        auto [mean, variance] = pass.moments(channel.bias);
        std::int64_t count = values_per_channel(x);
        pool_over_ranks(mean, variance, count);
        if (statistics != nullptr) {
          *statistics = {to_tensor(mean, at::kDouble), to_tensor(variance, at::kDouble), count};
        }
        if (count < 2) {  // no variance; one process alone does not come here
          mean = numbers(tail->running_mean, channels, 0);
          variance = numbers(tail->running_var, channels, 1);
        }
        record->count = count < 2 ? 0 : count;
        channel.mean = mean;
        channel.deviation = std::sqrt(variance + epsilon);
      }
      pass.apply({pieces, channel.bias, channel.scale(), channel.shift()}, z);
    });
    context->save_for_backward(x);
    context->saved_data["record"] = c10::IValue::make_capsule(std::move(record));
    return z;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Maps x = context->get_saved_variables();
    const auto capsule = context->saved_data["record"].toCapsule();
    const auto& record = static_cast<const TailRecord&>(*capsule);
    // A gradient that nobody else holds is overwritten with the next: less memory traffic.
    std::vector<bool> replaceable;
    for (const torch::Tensor& gradient : gradients) {
      replaceable.push_back(is_unshared(gradient));
    }
    const Maps dz = channels_last(gradients);
    Maps dx;
    for (std::size_t i = 0; i < x.size(); ++i) {
      dx.push_back(replaceable[i] ? dz[i] : at::empty_like(x[i]));
    }
    const Pieces pieces(x, x[0].size(1));
    const ChannelValues& channel = record.channel;
    const LaneValues own(pieces, channel.bias, channel.scale(), channel.shift());
    const std::vector<float> mean = pieces.lanes(channel.mean);
    // Ioffe and Szegedy, Batch Normalization (2015), section 3, with â = (a - mean)/deviation:
    // da = weight/deviation · (g - mean(g) - â·mean(g·â)).
    const Numbers per_gradient = channel.scale();
    Numbers per_value(0.0, per_gradient.size());
    Numbers constant(0.0, per_gradient.size());
    std::array<Numbers, 2> sums;
    Numbers dx_sum;
    with_type(x[0], [&]<typename T>(T) {
      const Pass<T> pass(x, pieces, record.place, record.activation);
      if (record.normalised) {
        sums = pass.gradient_sums(own, mean, dz);
      }
      if (record.count > 0) {
        const auto count = static_cast<double>(record.count);
        const auto [constants, products] = add_over_ranks(sums);
        if (!rank_sums().stands_in) {
          per_value = -per_gradient * products / (count * channel.deviation * channel.deviation);
          constant = -per_gradient * constants / count;
        }
      }
      const std::vector<float> lanes[] = {pieces.lanes(per_gradient), pieces.lanes(per_value),
                                          pieces.lanes(constant)};
      dx_sum = pass.gradient(own, {mean.data(), lanes[0].data(), lanes[1].data(), lanes[2].data()},
                             dz, dx);
    });
    variable_list result = std::move(dx);
    // Before normalisation, a bias changes nothing; rounding errors must not move it.
    if (record.place == kernels::Place::after) dx_sum = 0.0;
    result.push_back(to_tensor(dx_sum, at::kFloat));
    if (record.normalised) {
      result.push_back(to_tensor(sums[1] / channel.deviation, at::kFloat));
      result.push_back(to_tensor(sums[0], at::kFloat));
    } else {
      result.resize(result.size() + 2);
    }
    result.resize(result.size() + 3);  // tail, epsilon, statistics
    return result;
  }
};

}  // namespace

bool can_fuse(const Maps& maps) {
  return std::all_of(maps.begin(), maps.end(), [](const torch::Tensor& x) {
    return (x.is_cpu() || (x.is_cuda() && gpu_can_fuse(x.device()))) && x.numel() > 0 &&
           (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
  });
}

std::int64_t values_per_channel(const Maps& maps) {
  std::int64_t count = 0;
  for (const torch::Tensor& x : maps) count += x.numel() / x.size(1);
  return count;
}

Maps fused_training_tail(const Maps& convolved, const BlockTail& tail, double epsilon,
                         BatchStatistics* statistics) {
  if (convolved[0].is_cuda()) return gpu_training_tail(convolved, tail, epsilon, statistics);
  // Autograd takes no undefined tensors as arguments.
  const auto or_none = [](const torch::Tensor& x) { return x.defined() ? x : at::empty({0}); };
  return TrainingTail::apply(at::TensorList(convolved), or_none(tail.conv_bias),
                             or_none(tail.norm_weight), or_none(tail.norm_bias), &tail, epsilon,
                             statistics);
}

void fused_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                           const torch::Tensor& scale, const torch::Tensor& shift) {
  if (convolved.is_cuda()) return gpu_inference_tail_(convolved, tail, scale, shift);
  const std::int64_t channels = convolved.size(1);
  const Maps x{convolved.contiguous(at::MemoryFormat::ChannelsLast)};
  const Pieces pieces(x, channels);
  const LaneValues own(pieces, numbers(tail.conv_bias, channels, 0), numbers(scale, channels, 1),
                       numbers(shift, channels, 0));
  with_type(x[0], [&]<typename T>(T) {
    Pass<T>(x, pieces, place_of(tail.order, scale.defined()), tail.activation).apply(own, x);
  });
  convolved = x[0];
}

}  // namespace convae
