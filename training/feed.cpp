#include "convae/training/feed.h"

#include "convae/models/pixels.h"

#include <ATen/Parallel.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace convae {

std::optional<c10::Stream> copy_stream(torch::Device device) {
  if (!device.is_cuda()) return std::nullopt;
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

Feed::Feed(Loader& loader, const CorruptionRule& rule, std::optional<c10::Stream> copies,
           bool ahead, bool labelled)
    : loader_(loader), rule_(rule), copies_(copies), labelled_(labelled) {
  if (!ahead) return;
  thread_ = std::jthread([this, threads = at::get_num_threads()](const std::stop_token& stop) {
    at::set_num_threads(threads);  // OpenMP counts them by thread
    work(stop);
  });
}

std::optional<Step> Feed::next() {
  if (!thread_.joinable()) return gather();
  Staged staged;
  {
    std::unique_lock lock(mutex_);
    if (finished_) return std::nullopt;
    changed_.wait(lock, [&] { return coming_.has_value(); });
    staged = std::move(*coming_);
    coming_.reset();
    finished_ = !staged.step;
  }
  changed_.notify_all();
  if (staged.error) std::rethrow_exception(staged.error);
  if (staged.step && copies_) {
    const c10::Stream computing =
        c10::impl::VirtualGuardImpl(copies_->device_type()).getStream(copies_->device());
    staged.copied->block(computing);
    for (const MicroBatch& batch : *staged.step) {
      // Their memory is given back to the copies' stream, but not before this one has read them.
      batch.images.record_stream(computing);
      if (batch.corrupted.defined()) batch.corrupted.record_stream(computing);
      if (batch.labels.defined()) batch.labels.record_stream(computing);
    }
  }
  return std::move(staged.step);
}

std::optional<Step> Feed::gather() {
  std::optional<Step> step = loader_.next();
  if (!step || rule_.corruptions.empty()) return step;
  for (MicroBatch& batch : *step) {
    batch.corrupted = corrupt(to_float(batch.images, c10::kCPU), rule_, batch.indices,
                              labelled_ ? &batch.labels : nullptr);
  }
  return step;
}

Feed::Staged Feed::stage() {
  Staged staged{.step = gather(), .copied = {}, .error = {}};
  if (!staged.step || !copies_) return staged;
  const c10::StreamGuard on(*copies_);
  const auto copy = [&](torch::Tensor& images) {
    if (images.defined()) {
      images = images.pin_memory().to(copies_->device(), /*non_blocking=*/true);
    }
  };
  for (MicroBatch& batch : *staged.step) {
    copy(batch.images);
    copy(batch.corrupted);
    copy(batch.labels);
  }
  staged.copied.emplace(copies_->device_type());
  staged.copied->record(*copies_);
  return staged;
}

void Feed::work(const std::stop_token& stop) {
  for (bool more = true; more;) {
    Staged staged;
    try {
      staged = stage();
    } catch (...) {
      staged.error = std::current_exception();
    }
    more = staged.step.has_value();
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [&] { return !coming_; })) return;
    coming_ = std::move(staged);
    lock.unlock();
    changed_.notify_all();
  }
}

}  // namespace convae
