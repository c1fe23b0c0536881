#include "convae/models/kernels/fused.h"

#include "convae/models/kernels/flat_maps.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace convae {
namespace {

using kernels::BFloat16;
using kernels::BlockKernels;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

kernels::Function function_of(Activation activation) {
  using kernels::Function;
  switch (activation) {
    case Activation::relu: return Function::relu;
    case Activation::leaky_relu: return Function::leaky_relu;
    case Activation::silu: return Function::silu;
    case Activation::gelu: return Function::gelu;
  }
  return Function::relu;
}

template <typename T>
const BlockKernels<T>& kernels_of(kernels::Place place, Activation activation) {
  const kernels::Kernels& all = kernels_of_this_processor();
  const auto row = static_cast<std::size_t>(place);
  const auto column = static_cast<std::size_t>(function_of(activation));
  if constexpr (std::is_same_v<T, float>) {
    return all.block[row][column];
  } else {
    return all.block_bf16[row][column];
  }
}

/// Calls f with a value of the kernels' type for these tensors' elements.
template <typename F>
void with_type(const torch::Tensor& tensor, const F& f) {
  if (tensor.scalar_type() == at::kBFloat16) {
    f(BFloat16{});
  } else {
    f(float{});
  }
}

kernels::Place place_of(Order order, bool normalised) {
  return normalised && order == Order::conv_bn_act ? kernels::Place::after : kernels::Place::before;
}

/// What a pass does to each channel: with a = x + bias, or its activation if that comes before,
/// z = (a - mean)·weight/deviation + offset, or its activation if that comes after.
struct ChannelValues {
  Numbers bias, weight, offset, mean, deviation;

  Numbers scale() const {
    Numbers result(weight);
    for (std::size_t c = 0; c < result.size(); ++c) result[c] /= deviation[c];
    return result;
  }
  Numbers shift() const {
    Numbers result(offset);
    for (std::size_t c = 0; c < result.size(); ++c) result[c] -= mean[c] * weight[c] / deviation[c];
    return result;
  }
};

/// The bias, scale and shift of each lane.
struct LaneValues {
  LaneValues(const Pieces& pieces, const Numbers& bias_of, const Numbers& scale_of,
             const Numbers& shift_of)
      : bias(pieces.lanes(bias_of)),
        scale(pieces.lanes(scale_of)),
        shift(pieces.lanes(shift_of)),
        lanes{pieces.width(), bias.data(), scale.data(), shift.data()} {}
  LaneValues(const Pieces& pieces, const ChannelValues& channel)
      : LaneValues(pieces, channel.bias, channel.scale(), channel.shift()) {}
  LaneValues(const LaneValues&) = delete;
  LaneValues& operator=(const LaneValues&) = delete;

  std::vector<float> bias, scale, shift;
  kernels::Lanes lanes;
};

/// How a pass runs over maps.
struct Pass {
  const Maps& x;
  const Pieces& pieces;
  kernels::Place place;
  Activation activation;

  /// The mean of some pixels. E[x²] - E[x]² cancels far from zero, so moments are taken of
  /// differences from about the middle.
  template <typename T>
  Numbers rough_mean(const kernels::Lanes& lanes) const {
    constexpr std::int64_t kSamples = 8;
    const std::vector<float> zero(static_cast<std::size_t>(pieces.width()), 0.0F);
    std::vector<float> sum(zero);
    std::vector<float> unused(zero);
    std::int64_t count = 0;
    const std::int64_t step = std::max<std::int64_t>(1, pieces.size() / kSamples);
    for (std::int64_t i = 0; i < pieces.size(); i += step) {
      const std::int64_t some = std::min(pieces[i].count, pieces.width());
      kernels_of<T>(place, activation)
          .moments(values<T>(x[pieces[i].map]) + pieces[i].begin, some, lanes, zero.data(),
                   sum.data(), unused.data());
      count += some / pieces.channels();
    }
    Numbers mean = pieces.add_lanes(Numbers(sum.begin(), sum.end()).data());
    for (double& m : mean) m /= static_cast<double>(count);
    return mean;
  }

