// Compiled once per instruction set; CONVAE_KERNELS is the name of the table it defines. All else
// is in an unnamed namespace and calls nothing from the standard library: the linker must not pick
// an inline function compiled for AVX-512 for everyone.
#include "convae/models/kernels/kernels.h"

namespace convae::kernels {
namespace {

// Comparisons let NaN through to the result: a diverging network must show.

inline float load(const float& x) { return x; }
inline float load(const BFloat16& x) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

inline void store(float& to, float x) { to = x; }
inline void store(BFloat16& to, float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  // Round to nearest, ties to even; NaN would be rounded to something else.
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<std::uint16_t>(x != x ? 0x7fc0 : rounded);
}

/// e^x to 2e-7 relative, for x limited to ±60: further out all functions here have reached their
/// limits, and products with numbers below 1e-38 take a hundred times as long. Coefficients:
/// Cephes, expf.c.
inline float exponential(float x) {
  x = x < -60.0F ? -60.0F : x;
  x = x > 60.0F ? 60.0F : x;
  constexpr float kRounder = 12582912.0F;  // 1.5·2^23: the sum's last bits are the rounded integer
  const float shifted = x * 1.44269504F + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const auto exponent = (__builtin_bit_cast(std::uint32_t, shifted) + 127U) << 23;
  return p * __builtin_bit_cast(float, exponent);
}

struct Value {
  float value, derivative;
};

inline Value identity(float x) { return {x, 1.0F}; }

inline Value relu(float x) { return {x < 0.0F ? 0.0F : x, x > 0.0F ? 1.0F : 0.0F}; }

inline Value leaky_relu(float x) { return {x < 0.0F ? 0.01F * x : x, x > 0.0F ? 1.0F : 0.01F}; }

inline Value sigmoid(float x) {
  const float s = 1.0F / (1.0F + exponential(-x));
  return {s, s * (1.0F - s)};
}

inline Value tanh(float x) {
  const float s = sigmoid(2.0F * x).value;
  return {2.0F * s - 1.0F, 4.0F * s * (1.0F - s)};
}

inline Value silu(float x) {
  const float s = sigmoid(x).value;
  return {x * s, s * (1.0F + x * (1.0F - s))};
}

/// x·Φ(x), with erf from Abramowitz and Stegun, 7.1.26 (1.5e-7).
inline Value gelu(float x) {
  const float z = x * 0.70710678F;
  const float positive = z < 0.0F ? -z : z;
  const float t = 1.0F / (1.0F + 0.3275911F * positive);
  float p = 1.061405429F;
  p = p * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const float bell = exponential(-z * z);
  const float tail = 0.5F * p * t * bell;
  const float below = z < 0.0F ? tail : 1.0F - tail;
  return {x * below, below + x * 0.39894228F * bell};
}

inline Value squared(float e) { return {e * e, 2.0F * e}; }

inline Value absolute(float e) {
  return {e < 0.0F ? -e : e, e < 0.0F ? -1.0F : (e > 0.0F ? 1.0F : 0.0F)};
}

/// A function and its derivative; where one of them is not used, the compiler leaves it out.
using Differentiable = Value (*)(float);

/// Calls row(begin, n) for each run of at most `width` values.
template <typename Row>
inline void for_rows(std::int64_t count, std::int64_t width, const Row& row) {
  for (std::int64_t begin = 0; begin < count; begin += width) {
    row(begin, count - begin < width ? count - begin : width);
  }
}

template <typename T, Differentiable before>
void moments(const T* x, std::int64_t count, const Lanes& lanes, const float* __restrict origin,
             float* __restrict sum, float* __restrict square_sum) {
  const float* __restrict bias = lanes.bias;
  for_rows(count, lanes.width, [&](std::int64_t begin, std::int64_t n) {
    const T* __restrict row = x + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      const float a = before(load(row[i]) + bias[i]).value - origin[i];
      sum[i] += a;
      square_sum[i] += a * a;
    }
  });
}

template <typename T, Differentiable before, Differentiable after>
void apply(const T* x, std::int64_t count, const Lanes& lanes, T* z) {
  const float* bias = lanes.bias;
  const float* scale = lanes.scale;
  const float* shift = lanes.shift;
  for_rows(count, lanes.width, [&](std::int64_t begin, std::int64_t n) {
    const T* row = x + begin;
    T* out = z + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      const float a = before(load(row[i]) + bias[i]).value;
      store(out[i], after(a * scale[i] + shift[i]).value);
    }
  });
}

