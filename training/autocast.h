#pragma once

#include "convae/training/options.h"

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace convae {

/// While it lives, convolutions and linear layers on that device compute in `precision`, through
/// LibTorch's autocast: weights stay float and are cast once.
class Autocast {
public:
  Autocast(c10::Device device, Precision precision);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

private:
  c10::DeviceType type_;
  bool was_enabled_;
  c10::ScalarType previous_;  // what it cast to before
};

}  // namespace convae
