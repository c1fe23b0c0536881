#pragma once

#include "convae/core/tensor.h"
#include "convae/models/options.h"

namespace convae {

/// uint8, uint16 or float images → float32 on `device`, the first two divided by 255 or 65535;
/// channels-last. Throws std::invalid_argument for images of other types.
torch::Tensor to_float(const torch::Tensor& images, torch::Device device);

/// (…, H, W) completed to whole blocks: the last row and column are repeated.
torch::Tensor with_whole_blocks(const torch::Tensor& images, Size block);

/// Images in [0,1] → the range the model works on, [-1,1] for tanh.
torch::Tensor to_model_range(const torch::Tensor& images, Output output);
/// A model's output → [0,1], clamped.
torch::Tensor to_unit_range(const torch::Tensor& images, Output output);

}  // namespace convae
