#pragma once

#include "convae/core/parallel.h"
#include "convae/core/tensor.h"
#include "convae/models/kernels/kernels.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <valarray>
#include <vector>

/// How kernels walk over tensors. Internal.
namespace convae {

/// The kernels for this processor, which are those of LibTorch's choice (ATEN_CPU_CAPABILITY).
const kernels::Kernels& kernels_of_this_processor();

/// One number a channel.
using Numbers = std::valarray<double>;

/// (C) on a CPU → its numbers; `count` times `or_else` where undefined or empty.
Numbers numbers(const torch::Tensor& per_channel, std::int64_t count, double or_else);

/// Numbers → (C), of that type.
torch::Tensor to_tensor(const Numbers& numbers, at::ScalarType type);

template <typename T>
T* values(const torch::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

/// Calls f with a value of the kernels' type for this tensor's elements.
template <typename F>
auto with_type(const torch::Tensor& tensor, const F& f) {
  return tensor.scalar_type() == at::kBFloat16 ? f(kernels::BFloat16{}) : f(float{});
}

/// What LibTorch's convolution of this tensor computes in: autocast may say.
at::ScalarType computed_type(const torch::Tensor& x);

/// Whether only the caller's reference holds its values, so that they may be overwritten.
inline bool is_unshared(const torch::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

/// The same maps in channels-last layout, which those from LibTorch have already.
std::vector<torch::Tensor> channels_last(const std::vector<torch::Tensor>& maps);

/// Channels-last maps cut into pieces of some 32,768 values: small enough to spread over threads
/// and to sum in floats, and the same for any number of threads.
class Pieces {
public:
  struct Piece {
    std::size_t map;
    std::int64_t begin, count;  ///< in values; begins with a pixel's first channel
  };

  Pieces(const std::vector<torch::Tensor>& maps, std::int64_t channels);

  std::int64_t channels() const { return channels_; }
  /// Values that share a set of parameters: some whole pixels.
  std::int64_t width() const { return width_; }
  std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }
  const Piece& operator[](std::int64_t i) const { return pieces_[static_cast<std::size_t>(i)]; }

  /// One number a channel → `width` floats, one a lane.
  std::vector<float> lanes(const Numbers& per_channel) const;

  /// Runs work(piece, sums) for all pieces, on all compute threads; sums are N arrays of `width`
  /// floats that start at zero. Returns their totals, each with a number a channel.
  template <std::size_t N>
  std::array<Numbers, N> sums(
      const std::function<void(const Piece&, const std::array<float*, N>&)>& work) const {
    const std::size_t row = N * width_, count = size() * row;
    const auto partial = std::make_unique_for_overwrite<float[]>(count);
    for_each([&](const Piece& piece) {
      float* const first = &partial[index(piece) * row];
      std::fill_n(first, row, 0.0F);
      std::array<float*, N> sums;
      for (std::size_t i = 0; i < N; ++i) sums[i] = first + i * width_;
      work(piece, sums);
    });
    const Numbers lanes = add_rows(std::span(partial.get(), count), row);
    std::array<Numbers, N> totals;
    for (std::size_t i = 0; i < N; ++i) {
      totals[i] = add_rows(std::span(&lanes[i * width_], width_), channels_);
    }
    return totals;
  }

  void for_each(const std::function<void(const Piece&)>& work) const;

  /// The sum of rows of that length. Threads share its columns, so that every number is added in
  /// the order of the rows, whatever their number.
  template <typename Rows>
  static Numbers add_rows(const Rows& rows, std::size_t row_length) {
    constexpr std::size_t kColumns = 64;
    Numbers sum(0.0, row_length);
    const auto add = [&](std::size_t first) {
      const std::size_t last = std::min(first + kColumns, row_length);
      for (std::size_t begin = 0; begin < rows.size(); begin += row_length) {
        for (std::size_t i = first; i < last; ++i) sum[i] += rows[begin + i];
      }
    };
    const std::size_t blocks = (row_length + kColumns - 1) / kColumns;
    if (rows.size() < kManyNumbers) {
      for (std::size_t block = 0; block < blocks; ++block) add(block * kColumns);
    } else {
      parallel_for_each(static_cast<std::int64_t>(blocks), [&](std::int64_t block) {
        add(static_cast<std::size_t>(block) * kColumns);
      });
    }
    return sum;
  }

  /// Which of the pieces this is.
  std::int64_t index(const Piece& piece) const { return &piece - pieces_.data(); }

private:
  static constexpr std::size_t kManyNumbers = 1 << 16;  // to wake other threads for

  std::int64_t channels_, width_;
  std::vector<Piece> pieces_;
};

}  // namespace convae
