#pragma once

#include "convae/core/tensor.h"

#include <concepts>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

/// Values as bytes, for ranks that tell each other what they found: numbers, tensors, strings,
/// vectors, pairs, optionals, and structs of such with
///
///     template <typename Self> static auto parts(Self& self) { return std::tie(self.a, self.b); }
///
/// It is no format for files: both sides are the same program on the same kind of machine.
namespace convae {

template <typename T>
concept HasParts = requires(T& value) {
  T::parts(value);
};
template <typename T>
concept IsTuple = requires {
  std::tuple_size<T>::value;
};
template <typename T>
concept IsOptional = std::same_as<T, std::optional<typename T::value_type>>;

void pack_tensor(std::string& bytes, const torch::Tensor& tensor);
torch::Tensor unpack_tensor(std::string_view& bytes);

/// The first bytes, which go. Throws std::runtime_error where there are fewer.
inline std::string_view take_bytes(std::string_view& bytes, std::size_t count) {
  if (count > bytes.size()) throw std::runtime_error("another rank sent too few bytes");
  const std::string_view taken = bytes.substr(0, count);
  bytes.remove_prefix(count);
  return taken;
}

template <typename T>
void pack(std::string& bytes, const T& value) {
  const auto each = [&](const auto&... part) { (pack(bytes, part), ...); };
  if constexpr (std::is_trivially_copyable_v<T>) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  } else if constexpr (std::is_same_v<T, torch::Tensor>) {
    pack_tensor(bytes, value);
  } else if constexpr (HasParts<T>) {
    std::apply(each, T::parts(value));
  } else if constexpr (IsTuple<T>) {
    std::apply(each, value);
  } else if constexpr (IsOptional<T>) {
    pack(bytes, value.has_value());
    if (value) pack(bytes, *value);
  } else {
    pack(bytes, value.size());
    for (const auto& item : value) pack(bytes, item);
  }
}

/// Takes the value's bytes off the front.
template <typename T>
void unpack(std::string_view& bytes, T& value) {
  const auto each = [&](auto&... part) { (unpack(bytes, part), ...); };
  if constexpr (std::is_trivially_copyable_v<T>) {
    std::memcpy(&value, take_bytes(bytes, sizeof value).data(), sizeof value);
  } else if constexpr (std::is_same_v<T, torch::Tensor>) {
    value = unpack_tensor(bytes);
  } else if constexpr (HasParts<T>) {
    std::apply(each, T::parts(value));
  } else if constexpr (IsTuple<T>) {
    std::apply(each, value);
  } else if constexpr (IsOptional<T>) {
    bool is_there = false;
    unpack(bytes, is_there);
    value.reset();
    if (is_there) unpack(bytes, value.emplace());
  } else {
    std::size_t size = 0;
    unpack(bytes, size);
    value.resize(size);
    for (auto& item : value) unpack(bytes, item);
  }
}

}  // namespace convae