template <typename T, Differentiable before, Differentiable after>
void gradient_sums(const T* x, const T* dz, std::int64_t count, const Lanes& lanes,
                   const float* __restrict mean, float* __restrict gradient_sum,
                   float* __restrict product_sum) {
  const float* __restrict bias = lanes.bias;
  const float* __restrict scale = lanes.scale;
  const float* __restrict shift = lanes.shift;
  for_rows(count, lanes.width, [&](std::int64_t begin, std::int64_t n) {
    const T* __restrict row = x + begin;
    const T* __restrict upper = dz + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      const float a = before(load(row[i]) + bias[i]).value;
      const float g = load(upper[i]) * after(a * scale[i] + shift[i]).derivative;
      gradient_sum[i] += g;
      product_sum[i] += g * (a - mean[i]);
    }
  });
}

template <typename T, Differentiable before, Differentiable after>
void gradient(const T* x, const T* dz, std::int64_t count, const Lanes& lanes,
              const GradientLanes& gradient_lanes, T* dx, float* __restrict dx_sum) {
  const float* __restrict bias = lanes.bias;
  const float* __restrict scale = lanes.scale;
  const float* __restrict shift = lanes.shift;
  const float* __restrict mean = gradient_lanes.mean;
  const float* __restrict per_gradient = gradient_lanes.per_gradient;
  const float* __restrict per_value = gradient_lanes.per_value;
  const float* __restrict constant = gradient_lanes.constant;
  for_rows(count, lanes.width, [&](std::int64_t begin, std::int64_t n) {
    const T* row = x + begin;
    const T* upper = dz + begin;
    T* out = dx + begin;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) {
      const Value a = before(load(row[i]) + bias[i]);
      const float g = load(upper[i]) * after(a.value * scale[i] + shift[i]).derivative;
      const float da = g * per_gradient[i] + (a.value - mean[i]) * per_value[i] + constant[i];
      const float down = da * a.derivative;
      dx_sum[i] += down;
      store(out[i], down);
    }
  });
}

template <typename T, Differentiable output, Differentiable error>
double loss(const T* x, const float* target, std::int64_t count, const Lanes& lanes, float weight,
            T* dx, float* __restrict dx_sum) {
  const float* __restrict bias = lanes.bias;
  double total = 0;
  for_rows(count, lanes.width, [&](std::int64_t begin, std::int64_t n) {
    const T* __restrict row = x + begin;
    const float* __restrict wanted = target + begin;
    T* __restrict out = dx + begin;
    float row_total = 0;
#pragma omp simd reduction(+ : row_total)
    for (std::int64_t i = 0; i < n; ++i) {
      const Value o = output(load(row[i]) + bias[i]);
      const Value e = error(o.value - wanted[i]);
      row_total += e.value;
      const float down = weight * e.derivative * o.derivative;
      dx_sum[i] += down;
      store(out[i], down);
    }
    total += row_total;
  });
  return total;
}

void unit_floats(const std::uint8_t* __restrict x, std::int64_t count, float* __restrict y) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i]) / 255.0F;
}

/// Natural logarithm of a normal number above 0 to 2e-7: the exponent, and for the mantissa m in
/// [√½, √2) the series of 2·artanh((m - 1)/(m + 1)).
inline float logarithm(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  constexpr std::uint32_t kRootHalf = 0x3f3504f3;
  const std::uint32_t above = bits - kRootHalf;
  const auto exponent = static_cast<float>(static_cast<std::int32_t>(above) >> 23);
  const float m = __builtin_bit_cast(float, (above & 0x007fffffU) + kRootHalf);
  const float s = (m - 1.0F) / (m + 1.0F);
  const float q = s * s;
  const float series = 1.0F + q * (0.33333333F + q * (0.2F + q * (0.14285714F + q * 0.11111111F)));
  return exponent * 0.69314718F + 2.0F * s * series;
}

