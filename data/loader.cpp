#include "convae/data/loader.h"

#include "convae/core/machine.h"
#include "convae/core/parallel.h"
#include "convae/core/random.h"
#include "convae/data/augment.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace convae {
namespace {

/// Steps that are decoded ahead: enough to absorb one slow file.
constexpr std::size_t kStepsAhead = 2;

/// Groups images of one size, in the order in which the sizes first appear.
Step group_by_size(const ImageDataset& dataset, const std::vector<std::int64_t>& indices) {
  Step step;
  std::map<Size, std::size_t> group_of;
  for (const std::int64_t index : indices) {
    const auto [group, is_new] = group_of.try_emplace(dataset.image_size(index), step.size());
    if (is_new) step.emplace_back();
    step[group->second].indices.push_back(index);
  }
  return step;
}

std::vector<std::int64_t> all_indices(const ImageDataset& dataset) {
  std::vector<std::int64_t> indices(dataset.size());
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

std::vector<Step> cut_into_steps(const ImageDataset& dataset,
                                 const std::vector<std::int64_t>& order, std::int64_t batch_size) {
  std::vector<Step> plan;
  for (std::size_t begin = 0; begin < order.size(); begin += batch_size) {
    const std::size_t end = std::min(order.size(), begin + static_cast<std::size_t>(batch_size));
    plan.push_back(group_by_size(dataset, {order.begin() + begin, order.begin() + end}));
  }
  return plan;
}

/// The same shares of their type's range, in a type that takes as many bytes or more: × 257 keeps
/// value / range exactly.
torch::Tensor widened(const torch::Tensor& image, at::ScalarType type) {
  if (image.scalar_type() == type) return image;
  if (type == at::kUInt16) return (image.to(at::kInt) * 257).to(type);
  return image.to(type).div_(image.scalar_type() == at::kByte ? 255.0 : 65535.0);
}

/// Images of one size as one batch, of the widest type that one of them has.
torch::Tensor stack(const std::vector<torch::Tensor>& images, bool pinned) {
  const torch::Tensor& widest = *std::ranges::max_element(
      images, {}, [](const torch::Tensor& image) { return image.element_size(); });
  const torch::Tensor batch =
      at::empty({std::ssize(images), widest.size(1), widest.size(2), widest.size(0)},
                widest.options().pinned_memory(pinned))
          .permute({0, 3, 1, 2});
  parallel_for_each(std::ssize(images), [&](std::int64_t i) {
    batch[i].copy_(widened(images[static_cast<std::size_t>(i)], widest.scalar_type()));
  });
  return batch;
}

}  // namespace

std::int64_t most_bytes_ahead() {
  constexpr std::int64_t kMost = 256 << 20;
  const std::int64_t free = free_memory_bytes();
  return free > 0 ? std::min(kMost, free / 8) : kMost;
}

std::int64_t image_count(const Step& step) {
  std::int64_t count = 0;
  for (const MicroBatch& batch : step) count += static_cast<std::int64_t>(batch.indices.size());
  return count;
}

std::vector<Step> plan_training_epoch(const ImageDataset& dataset, std::int64_t batch_size,
                                      std::uint64_t seed, std::int64_t epoch,
                                      std::int64_t position) {
  std::vector<std::int64_t> order = all_indices(dataset);
  CounterRandom random(seed, epoch, 0, Purpose::shuffle);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  order.erase(order.begin(), order.begin() + std::min(position, dataset.size()));
  return cut_into_steps(dataset, order, batch_size);
}

std::vector<Step> plan_in_order(const ImageDataset& dataset, std::int64_t batch_size,
                                std::int64_t max_pixels, Size network_size) {
  std::vector<std::int64_t> order = all_indices(dataset);
  std::ranges::stable_sort(order, {}, [&](std::int64_t i) { return dataset.image_size(i); });
  std::vector<Step> plan;
  for (const std::int64_t index : order) {
    const Size size = dataset.image_size(index);
    const std::int64_t pixels = std::max(size.h * size.w, network_size.h * network_size.w);
    const std::int64_t most = std::min(batch_size, std::max<std::int64_t>(1, max_pixels / pixels));
    const bool fits = !plan.empty() && std::ssize(plan.back()[0].indices) < most &&
                      dataset.image_size(plan.back()[0].indices[0]) == size;
    if (!fits) plan.emplace_back(1);  // of one micro-batch
    plan.back()[0].indices.push_back(index);
  }
  return plan;
}

Loader::Loader(ImageDataset& dataset, std::vector<Step> plan, View view, std::int64_t workers,
               bool pinned, std::int64_t bytes_ahead)
    : dataset_(dataset),
      plan_(std::move(plan)),
      view_(std::move(view)),
      pinned_(pinned),
      bytes_ahead_(bytes_ahead > 0 ? bytes_ahead : most_bytes_ahead()) {
  std::size_t largest_step = 1;
  for (const Step& step : plan_) {
    for (const MicroBatch& batch : step) {
      order_.insert(order_.end(), batch.indices.begin(), batch.indices.end());
    }
    largest_step = std::max(largest_step, static_cast<std::size_t>(image_count(step)));
  }
  const bool all_cached =
      std::ranges::all_of(order_, [&](std::int64_t index) { return dataset_.cached(index); });
  const bool idle = all_cached && (!view_.random || view_.augmentations.empty());
  if (idle || workers < 1) return;  // nothing to decode ahead, or no thread for it
  slots_.resize(std::max(largest_step, static_cast<std::size_t>(workers)) * kStepsAhead);
  // Fewer threads work too; without any, next() decodes.
  threads_ = start_threads(workers, [this] { work(); });
}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  slot_free_.notify_all();
}