  struct Moments {
    Numbers mean, variance;
  };

  template <typename T>
  Moments moments(const Numbers& bias) const {
    const LaneValues own(pieces, bias, bias, bias);
    const Numbers origin = rough_mean<T>(own.lanes);
    const std::vector<float> origins = pieces.lanes(origin);
    const BlockKernels<T>& kernel = kernels_of<T>(place, activation);
    const auto sums = pieces.sums<2>([&](const Pieces::Piece& piece, const auto& sum) {
      kernel.moments(values<T>(x[piece.map]) + piece.begin, piece.count, own.lanes, origins.data(),
                     sum[0], sum[1]);
    });
    const auto count = static_cast<double>(values_per_channel(x));
    Moments result{origin, origin};
    for (std::size_t c = 0; c < origin.size(); ++c) {
      const double offset = sums[0][c] / count;
      // The origin as the kernel saw it, in float.
      result.mean[c] = static_cast<double>(origins[c]) + offset;
      result.variance[c] = std::max(sums[1][c] / count - offset * offset, 0.0);
    }
    return result;
  }

  template <typename T>
  void apply(const LaneValues& own, const Maps& z) const {
    const BlockKernels<T>& kernel = kernels_of<T>(place, activation);
    pieces.for_each([&](const Pieces::Piece& piece) {
      kernel.apply(values<T>(x[piece.map]) + piece.begin, piece.count, own.lanes,
                   values<T>(z[piece.map]) + piece.begin);
    });
  }

  /// Sums over all pixels of g and of g·(a - mean).
  template <typename T>
  std::array<Numbers, 2> gradient_sums(const LaneValues& own, const std::vector<float>& mean,
                                       const Maps& dz) const {
    const BlockKernels<T>& kernel = kernels_of<T>(place, activation);
    return pieces.sums<2>([&](const Pieces::Piece& piece, const auto& sum) {
      kernel.gradient_sums(values<T>(x[piece.map]) + piece.begin,
                           values<T>(dz[piece.map]) + piece.begin, piece.count, own.lanes,
                           mean.data(), sum[0], sum[1]);
    });
  }

  /// Fills dx and returns its sum over all pixels.
  template <typename T>
  Numbers gradient(const LaneValues& own, const kernels::GradientLanes& lanes, const Maps& dz,
                   const Maps& dx) const {
    const BlockKernels<T>& kernel = kernels_of<T>(place, activation);
    return pieces.sums<1>([&](const Pieces::Piece& piece, const auto& sum) {
      kernel.gradient(values<T>(x[piece.map]) + piece.begin, values<T>(dz[piece.map]) + piece.begin,
                      piece.count, own.lanes, lanes, values<T>(dx[piece.map]) + piece.begin,
                      sum[0]);
    })[0];
  }
};

/// What the forward pass leaves for the backward pass, besides the maps.
struct TailRecord : torch::CustomClassHolder {
  kernels::Place place{};
  Activation activation{};
  bool normalised = false;
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
    const Pass pass{x, pieces, record->place, record->activation};
    Maps z;
    for (const torch::Tensor& map : x) z.push_back(at::empty_like(map));
    with_type(x[0], [&]<typename T>(T) {
      if (record->normalised) {
        const Pass::Moments found = pass.moments<T>(record->channel.bias);
        record->channel.mean = found.mean;
        for (std::size_t c = 0; c < found.variance.size(); ++c) {
          record->channel.deviation[c] = std::sqrt(found.variance[c] + epsilon);
        }
        if (statistics != nullptr) {
          *statistics = {to_tensor(found.mean, at::kDouble), to_tensor(found.variance, at::kDouble),
                         values_per_channel(x)};
        }
      }
      pass.apply<T>(LaneValues(pieces, record->channel), z);
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
      replaceable.push_back(gradient.use_count() == 1 && gradient.storage().use_count() == 1);
    }
    const Maps dz = channels_last(gradients);
    Maps dx;
    for (std::size_t i = 0; i < x.size(); ++i) {
      dx.push_back(replaceable[i] ? dz[i] : at::empty_like(x[i]));
    }
    const Pieces pieces(x, x[0].size(1));
    const Pass pass{x, pieces, record.place, record.activation};
    const LaneValues own(pieces, record.channel);
    const std::vector<float> mean = pieces.lanes(record.channel.mean);

    std::array<Numbers, 2> sums;
    Numbers dx_sum;
    with_type(x[0], [&]<typename T>(T) {
      if (record.normalised) sums = pass.gradient_sums<T>(own, mean, dz);
      const auto [per_gradient, per_value, constant] =
          gradient_factors(pieces, record, sums, static_cast<double>(values_per_channel(x)));
      dx_sum = pass.gradient<T>(
          own, {mean.data(), per_gradient.data(), per_value.data(), constant.data()}, dz, dx);
    });
    variable_list result = std::move(dx);
    // Before normalisation, a bias changes nothing; rounding errors must not move it.
    if (record.place == kernels::Place::after) dx_sum.assign(dx_sum.size(), 0.0);
    result.push_back(to_tensor(dx_sum, at::kFloat));
    if (record.normalised) {
      for (std::size_t c = 0; c < sums[1].size(); ++c) sums[1][c] /= record.channel.deviation[c];
      result.push_back(to_tensor(sums[1], at::kFloat));
      result.push_back(to_tensor(sums[0], at::kFloat));
    } else {
      result.resize(result.size() + 2);
    }
    result.resize(result.size() + 3);  // tail, epsilon, statistics
    return result;
  }