/// The number of normally distributed ones below which a share u in (0, 1) lies: √2·erf⁻¹(2u - 1),
/// with the polynomials of Giles, "Approximating the erfinv function" (GPU Computing Gems, 2012).
inline float normal_quantile(float u) {
  const float x = 2.0F * u - 1.0F;
  const float w = -logarithm(4.0F * u * (1.0F - u));
  const float a = w - 2.5F;
  float centre = 2.81022636e-08F;
  centre = centre * a + 3.43273939e-07F;
  centre = centre * a - 3.5233877e-06F;
  centre = centre * a - 4.39150654e-06F;
  centre = centre * a + 0.00021858087F;
  centre = centre * a - 0.00125372503F;
  centre = centre * a - 0.00417768164F;
  centre = centre * a + 0.246640727F;
  centre = centre * a + 1.50140941F;
  const float b = __builtin_sqrtf(w) - 3.0F;
  float tail = -0.000200214257F;
  tail = tail * b + 0.000100950558F;
  tail = tail * b + 0.00134934322F;
  tail = tail * b - 0.00367342844F;
  tail = tail * b + 0.00573950773F;
  tail = tail * b - 0.0076224613F;
  tail = tail * b + 0.00943887047F;
  tail = tail * b + 1.00167406F;
  tail = tail * b + 2.83297682F;
  return 1.41421356F * x * (w < 5.0F ? centre : tail);
}

/// Uniform in (0, 1): the counter, scrambled by multiplications and shifts of Ettinger's
/// lowbias32 (https://nullprogram.com/blog/2018/07/31/), the key's halves before and between.
inline float uniform(std::uint32_t counter, std::uint32_t key, std::uint32_t second_key) {
  std::uint32_t z = counter ^ key;
  z = (z ^ (z >> 16)) * 0x21f0aaadU + second_key;
  z = (z ^ (z >> 15)) * 0x735a2d97U;
  z ^= z >> 15;
  // 23 bits and a half: all representable, and neither end is reached.
  return (static_cast<float>(static_cast<std::int32_t>(z >> 9)) + 0.5F) * 0x1.0p-23F;
}

void add_noise(const float* x, std::int64_t count, std::uint64_t key, std::uint64_t first,
               float deviation, float* y) {
  const auto low = static_cast<std::uint32_t>(key);
  const auto high = static_cast<std::uint32_t>(key >> 32);
  const auto begin = static_cast<std::uint32_t>(first);
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    y[i] = x[i] +
           deviation * normal_quantile(uniform(begin + static_cast<std::uint32_t>(i), low, high));
  }
}

/// Down the columns first: the one row that remains stays in the cache.
double ssim_row(const float* __restrict x, const float* __restrict y, std::int64_t count,
                std::int64_t channels, const float* __restrict weights, float* __restrict scratch) {
  float* __restrict xs = scratch;
  float* __restrict ys = scratch + count;
  float* __restrict squares = scratch + 2 * count;
  float* __restrict products = scratch + 3 * count;
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    float sum_x = 0, sum_y = 0, sum_squares = 0, sum_products = 0;
    for (int k = 0; k < kSsimWindow; ++k) {
      // Variances do not depend on the zero point; around 0.5 fewer digits cancel below.
      const float a = x[k * count + i] - 0.5F;
      const float b = y[k * count + i] - 0.5F;
      sum_x += weights[k] * a;
      sum_y += weights[k] * b;
      sum_squares += weights[k] * (a * a + b * b);
      sum_products += weights[k] * (a * b);
    }
    xs[i] = sum_x;
    ys[i] = sum_y;
    squares[i] = sum_squares;
    products[i] = sum_products;
  }
  constexpr auto kC1 = static_cast<float>(kSsimC1);
  constexpr auto kC2 = static_cast<float>(kSsimC2);
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t i = 0; i < count - (kSsimWindow - 1) * channels; ++i) {
    float mean_x = 0, mean_y = 0, square = 0, product = 0;
    for (int k = 0; k < kSsimWindow; ++k) {
      const std::int64_t at = i + k * channels;
      mean_x += weights[k] * xs[at];
      mean_y += weights[k] * ys[at];
      square += weights[k] * squares[at];
      product += weights[k] * products[at];
    }
    const float variances = square - mean_x * mean_x - mean_y * mean_y;
    const float covariance = product - mean_x * mean_y;
    const float light_x = mean_x + 0.5F;
    const float light_y = mean_y + 0.5F;
    total += ((2 * light_x * light_y + kC1) * (2 * covariance + kC2)) /
             ((light_x * light_x + light_y * light_y + kC1) * (variances + kC2));
  }
  return total;
}

template <typename T>
void to_floats(const T* __restrict x, std::int64_t count, float* __restrict y) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = load(x[i]);
}

template <typename T>
void add_to_floats(const T* __restrict x, std::int64_t count, float* __restrict y) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] += load(x[i]);
}

template <typename T>
void add_floats(const float* __restrict x, std::int64_t count, T* __restrict y) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) store(y[i], load(y[i]) + x[i]);
}

using SumsOfBlock = float __attribute__((vector_size(kSums * sizeof(float))));

