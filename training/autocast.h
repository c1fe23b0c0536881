#pragma once

#include "convae/core/device.h"
#include "convae/core/errors.h"
#include "convae/training/options.h"

#include <ATen/autocast_mode.h>

namespace convae {

/// While it lives, convolutions and linear layers on that device compute in `precision`, through
/// LibTorch's autocast: weights stay float and are cast once.
class Autocast {
public:
  Autocast(c10::Device device, Precision precision) : type_(device.type()) {
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::set_autocast_enabled(type_, precision == Precision::bf16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    // Weights change between passes, so their bfloat16 copies must not be reused.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, was_enabled_);
    at::autocast::set_autocast_dtype(type_, previous_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

private:
  c10::DeviceType type_;
  bool was_enabled_ = at::autocast::is_autocast_enabled(type_);
  c10::ScalarType previous_ = at::autocast::get_autocast_dtype(type_);
};

/// Before training on `device`. `one_size`: all images have one size, so that it pays to time
/// algorithms for it. Throws OptionError for a precision that the device does not have.
inline void prepare_device(torch::Device device, const TrainOptions& train, bool one_size) {
  const bool tf32 = train.precision == Precision::tf32;
  require_option(!tf32 || device.is_cuda(),
                 "--precision 'tf32': only GPUs have it; use fp32 or bf16 on a CPU");
  if (device.is_cuda()) configure_gpu({tf32, train.deterministic, /*measure=*/one_size});
}

}  // namespace convae
