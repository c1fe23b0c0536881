#include "convae/models/kernels/fused_shortcut.h"

#include "convae/models/kernels/flat_maps.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace convae {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A row of the smaller map, `columns` pixels, and the rows of the larger map above it, where each
/// pixel has a block of stride.h × stride.w. Rows are as long as whole blocks make them.
struct RowShape {
  std::int64_t channels;  ///< of the larger map
  Size stride;
  std::int64_t below;  ///< channels of the smaller map
  std::int64_t columns;

  std::int64_t pixels() const { return stride.h * stride.w; }
  std::int64_t block() const { return pixels() * channels; }
  std::int64_t in_block() const { return stride.w * channels; }  ///< values, of one row
  std::int64_t row() const { return columns * in_block(); }
};

/// How the values of blocks make those below them, or the other way round: sums with weights.
class Mixture {
public:
  /// Of the shortcut going down or up; transposed: of its gradient.
  Mixture(const RowShape& shape, bool down, bool transposed)
      : shape_(shape), to_below_(down != transposed) {
    std::vector<Tap> taps = all_taps(down);
    std::ranges::sort(taps, {}, &Tap::to);
    for (auto begin = taps.begin(); begin != taps.end();) {
      std::int64_t count = 0;
      const auto is_beside = [&](const Tap& tap) {
        const std::int64_t place = tap.to - begin->to;
        if (place > count || place >= kernels::kSums) return false;
        count = place + 1;
        return true;
      };
      const auto end = std::find_if_not(begin, taps.end(), is_beside);
      sums_.emplace_back(begin, end, count);
      begin = end;
    }
  }

  /// Rows of the larger map, one behind the other, → the row below, or the other way round; from
  /// the block `first` on.
  void operator()(const float* from, float* to, std::int64_t first) const {
    const std::int64_t above = shape_.in_block(), below = shape_.below;
    const std::int64_t from_step = to_below_ ? above : below, to_step = to_below_ ? below : above;
    for (const Sums& some : sums_) {
      const kernels::WeightedSums sums{some.index.data(), some.weight.data(),
                                       std::ssize(some.index), some.count};
      kernels_of_this_processor().weighted_sums(from + first * from_step, from_step, sums,
                                                shape_.columns - first,
                                                to + first * to_step + some.first, to_step);
    }
  }

private:
  struct Tap {
    std::int64_t from, to;  ///< places in the rows that are read and made
    float weight;
  };

  /// `count` values side by side that are made of one block.
  struct Sums {
    std::int64_t first, count;
    std::vector<std::int64_t> index;  ///< of what is added
    std::vector<float> weight;        ///< kernels::kSums of each

    using Taps = std::vector<Tap>::iterator;
    Sums(Taps begin, Taps end, std::int64_t values) : first(begin->to), count(values) {
      std::sort(begin, end, [](const Tap& a, const Tap& b) { return a.from < b.from; });
      for (; begin != end; ++begin) {
        if (index.empty() || index.back() != begin->from) {
          index.push_back(begin->from);
          weight.resize(weight.size() + kernels::kSums);
        }
        weight[weight.size() - kernels::kSums + begin->to - first] = begin->weight;
      }
    }
  };

  /// Where what pixel_unshuffle would make channel `a` stands in the block's rows.
  std::int64_t place(std::int64_t a) const {
    const std::int64_t pixel = a % shape_.pixels();
    return pixel / shape_.stride.w * shape_.row() + pixel % shape_.stride.w * shape_.channels +
           a / shape_.pixels();
  }

  std::vector<Tap> all_taps(bool down) const {
    const std::int64_t from = down ? shape_.block() : shape_.below;
    const std::int64_t to = down ? shape_.below : shape_.block();
    std::vector<Tap> taps;
    for (std::int64_t j = 0; j < to; ++j) {
      const std::int64_t begin = j * from / to, end = ((j + 1) * from + to - 1) / to;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t above = place(down ? i : j), below = down ? j : i;
        const float weight = 1 / static_cast<float>(end - begin);
        taps.push_back(to_below_ ? Tap{above, below, weight} : Tap{below, above, weight});
      }
    }
    return taps;
  }

  RowShape shape_;
  bool to_below_;
  std::vector<Sums> sums_;
};