  /// Ioffe and Szegedy, Batch Normalization (2015), section 3, with â = (a - mean)/deviation:
  /// da = weight/deviation · (g - mean(g) - â·mean(g·â)).
  static std::array<std::vector<float>, 3> gradient_factors(const Pieces& pieces,
                                                            const TailRecord& record,
                                                            const std::array<Numbers, 2>& sums,
                                                            double count) {
    const Numbers per_gradient = record.channel.scale();
    Numbers per_value(per_gradient.size(), 0.0);
    Numbers constant(per_gradient.size(), 0.0);
    if (record.normalised) {
      for (std::size_t c = 0; c < per_gradient.size(); ++c) {
        const double deviation = record.channel.deviation[c];
        per_value[c] = -per_gradient[c] * sums[1][c] / (count * deviation * deviation);
        constant[c] = -per_gradient[c] * sums[0][c] / count;
      }
    }
    return {pieces.lanes(per_gradient), pieces.lanes(per_value), pieces.lanes(constant)};
  }
};

}  // namespace

bool can_fuse(const Maps& maps) {
  return std::all_of(maps.begin(), maps.end(), [](const torch::Tensor& x) {
    return x.device().is_cpu() && x.numel() > 0 &&
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
  // Autograd takes no undefined tensors as arguments.
  const auto or_none = [](const torch::Tensor& x) { return x.defined() ? x : at::empty({0}); };
  const torch::Tensor bias =
      tail.conv_bias.defined() ? tail.conv_bias : at::zeros({convolved[0].size(1)});
  return TrainingTail::apply(at::TensorList(convolved), bias, or_none(tail.norm_weight),
                             or_none(tail.norm_bias), &tail, epsilon, statistics);
}

void fused_inference_tail_(torch::Tensor& convolved, const BlockTail& tail,
                           const torch::Tensor& scale, const torch::Tensor& shift) {
  const std::int64_t channels = convolved.size(1);
  const Maps x{convolved.contiguous(at::MemoryFormat::ChannelsLast)};
  const Pieces pieces(x, channels);
  const Pass pass{x, pieces, place_of(tail.order, scale.defined()), tail.activation};
  const LaneValues own(pieces, numbers(tail.conv_bias, channels, 0), numbers(scale, channels, 1),
                       numbers(shift, channels, 0));
  with_type(x[0], [&]<typename T>(T) { pass.apply<T>(own, x); });
  convolved = x[0];
}

}  // namespace convae
