#include "convae/models/kernels/fused_shortcut.h"

#include "convae/models/kernels/flat_maps.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

namespace convae {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Values: a loop long enough for its start not to count.
constexpr std::int64_t kMostTogether = 256;

/// A row of the smaller map, `columns` pixels, and the rows of the larger map above it, where each
/// pixel has a block of stride.h × stride.w. Rows are as long as whole blocks make them.
struct RowShape {
  std::int64_t channels;  ///< of the larger map
  Size stride;
  std::int64_t below;  ///< channels of the smaller map
  std::int64_t columns;

  std::int64_t pixels() const { return stride.h * stride.w; }
  std::int64_t in_block() const { return stride.w * channels; }  ///< values, of one row
  std::int64_t row() const { return columns * in_block(); }
};

/// How the values of blocks make those below them, or the other way round: sums of `taps` values
/// with weights for each, or for blocks of 2×2 whose channels divide well, groups of known sizes.
class Mixture {
public:
  /// Of the shortcut going down or up; transposed: of its gradient. `shape.columns` becomes a
  /// multiple of the blocks that are computed together.
  Mixture(RowShape& shape, bool down, bool transposed) : to_below_(down != transposed) {
    const std::int64_t in_block = shape.channels * shape.pixels(), group = in_block / shape.below;
    const bool divides = in_block % shape.below == 0 && (group == 1 || group == 2 || group == 4);
    if (shape.stride == Size{2, 2} && divides) {
      // 4, 2, 1 values of a group: 1, 2, 4 below a channel.
      known_ = &kernels_.pixels[group == 4 ? 0 : group == 2 ? 1 : 2];
      factor_ = down ? 1 / static_cast<float>(group) : 1;
    } else {
      blocks_ = std::max<std::int64_t>(1, kMostTogether / shape.below);
      shape.columns = (shape.columns + blocks_ - 1) / blocks_ * blocks_;
    }
    shape_ = shape;
    if (known_ == nullptr) fill_tables(down);
  }

  /// Rows of the larger map, one behind the other, → the row below, or the other way round.
  void operator()(const float* from, float* to) const {
    if (known_ != nullptr) {
      const kernels::PixelRows rows{shape_.channels, shape_.columns, shape_.row(), factor_};
      return (to_below_ ? known_->gather : known_->spread)(from, rows, to);
    }
    const std::int64_t above = blocks_ * shape_.in_block(), below = blocks_ * shape_.below;
    for (std::int64_t first = 0; first < shape_.columns; first += blocks_) {
      for (std::size_t i = 0; i < tables_.size(); ++i) {
        const Table& table = tables_[i];
        kernels_.combine(from, table.index.data(), table.weight.data(), table.taps, table.count,
                         to + static_cast<std::int64_t>(i) * shape_.row());
      }
      from += to_below_ ? above : below;
      to += to_below_ ? below : above;
    }
  }

private:
  /// taps × count
  struct Table {
    std::int64_t taps = 0, count = 0;
    std::vector<std::int32_t> index;
    std::vector<float> weight;
  };
  struct Tap {
    std::int64_t from;
    float weight;
  };
  using Sums = std::vector<std::vector<Tap>>;

  /// Where what pixel_unshuffle would make channel `a` stands in the block's rows.
  std::int64_t place(std::int64_t a) const {
    const std::int64_t pixel = a % shape_.pixels();
    return pixel / shape_.stride.w * shape_.row() + pixel % shape_.stride.w * shape_.channels +
           a / shape_.pixels();
  }

  void fill_tables(bool down) {
    const std::int64_t in_block = shape_.channels * shape_.pixels();
    const std::int64_t from = down ? in_block : shape_.below, to = down ? shape_.below : in_block;
    // Of each row of blocks, or of the one row below.
    std::vector<Sums> sums(static_cast<std::size_t>(to_below_ ? 1 : shape_.stride.h),
                           Sums(blocks_ * (to_below_ ? shape_.below : shape_.in_block())));
    for (std::int64_t block = 0; block < blocks_; ++block) {
      for (std::int64_t j = 0; j < to; ++j) {
        const std::int64_t begin = j * from / to, end = ((j + 1) * from + to - 1) / to;
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t above = place(down ? i : j) + block * shape_.in_block();
          const std::int64_t below = (down ? j : i) + block * shape_.below;
          const std::int64_t row = to_below_ ? 0 : above / shape_.row();
          sums[row][to_below_ ? below : above % shape_.row()].push_back(
              {to_below_ ? above : below, 1 / static_cast<float>(end - begin)});
        }
      }
    }
    for (const Sums& of_row : sums) tables_.push_back(packed(of_row));
  }

