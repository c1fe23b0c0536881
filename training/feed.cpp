#include "convae/training/feed.h"

#include "convae/models/pixels.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace convae {

Feed::Feed(Loader& loader, const CorruptionRule& rule, torch::Device device)
    : loader_(loader), rule_(rule), device_(device) {
  if (!device.is_cuda()) return;
  copies_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
  coming_ = std::async(std::launch::async, [this] { return stage(); });
}

std::optional<Step> Feed::next() {
  if (!copies_) return gather();
  std::optional<Staged> staged = coming_.get();
  if (!staged) return std::nullopt;
  coming_ = std::async(std::launch::async, [this] { return stage(); });
  const c10::Stream computing = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
  staged->copied.block(computing);
  for (const MicroBatch& batch : staged->step) {
    // Their memory is given back to the copies' stream, but not before this one has read them.
    batch.images.record_stream(computing);
    if (batch.corrupted.defined()) batch.corrupted.record_stream(computing);
  }
  return std::move(staged->step);
}

std::optional<Step> Feed::gather() {
  std::optional<Step> step = loader_.next();
  if (!step || rule_.corruptions.empty()) return step;
  for (MicroBatch& batch : *step) {
    batch.corrupted = corrupt(to_float(batch.images, c10::kCPU), rule_, batch.indices);
  }
  return step;
}

std::optional<Feed::Staged> Feed::stage() {
  std::optional<Step> step = gather();
  if (!step) return std::nullopt;
  const c10::StreamGuard on(*copies_);
  const auto copy = [&](torch::Tensor& images) {
    if (images.defined()) images = images.pin_memory().to(device_, /*non_blocking=*/true);
  };
  for (MicroBatch& batch : *step) {
    copy(batch.images);
    copy(batch.corrupted);
  }
  c10::Event copied(device_.type());
  copied.record(*copies_);
  return Staged{std::move(*step), std::move(copied)};
}

}  // namespace convae
