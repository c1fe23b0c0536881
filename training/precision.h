#pragma once

#include "convae/core/api.h"
#include "convae/core/callbacks.h"
#include "convae/models/options.h"
#include "convae/training/options.h"

#include <ATen/autocast_mode.h>
#include <c10/core/Device.h>

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

/// Whether the device multiplies bfloat16 faster than float: a GPU from Ampere on; a processor with
/// AVX512_BF16, AMX or ARM's BF16.
bool has_fast_bf16(c10::Device device);

/// Whether that pays for the network's layers. On a processor: each has a stride of at most 2 and
/// no dilation, as other convolutions in bfloat16 are slow in LibTorch 2.13 (pytorch issue 183815)
/// or wrong (169688), and one has at least 32 channels.
bool gains_from_bf16(const ModelOptions& model, c10::Device device);

/// Resolves `automatic`: bf16 where the two above say so, else fp32; returns others as they are.
/// Depends on nothing else, so that equal runs are equal. Throws OptionError for a precision that
/// the device does not have; one that it has, but slowly, is a warning.
Precision choose_precision(Precision asked, const ModelOptions& model, c10::Device device,
                           const Callbacks& callbacks);

/// Before computing on `device` in such a precision. `one_size`: all images have one size, so that
/// it pays to time algorithms for it.
void prepare_device(c10::Device device, Precision precision, bool deterministic, bool one_size);

}  // namespace convae
