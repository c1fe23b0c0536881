#include "convae/models/linear_code.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace convae {

LinearCodeImpl::LinearCodeImpl(std::int64_t numbers, std::int64_t channels, Size size)
    : mean_(register_buffer("mean", torch::zeros({channels, size.h, size.w}))),
      components_(
          register_buffer("components", torch::zeros({numbers, channels, size.h, size.w}))) {}

torch::Tensor LinearCodeImpl::encode(const torch::Tensor& images) const {
  // In float: rounded to bfloat16, the first coordinates alone would be off by more than the last
  // ones are long.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return (images.to(torch::kFloat) - mean_).flatten(1).matmul(components_.flatten(1).t());
}

torch::Tensor LinearCodeImpl::decode(const torch::Tensor& latents) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const torch::Tensor images =
      torch::addmm(mean_.flatten(), latents.to(torch::kFloat), components_.flatten(1));
  return images.view({latents.size(0), mean_.size(0), mean_.size(1), mean_.size(2)})
      .contiguous(torch::MemoryFormat::ChannelsLast);
}

void LinearCodeImpl::set(const torch::Tensor& mean, const torch::Tensor& components) {
  const torch::NoGradGuard no_grad;
  mean_.copy_(mean);
  components_.zero_();
  components_.narrow(0, 0, components.size(0)).copy_(components);
}

}  // namespace convae