  static Table packed(const Sums& sums) {
    Table table;
    table.count = std::ssize(sums);
    for (const auto& taps : sums) table.taps = std::max<std::int64_t>(table.taps, std::ssize(taps));
    table.index.resize(table.taps * sums.size());
    table.weight.resize(table.taps * sums.size());
    for (std::size_t o = 0; o < sums.size(); ++o) {
      for (std::size_t k = 0; k < sums[o].size(); ++k) {
        table.index[k * sums.size() + o] = static_cast<std::int32_t>(sums[o][k].from);
        table.weight[k * sums.size() + o] = sums[o][k].weight;
      }
    }
    return table;
  }

  const kernels::Kernels& kernels_ = kernels_of_this_processor();
  RowShape shape_{};
  bool to_below_;
  const kernels::PixelKernels* known_ = nullptr;
  float factor_ = 0;
  std::int64_t blocks_ = 1;    ///< that are computed together
  std::vector<Table> tables_;  ///< one a row that is made
};

/// The larger and the smaller map of a level, channels-last. The last blocks may reach over the end
/// of the larger map.
template <typename T>
class Rows {
public:
  Rows(const torch::Tensor& large, const torch::Tensor& small, Size stride, bool down,
       bool transposed)
      : large_(large),
        small_(small),
        shape_{large.size(1), stride, small.size(1), small.size(3)},
        mixture_(shape_, down, transposed) {}

  /// small = `base` + what the larger map makes, or without it. Beyond the end the edge is
  /// repeated, or there is nothing.
  void gather(bool repeats_edge, const torch::Tensor& base) const {
    for_rows([&](std::int64_t image, std::int64_t y, float* above, float* below) {
      for (std::int64_t i = 0; i < shape_.stride.h; ++i) {
        read(image, y * shape_.stride.h + i, repeats_edge, above + i * shape_.row());
      }
      mixture_(above, below);
      write(base, below, small_, image, y);
    });
  }

  /// large = `base` + what the small map makes, or without it; `folds`: what is made beyond the end
  /// belongs to the edge.
  void spread(bool folds, const torch::Tensor& base) const {
    for_rows([&](std::int64_t image, std::int64_t y, float* above, float* below) {
      kernel_.to_floats(at(small_, image, y), length(small_), below);
      mixture_(below, above);
      const std::int64_t rows = std::min(shape_.stride.h, large_.size(2) - y * shape_.stride.h);
      if (folds) fold(above, rows);
      for (std::int64_t i = 0; i < rows; ++i) {
        write(base, above + i * shape_.row(), large_, image, y * shape_.stride.h + i);
      }
    });
  }

private:
  static std::int64_t length(const torch::Tensor& map) { return map.size(3) * map.size(1); }
  static T* at(const torch::Tensor& map, std::int64_t image, std::int64_t row) {
    return values<T>(map) + (image * map.size(2) + row) * length(map);
  }
  /// Of the larger map, with whole blocks.
  std::int64_t whole_length() const { return small_.size(3) * shape_.in_block(); }

  void read(std::int64_t image, std::int64_t row, bool repeats_edge, float* to) const {
    if (row >= large_.size(2) && !repeats_edge) {
      std::fill_n(to, whole_length(), 0.0F);
      return;
    }
    kernel_.to_floats(at(large_, image, std::min(row, large_.size(2) - 1)), length(large_), to);
    for (std::int64_t i = length(large_); i < whole_length(); ++i) {
      to[i] = repeats_edge ? to[i - shape_.channels] : 0.0F;
    }
  }

  void fold(float* above, std::int64_t rows) const {
    for (std::int64_t i = 0; i < shape_.stride.h; ++i) {
      float* row = above + i * shape_.row();
      for (std::int64_t k = whole_length(); k-- > length(large_);)
        row[k - shape_.channels] += row[k];
      if (i < rows) continue;
      float* edge = above + (rows - 1) * shape_.row();
      for (std::int64_t k = 0; k < length(large_); ++k) edge[k] += row[k];
    }
  }

