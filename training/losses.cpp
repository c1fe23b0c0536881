#include "training/losses.h"

namespace convae {

torch::Tensor image_losses(const torch::Tensor& reconstruction, const torch::Tensor& target,
                           LossKind kind) {
  const torch::Tensor difference = reconstruction - target;
  return (kind == LossKind::mse ? difference.square() : difference.abs()).mean({1, 2, 3});
}

}  // namespace convae