/// Of several blocks, since one sum after another would wait for the one before.
template <int blocks>
void add_weighted(const float* __restrict x, std::int64_t x_step, const WeightedSums& sums,
                  float* __restrict y, std::int64_t y_step) {
  SumsOfBlock sum[blocks] = {};
  for (std::int64_t k = 0; k < sums.taps; ++k) {
    SumsOfBlock weight;
    __builtin_memcpy(&weight, sums.weight + k * kSums, sizeof weight);
    for (int block = 0; block < blocks; ++block) {
      sum[block] += weight * x[block * x_step + sums.index[k]];
    }
  }
  for (int block = 0; block < blocks; ++block) {
    float* to = y + block * y_step;
#pragma omp simd
    for (int i = 0; i < kSums; ++i) {
      if (i < sums.count) to[i] = sum[block][i];
    }
  }
}

void weighted_sums(const float* x, std::int64_t x_step, const WeightedSums& sums,
                   std::int64_t blocks, float* y, std::int64_t y_step) {
  constexpr int kTogether = 4;
  for (; blocks >= kTogether; blocks -= kTogether) {
    add_weighted<kTogether>(x, x_step, sums, y, y_step);
    x += kTogether * x_step;
    y += kTogether * y_step;
  }
  for (; blocks > 0; --blocks, x += x_step, y += y_step) {
    add_weighted<1>(x, x_step, sums, y, y_step);
  }
}

template <typename T, int groups>
void gather(const T* above, const PixelRows& rows, T* below) {
  constexpr int kOfGroup = 4 / groups;
  const std::int64_t channels = rows.channels;
  const float factor = rows.factor;
  for (std::int64_t block = 0; block < rows.blocks; ++block) {
    const T* __restrict pixels = above + block * 2 * channels;
    T* __restrict out = below + block * groups * channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const float values[4] = {load(pixels[c]), load(pixels[channels + c]),
                               load(pixels[rows.row_length + c]),
                               load(pixels[rows.row_length + channels + c])};
      for (int u = 0; u < groups; ++u) {
        float sum = 0;
        for (int t = 0; t < kOfGroup; ++t) sum += values[u * kOfGroup + t];
        T& to = out[c * groups + u];
        store(to, load(to) + factor * sum);
      }
    }
  }
}

template <typename T, int groups>
void spread(const float* below, const PixelRows& rows, T* above) {
  constexpr int kOfGroup = 4 / groups;
  const std::int64_t channels = rows.channels;
  const float factor = rows.factor;
  const auto add = [&](T& to, float value) { store(to, load(to) + factor * value); };
  for (std::int64_t block = 0; block < rows.blocks; ++block) {
    const float* __restrict from = below + block * groups * channels;
    T* __restrict upper = above + block * 2 * channels;
    T* __restrict lower = upper + rows.row_length;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      add(upper[c], from[c * groups]);
      add(upper[channels + c], from[c * groups + 1 / kOfGroup]);
      add(lower[c], from[c * groups + 2 / kOfGroup]);
      add(lower[channels + c], from[c * groups + 3 / kOfGroup]);
    }
  }
}

template <typename T, Differentiable before, Differentiable after>
constexpr BlockKernels<T> kBlock = {moments<T, before>, apply<T, before, after>,
                                    gradient_sums<T, before, after>, gradient<T, before, after>};

template <typename T>
constexpr TypeKernels<T> kOfType = {
    {{kBlock<T, silu, identity>, kBlock<T, relu, identity>, kBlock<T, leaky_relu, identity>,
      kBlock<T, gelu, identity>},
     {kBlock<T, identity, silu>, kBlock<T, identity, relu>, kBlock<T, identity, leaky_relu>,
      kBlock<T, identity, gelu>}},
    {{loss<T, sigmoid, squared>, loss<T, sigmoid, absolute>},
     {loss<T, tanh, squared>, loss<T, tanh, absolute>},
     {loss<T, identity, squared>, loss<T, identity, absolute>}},
    to_floats<T>,
    add_to_floats<T>,
    add_floats<T>,
    {{gather<T, 1>, spread<T, 1>}, {gather<T, 2>, spread<T, 2>}, {gather<T, 4>, spread<T, 4>}}};

}  // namespace

extern const Kernels CONVAE_KERNELS;
const Kernels CONVAE_KERNELS = {unit_floats,   add_noise,      ssim_row,
                                weighted_sums, kOfType<float>, kOfType<BFloat16>};

}  // namespace convae::kernels
