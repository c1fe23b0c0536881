#include "convae/models/linear_code.h"

#include "convae/models/pixels.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace convae {

LinearCodeImpl::LinearCodeImpl(const ModelOptions& options) : is_dense_(options.latent > 0) {
  const auto [h, w] = options.linear_block();
  const Size mean = is_dense_ ? options.size : Size{1, 1};
  mean_ = register_buffer("mean", torch::zeros({options.channels, mean.h, mean.w}));
  components_ = register_buffer(
      "components", torch::zeros({options.bottleneck_numbers(), options.channels, h, w}));
}

// Both ways in float: rounded to bfloat16, the first coordinates alone would be off by more than
// the last ones are long. As products: convolutions with such large kernels are slower.

torch::Tensor LinearCodeImpl::encode(const torch::Tensor& images) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const torch::Tensor rows =
      rows_of_blocks(images.to(torch::kFloat) - mean_, {components_.size(2), components_.size(3)});
  const torch::Tensor code = rows.matmul(components_.flatten(1).t()).permute({0, 3, 1, 2});
  return is_dense_ ? code.flatten(1) : code;
}

torch::Tensor LinearCodeImpl::decode(const torch::Tensor& latents, Size size) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  torch::Tensor code = latents.to(torch::kFloat);
  if (is_dense_) code = code.unsqueeze(2).unsqueeze(3);
  const torch::Tensor blocks = code.permute({0, 2, 3, 1})
                                   .matmul(components_.flatten(1))
                                   .unflatten(3, components_.sizes().slice(1));
  return (blocks.permute({0, 1, 4, 2, 5, 3})
              .flatten(3, 4)
              .flatten(1, 2)
              .permute({0, 3, 1, 2})
              .slice(2, 0, size.h)
              .slice(3, 0, size.w) +
          mean_)
      .contiguous(torch::MemoryFormat::ChannelsLast);
}

void LinearCodeImpl::set(const torch::Tensor& mean, const torch::Tensor& components) {
  const torch::NoGradGuard no_grad;
  mean_.copy_(mean);
  components_.zero_();
  components_.narrow(0, 0, components.size(0)).copy_(components);
}

torch::Tensor rows_of_blocks(const torch::Tensor& images, Size block) {
  return with_whole_blocks(images, block)
      .unflatten(3, {-1, block.w})
      .unflatten(2, {-1, block.h})
      .permute({0, 2, 4, 1, 3, 5})
      .flatten(3);
}

}  // namespace convae