/// Images of which the first is waited for go on, whatever they take.
bool Loader::has_room() const {
  const bool is_next = started_ == released_;
  return is_next || (started_ < released_ + slots_.size() &&
                     bytes_held_ + dataset_.decoded_bytes(order_[started_]) <= bytes_ahead_);
}

void Loader::work() {
  compute_on_this_thread_alone();
  std::unique_lock lock(mutex_);
  while (true) {
    slot_free_.wait(lock, [&] { return stopping_ || started_ == order_.size() || has_room(); });
    if (stopping_ || started_ == order_.size()) return;
    const std::size_t position = started_++;
    const std::int64_t while_decoded = dataset_.decoded_bytes(order_[position]);
    bytes_held_ += while_decoded;
    lock.unlock();
    std::optional<torch::Tensor> image;
    std::exception_ptr error;
    try {
      image = prepare(order_[position]);
    } catch (...) {
      error = std::current_exception();
    }
    const std::int64_t bytes = image ? static_cast<std::int64_t>(image->storage().nbytes()) : 0;
    lock.lock();
    bytes_held_ += bytes - while_decoded;
    slots_[position % slots_.size()] = {true, std::move(image), error, bytes};
    slot_ready_.notify_one();
    slot_free_.notify_one();
  }
}

std::optional<torch::Tensor> Loader::take(std::size_t position) {
  if (threads_.empty()) return prepare(order_[position]);
  std::unique_lock lock(mutex_);
  Slot& slot = slots_[position % slots_.size()];
  slot_ready_.wait(lock, [&] { return slot.ready; });
  const Slot taken = std::exchange(slot, {});
  released_ = position + 1;
  bytes_held_ -= taken.bytes;
  slot_free_.notify_all();
  lock.unlock();
  if (taken.error) std::rethrow_exception(taken.error);
  return taken.image;
}

std::optional<torch::Tensor> Loader::prepare(std::int64_t index) {
  const Draw draw{view_.seed, view_.epoch, index};
  const auto place = [&](Size free) {
    if (!view_.random) return Size{free.h / 2, free.w / 2};
    CounterRandom random(draw.seed, draw.epoch, index, Purpose::crop);
    const std::int64_t top = random.below(free.h + 1);
    return Size{top, static_cast<std::int64_t>(random.below(free.w + 1))};
  };
  const auto image =
      dataset_.options().crop ? dataset_.load_crop(index, place) : dataset_.load(index);
  if (!image) return image;
  if (!view_.random || view_.augmentations.empty()) return image;
  return augment(*image, view_.augmentations, draw);
}

std::optional<Step> Loader::next() {
  if (next_step_ == plan_.size()) return std::nullopt;
  Step loaded;
  for (const MicroBatch& planned : plan_[next_step_++]) {
    MicroBatch batch{.indices = {}, .images = {}, .group = planned.group};
    std::vector<torch::Tensor> images;
    for (const std::int64_t index : planned.indices) {
      if (auto image = take(taken_++)) {
        images.push_back(std::move(*image));
        batch.indices.push_back(index);
      }
    }
    if (images.empty()) continue;
    batch.images = stack(images, pinned_);
    loaded.push_back(std::move(batch));
  }
  return loaded;
}

std::vector<Step> plan_batches(const ImageDataset& dataset, const BatchOptions& options) {
  std::vector<Step> plan =
      plan_in_order(dataset, options.batch_size, options.max_pixels, options.network_size);
  if (options.leaves_out) {
    for (Step& step : plan) std::erase_if(step[0].indices, options.leaves_out);
    std::erase_if(plan, [](const Step& step) { return step[0].indices.empty(); });
  }
  return plan;
}

void for_each_planned(ImageDataset& dataset, std::vector<Step> plan, const BatchOptions& options,
                      const Callbacks& callbacks, const std::function<void(const Step&)>& use) {
  Loader loader(dataset, std::move(plan), View{}, options.workers);
  std::int64_t done = 0;
  while (const auto step = loader.next()) {
    callbacks.stop_if_asked(done, dataset.size());
    use(*step);
    done += image_count(*step);
    callbacks.show(options.stage, std::min(done * options.processes, dataset.size()),
                   dataset.size());
  }
  // Images that could not be used are done with, too.
  if (done * options.processes < dataset.size()) {
    callbacks.show(options.stage, dataset.size(), dataset.size());
  }
}

void for_each_batch(ImageDataset& dataset, const BatchOptions& options, const Callbacks& callbacks,
                    const std::function<void(const MicroBatch&)>& use) {
  for_each_planned(dataset, plan_batches(dataset, options), options, callbacks,
                   [&](const Step& step) { std::ranges::for_each(step, use); });
}

}  // namespace convae
