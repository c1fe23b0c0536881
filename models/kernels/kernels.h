#pragma once

#include <cstdint>

/// The arithmetic between two convolutions, on flat channels-last data. LibTorch's separate
/// operations for bias, activation and batch normalisation each read and write whole maps; together
/// they cost as much as the convolutions.
///
/// Internal. Kernels know no threads or tensors: they take `count` values that begin with a pixel's
/// first channel. Value i has the parameters of lane i % width; `width` is a multiple of the number
/// of channels, so that narrow maps fill vector registers too. kernels.cpp is compiled once per
/// instruction set; kernels_of_this_processor() chooses.
namespace convae::kernels {

/// A bfloat16 as LibTorch stores it: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

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

/// Two rows of pixels, the second `row_length` values behind the first, in blocks of 2×2.
struct PixelRows {
  std::int64_t channels, blocks, row_length;
  float factor;
};

/// A shortcut between such rows and the row of pixels below them: the four values of a channel in a
/// block are M groups, and group u of channel c belongs to value c·M + u below.
template <typename T>
struct PixelKernels {
  /// below += factor · the sums of groups.
  void (*gather)(const T* above, const PixelRows& rows, T* below);
  /// Every value of a group += factor · the value below it.
  void (*spread)(const float* below, const PixelRows& rows, T* above);
};

/// All kernels for values of one type. Functions stand in the order of Activation and Output
/// (models/options.h), errors in that of LossKind (training/loss_terms.h): e² and |e|.
template <typename T>
struct TypeKernels {
  BlockKernels<T> block[2][4];  ///< by Place and Activation
  /// The end of the network, o = f(x + bias), e = o - target, by Output and LossKind. Returns the
  /// sum of e² or |e|; dx = weight·(its derivative by x), dx_sum[lane] += dx.
  double (*loss[3][2])(const T* x, const float* target, std::int64_t count, const Lanes& lanes,
                       float weight, T* dx, float* dx_sum);
  void (*to_floats)(const T* x, std::int64_t count, float* y);
  /// y = y + x.
  void (*add_to_floats)(const T* x, std::int64_t count, float* y);
  /// y = y + x.
  void (*add_floats)(const float* x, std::int64_t count, T* y);
  PixelKernels<T> pixels[3];  ///< by M: 1, 2, 4
};

/// Sums that are computed side by side: the floats of an AVX-512 register.
inline constexpr std::int64_t kSums = 16;

/// y[i] = the sum of weight[kSums·k + i] · x[index[k]] for k below `taps`; i below `count` ≤ kSums.
struct WeightedSums {
  const std::int64_t* index;
  const float* weight;
  std::int64_t taps, count;
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
  /// Of each of `blocks`, whose values begin `x_step` and `y_step` behind each other.
  void (*weighted_sums)(const float* x, std::int64_t x_step, const WeightedSums& sums,
                        std::int64_t blocks, float* y, std::int64_t y_step);
  TypeKernels<float> of_float;
  TypeKernels<BFloat16> of_bf16;

  template <typename T>
  const TypeKernels<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return of_float;
    } else {
      return of_bf16;
    }
  }
};

}  // namespace convae::kernels
