#include "convae/training/packing.h"

#include <ATen/ops/empty.h>

#include <cstdint>
#include <vector>

namespace convae {

void pack_tensor(std::string& bytes, const torch::Tensor& tensor) {
  pack(bytes, tensor.defined());
  if (!tensor.defined()) return;
  const torch::Tensor plain = tensor.cpu().contiguous();
  pack(bytes, plain.scalar_type());
  pack(bytes, plain.sizes().vec());
  bytes.append(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes());
}

torch::Tensor unpack_tensor(std::string_view& bytes) {
  bool is_defined = false;
  unpack(bytes, is_defined);
  if (!is_defined) return {};
  at::ScalarType type{};
  std::vector<std::int64_t> sizes;
  unpack(bytes, type);
  unpack(bytes, sizes);
  torch::Tensor tensor = at::empty(sizes, type);
  std::memcpy(tensor.mutable_data_ptr(), take_bytes(bytes, tensor.nbytes()).data(),
              tensor.nbytes());
  return tensor;
}

}  // namespace convae
