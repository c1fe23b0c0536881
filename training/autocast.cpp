#include "convae/training/autocast.h"

#include <ATen/autocast_mode.h>

namespace convae {

Autocast::Autocast(c10::Device device, Precision precision)
    : type_(device.type()),
      was_enabled_(at::autocast::is_autocast_enabled(type_)),
      previous_(at::autocast::get_autocast_dtype(type_)) {
  at::autocast::set_autocast_dtype(type_, at::kBFloat16);
  at::autocast::set_autocast_enabled(type_, precision == Precision::bf16);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  // Weights change between passes, so their bfloat16 copies must not be reused.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type_, was_enabled_);
  at::autocast::set_autocast_dtype(type_, previous_);
}

}  // namespace convae
