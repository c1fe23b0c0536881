#include "convae/models/pixels.h"

#include "convae/models/kernels/flat_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/replication_pad2d.h>

#include <stdexcept>
#include <string>

namespace convae {
namespace {

/// Bytes on a CPU, in one pass over all threads.
torch::Tensor bytes_to_float(const torch::Tensor& images) {
  const torch::Tensor bytes = images.contiguous(at::MemoryFormat::ChannelsLast);
  torch::Tensor floats = at::empty_like(bytes, at::kFloat);
  const Pieces pieces({bytes}, bytes.size(1));
  pieces.for_each([&](const Pieces::Piece& piece) {
    kernels_of_this_processor().unit_floats(values<std::uint8_t>(bytes) + piece.begin, piece.count,
                                            values<float>(floats) + piece.begin);
  });
  return floats;
}

}  // namespace

torch::Tensor to_float(const torch::Tensor& images, torch::Device device) {
  const at::ScalarType type = images.scalar_type();
  if (!images.is_floating_point() && type != at::kByte && type != at::kUInt16) {
    throw std::invalid_argument(std::string("images of type ") + c10::toString(type) +
                                ": expected uint8, uint16 or floats in [0,1]");
  }
  const bool stays = device.is_cpu() && images.is_cpu() && images.numel() > 0;
  if (stays && type == at::kByte) return bytes_to_float(images);
  const torch::Tensor moved = images.to(device, /*non_blocking=*/true);
  const torch::Tensor floats =
      moved.to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::ChannelsLast);
  if (images.is_floating_point()) return floats;
  return floats.div_(type == at::kUInt16 ? 65535.0 : 255.0);
}

torch::Tensor with_whole_blocks(const torch::Tensor& images, Size block) {
  const std::int64_t bottom = (block.h - images.size(-2) % block.h) % block.h;
  const std::int64_t right = (block.w - images.size(-1) % block.w) % block.w;
  return bottom + right > 0 ? at::replication_pad2d(images, {0, right, 0, bottom}) : images;
}

torch::Tensor to_model_range(const torch::Tensor& images, Output output) {
  return output == Output::tanh ? images * 2 - 1 : images;
}

torch::Tensor to_unit_range(const torch::Tensor& images, Output output) {
  switch (output) {
    case Output::sigmoid: return images;
    case Output::tanh: return (images + 1) / 2;
    case Output::linear: return images.clamp(0, 1);
  }
  return images;
}

}  // namespace convae