/// The larger and the smaller map of a level, channels-last, of which one is added to. The last
/// blocks may reach over the end of the larger map.
template <typename T>
class Rows {
public:
  Rows(const torch::Tensor& large, const torch::Tensor& small, Size stride, bool down,
       bool transposed)
      : large_(large), small_(small), shape_{large.size(1), stride, small.size(1), small.size(3)} {
    const std::int64_t in_block = shape_.channels * shape_.pixels(),
                       group = in_block / shape_.below;
    const bool divides = in_block % shape_.below == 0 && (group == 1 || group == 2 || group == 4);
    if (stride == Size{2, 2} && divides) {
      // 4, 2, 1 values of a group: 1, 2, 4 below a channel.
      blocks_of_4_ = &kernel_.pixels[group == 4 ? 0 : group == 2 ? 1 : 2];
      factor_ = down ? 1 / static_cast<float>(group) : 1;
    }
    const bool all_whole = large.size(2) % 2 == 0 && large.size(3) % 2 == 0;
    if (blocks_of_4_ == nullptr || !all_whole) mixture_.emplace(shape_, down, transposed);
  }

  /// small += what the larger map makes. Beyond the end the edge is repeated, or there is nothing.
  void gather(bool repeats_edge) const {
    for_rows([&](std::int64_t image, std::int64_t y) {
      const std::int64_t whole = blocks_at_once(y);
      T* const to = at(small_, image, y);
      if (whole > 0) blocks_of_4_->gather(at(large_, image, 2 * y), pixel_rows(whole), to);
      if (whole == shape_.columns) return;
      const auto above = floats(shape_.stride.h * shape_.row()), below = floats(length(small_));
      for (std::int64_t i = 0; i < shape_.stride.h; ++i) {
        read(image, y * shape_.stride.h + i, repeats_edge, whole * shape_.in_block(),
             &above[i * shape_.row()]);
      }
      (*mixture_)(above.get(), below.get(), whole);
      add(below.get(), whole * shape_.below, length(small_), to);
    });
  }

  /// large += what the small map makes; `folds`: what is made beyond the end belongs to the edge.
  void spread(bool folds) const {
    for_rows([&](std::int64_t image, std::int64_t y) {
      const std::int64_t whole = blocks_at_once(y);
      const auto below = floats(length(small_));
      kernel_.to_floats(at(small_, image, y), length(small_), below.get());
      if (whole > 0) {
        blocks_of_4_->spread(below.get(), pixel_rows(whole), at(large_, image, 2 * y));
      }
      if (whole == shape_.columns) return;
      const auto above = floats(shape_.stride.h * shape_.row());
      (*mixture_)(below.get(), above.get(), whole);
      const std::int64_t rows = std::min(shape_.stride.h, large_.size(2) - y * shape_.stride.h);
      if (folds) fold(above.get(), rows, whole * shape_.in_block());
      for (std::int64_t i = 0; i < rows; ++i) {
        add(&above[i * shape_.row()], whole * shape_.in_block(), length(large_),
            at(large_, image, y * shape_.stride.h + i));
      }
    });
  }

private:
  static std::unique_ptr<float[]> floats(std::int64_t count) {
    return std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(count));
  }

  static std::int64_t length(const torch::Tensor& map) { return map.size(3) * map.size(1); }
  static T* at(const torch::Tensor& map, std::int64_t image, std::int64_t row) {
    return values<T>(map) + (image * map.size(2) + row) * length(map);
  }
  /// The blocks at the row's beginning that need no scratch.
  std::int64_t blocks_at_once(std::int64_t y) const {
    return blocks_of_4_ != nullptr && 2 * y + 1 < large_.size(2) ? large_.size(3) / 2 : 0;
  }
  kernels::PixelRows pixel_rows(std::int64_t blocks) const {
    return {shape_.channels, blocks, length(large_), factor_};
  }

  /// A row of the larger map, from the value `first` on.
  void read(std::int64_t image, std::int64_t row, bool repeats_edge, std::int64_t first,
            float* to) const {
    if (row >= large_.size(2) && !repeats_edge) {
      std::fill(to + first, to + shape_.row(), 0.0F);
      return;
    }
    const T* const from = at(large_, image, std::min(row, large_.size(2) - 1));
    kernel_.to_floats(from + first, length(large_) - first, to + first);
    for (std::int64_t i = length(large_); i < shape_.row(); ++i) {
      to[i] = repeats_edge ? to[i - shape_.channels] : 0.0F;
    }
  }

  void fold(float* above, std::int64_t rows, std::int64_t first) const {
    for (std::int64_t i = 0; i < shape_.stride.h; ++i) {
      float* row = above + i * shape_.row();
      for (std::int64_t k = shape_.row(); k-- > length(large_);) row[k - shape_.channels] += row[k];
      if (i < rows) continue;
      float* edge = above + (rows - 1) * shape_.row();
      for (std::int64_t k = first; k < length(large_); ++k) edge[k] += row[k];
    }
  }

  void add(const float* made, std::int64_t begin, std::int64_t end, T* row) const {
    kernel_.add_floats(made + begin, end - begin, row + begin);
  }

  template <typename Work>
  void for_rows(const Work& work) const {
    const std::int64_t rows = small_.size(2);
    parallel_for_each(small_.size(0) * rows,
                      [&](std::int64_t row) { work(row / rows, row % rows); });
  }

  torch::Tensor large_, small_;
  RowShape shape_;
  std::optional<Mixture> mixture_;  ///< where there is more than whole blocks of 2×2
  const kernels::TypeKernels<T>& kernel_ = kernels_of_this_processor().of<T>();
  const kernels::PixelKernels<T>* blocks_of_4_ = nullptr;
  float factor_ = 0;
};