  void write(const torch::Tensor& base, const float* made, const torch::Tensor& map,
             std::int64_t image, std::int64_t row) const {
    if (base.defined()) {
      kernel_.add_floats(at(base, image, row), made, length(map), at(map, image, row));
    } else {
      kernel_.from_floats(made, length(map), at(map, image, row));
    }
  }

  template <typename Work>
  void for_rows(const Work& work) const {
    const std::int64_t rows = small_.size(2);
    parallel_for_each(small_.size(0) * rows, [&](std::int64_t row) {
      std::vector<float> above(static_cast<std::size_t>(shape_.stride.h * shape_.row()));
      std::vector<float> below(static_cast<std::size_t>(shape_.columns * shape_.below));
      work(row / rows, row % rows, above.data(), below.data());
    });
  }

  torch::Tensor large_, small_;
  RowShape shape_;
  Mixture mixture_;
  const kernels::TypeKernels<T>& kernel_ = kernels_of_this_processor().of<T>();
};

torch::Tensor as_channels_last(const torch::Tensor& x) {
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

/// y + the shortcut of x, into `sum`, which may be y.
void add_shortcut(const torch::Tensor& y, const torch::Tensor& x, Size stride, bool down,
                  const torch::Tensor& sum) {
  with_type(x, [&]<typename T>(T) {
    const Rows<T> rows(down ? x : sum, down ? sum : x, stride, down, /*transposed=*/false);
    down ? rows.gather(/*repeats_edge=*/true, y) : rows.spread(/*folds=*/false, y);
  });
}

struct FusedShortcut : torch::autograd::Function<FusedShortcut> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& y,
                               const torch::Tensor& x, Size stride, bool down) {
    context->saved_data["stride"] = per_axis(stride);
    context->saved_data["down"] = down;
    context->saved_data["shape"] = x.sizes().vec();
    const torch::Tensor base = as_channels_last(y);
    torch::Tensor sum = at::empty_like(base);
    add_shortcut(base, as_channels_last(x), stride, down, sum);
    return sum;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const std::vector<std::int64_t> stride = context->saved_data["stride"].toIntVector();
    const bool down = context->saved_data["down"].toBool();
    const torch::Tensor dy = as_channels_last(gradients[0]);
    if (!context->needs_input_grad(1)) return {dy, {}, {}, {}};  // images need none
    const torch::Tensor dx = at::empty(context->saved_data["shape"].toIntVector(),
                                       dy.options().memory_format(at::MemoryFormat::ChannelsLast));
    with_type(dy, [&]<typename T>(T) {
      const Rows<T> rows(down ? dx : dy, down ? dy : dx, {stride[0], stride[1]}, down,
                         /*transposed=*/true);
      down ? rows.spread(/*folds=*/true, {}) : rows.gather(/*repeats_edge=*/false, {});
    });
    return {dy, dx, {}, {}};
  }
};

}  // namespace

bool can_fuse_shortcut(const torch::Tensor& y, const torch::Tensor& x, Size stride, bool down) {
  const torch::Tensor &large = down ? x : y, &small = down ? y : x;
  const auto covers = [&](std::int64_t axis, std::int64_t step) {
    return small.size(axis) == (large.size(axis) + step - 1) / step;
  };
  return y.is_cpu() && x.is_cpu() && x.scalar_type() == y.scalar_type() && y.numel() > 0 &&
         x.numel() > 0 && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         stride.h * stride.w > 1 && covers(2, stride.h) && covers(3, stride.w) &&
         stride.h * (large.size(3) + kMostTogether * stride.w) * large.size(1) < INT32_MAX;
}

torch::Tensor fused_shortcut(const torch::Tensor& y, const torch::Tensor& x, Size stride,
                             bool down) {
  if (at::GradMode::is_enabled()) return FusedShortcut::apply(y, x, stride, down);
  torch::Tensor sum = as_channels_last(y);
  add_shortcut(sum, as_channels_last(x), stride, down, sum);
  return sum;
}

}  // namespace convae
