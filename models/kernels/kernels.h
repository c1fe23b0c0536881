#pragma once

#include <cstdint>

/// The arithmetic between two convolutions, on flat channels-last data. LibTorch's separate
/// operations for bias, activation and batch normalisation each read and write whole maps; together
/// they cost as much as the convolutions.
///
/// Internal. Kernels know no threads or tensors: they take `count` values that begin with a pixel's
/// first channel. Value i has the parameters of lane i % width; `width` is a multiple of the number
/// of channels, so that narrow maps fill vector registers too. kernels.cpp is compiled once per
/// instruction set; kernels_for() chooses.
namespace convae::kernels {

/// A bfloat16 as LibTorch stores it: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

enum class Function { relu, leaky_relu, silu, gelu };
inline constexpr int kFunctions = 4;

/// Before: a = f(x + bias), z = a·scale + shift. After: a = x + bias, z = f(a·scale + shift).
enum class Place { before, after };

/// Parameters of `width` lanes.
struct Lanes {
  std::int64_t width;
  const float* bias;
  const float* scale;
  const float* shift;
};

/// What the gradient of batch normalisation needs per lane:
/// da = g·per_gradient + (a - mean)·per_value + constant, with g = dz·f'(z) (after) or dz (before).
struct GradientLanes {
  const float* mean;
  const float* per_gradient;
  const float* per_value;
  const float* constant;
};

template <typename T>
struct BlockKernels {
  /// sum[lane] += a - origin[lane], square_sum[lane] += (a - origin[lane])².
  void (*moments)(const T* x, std::int64_t count, const Lanes& lanes, const float* origin,
                  float* sum, float* square_sum);
  /// z, which may be x.
  void (*apply)(const T* x, std::int64_t count, const Lanes& lanes, T* z);
  /// gradient_sum[lane] += g, product_sum[lane] += g·(a - mean[lane]).
  void (*gradient_sums)(const T* x, const T* dz, std::int64_t count, const Lanes& lanes,
                        const float* mean, float* gradient_sum, float* product_sum);
  /// dx = da·(f' where f comes before); dx_sum[lane] += dx. dx may be dz.
  void (*gradient)(const T* x, const T* dz, std::int64_t count, const Lanes& lanes,
                   const GradientLanes& gradient_lanes, T* dx, float* dx_sum);
};

enum class OutputFunction { sigmoid, tanh, linear };
inline constexpr int kOutputFunctions = 3;
enum class Difference { squared, absolute };
inline constexpr int kDifferences = 2;

/// The end of the network: o = f(x + bias), e = o - target.
template <typename T>
struct LossKernels {
  /// Returns the sum of e² or |e|; dx = weight·(its derivative by x), dx_sum[lane] += dx.
  double (*loss)(const T* x, const float* target, std::int64_t count, const Lanes& lanes,
                 float weight, T* dx, float* dx_sum);
};

/// Window and constants of SSIM for values in [0,1]: see metrics/similarity.h.
inline constexpr int kSsimWindow = 11;
inline constexpr double kSsimC1 = 0.01 * 0.01;
inline constexpr double kSsimC2 = 0.03 * 0.03;

struct Kernels {
  /// y = x / 255.
  void (*unit_floats)(const std::uint8_t* x, std::int64_t count, float* y);
  /// y = x + deviation·z, with z normally distributed and a function of (key, first + i) alone.
  /// x may be y.
  void (*add_noise)(const float* x, std::int64_t count, std::uint64_t key, std::uint64_t first,
                    float deviation, float* y);
  /// The sum of SSIM over one row of windows. x and y: the kSsimWindow rows of `count` values under
  /// them; weights: the Gaussian along one axis; scratch: 4·count values.
  double (*ssim_row)(const float* x, const float* y, std::int64_t count, std::int64_t channels,
                     const float* weights, float* scratch);
  BlockKernels<float> block[2][kFunctions];  ///< by Place and Function
  BlockKernels<BFloat16> block_bf16[2][kFunctions];
  LossKernels<float> loss[kOutputFunctions][kDifferences];
  LossKernels<BFloat16> loss_bf16[kOutputFunctions][kDifferences];
};

enum class InstructionSet { baseline, avx2, avx512 };

/// The kernels compiled for that set, or the baseline's in builds without it (other processors).
const Kernels& kernels_for(InstructionSet set);

}  // namespace convae::kernels