torch::Tensor as_channels_last(const torch::Tensor& x) {
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

/// y += the shortcut of x.
void add_shortcut(const torch::Tensor& x, Size stride, bool down, const torch::Tensor& y) {
  with_type(x, [&]<typename T>(T) {
    const Rows<T> rows(down ? x : y, down ? y : x, stride, down, /*transposed=*/false);
    down ? rows.gather(/*repeats_edge=*/true) : rows.spread(/*folds=*/false);
  });
}

/// x → x and its link, whose gradient is that of the level's output.
struct Fork : torch::autograd::Function<Fork> {
  static variable_list forward(AutogradContext* context, const torch::Tensor& x,
                               const std::vector<std::int64_t>& output, Size stride, bool down) {
    context->saved_data["stride"] = per_axis(stride);
    context->saved_data["down"] = down;
    return {x, at::empty({1}, x.options()).expand(output)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const std::vector<std::int64_t> stride = context->saved_data["stride"].toIntVector();
    const bool down = context->saved_data["down"].toBool();
    const torch::Tensor dy = as_channels_last(gradients[1]);
    const torch::Tensor dx = is_unshared(gradients[0])
                                 ? as_channels_last(gradients[0])
                                 : gradients[0].clone(at::MemoryFormat::ChannelsLast);
    with_type(dy, [&]<typename T>(T) {
      const Rows<T> rows(down ? dx : dy, down ? dy : dx, {stride[0], stride[1]}, down,
                         /*transposed=*/true);
      down ? rows.spread(/*folds=*/true) : rows.gather(/*repeats_edge=*/false);
    });
    return {dx, {}, {}, {}};
  }
};

struct AddedShortcut : torch::autograd::Function<AddedShortcut> {
  static torch::Tensor forward(AutogradContext* context, torch::Tensor y,
                               const torch::Tensor& /*link*/, const torch::Tensor& x, Size stride,
                               bool down) {
    context->mark_dirty({y});
    add_shortcut(x, stride, down, y);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const torch::Tensor& dy = gradients[0];
    return {dy, context->needs_input_grad(1) ? dy : torch::Tensor(), {}, {}, {}};
  }
};

}  // namespace

bool can_fuse_shortcut(const torch::Tensor& x, const std::vector<std::int64_t>& output, Size stride,
                       bool down) {
  const at::IntArrayRef input = x.sizes(), y = output;
  const at::IntArrayRef large = down ? input : y, small = down ? y : input;
  const auto covers = [&](std::size_t axis, std::int64_t step) {
    return small[axis] == (large[axis] + step - 1) / step;
  };
  return x.is_cpu() && x.numel() > 0 && c10::multiply_integers(y) > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         stride.h * stride.w > 1 && covers(2, stride.h) && covers(3, stride.w);
}

ForkedInput::ForkedInput(const torch::Tensor& x, const std::vector<std::int64_t>& output,
                         Size stride, bool down)
    : maps(x) {
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return;  // images need no gradient
  variable_list fork = Fork::apply(x, output, stride, down);
  maps = fork[0];
  link = fork[1];
}

void fused_shortcut_(torch::Tensor& y, const ForkedInput& input, Size stride, bool down) {
  const torch::Tensor x = as_channels_last(input.maps.detach());
  y = as_channels_last(y);
  if (at::GradMode::is_enabled()) {
    const torch::Tensor link = input.link.defined() ? input.link : at::empty({0});
    y = AddedShortcut::apply(y, link, x, stride, down);
  } else {
    add_shortcut(x, stride, down, y);
  }
}

}  // namespace convae
