#pragma once

#include "convae/core/errors.h"
#include "convae/core/tensor.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace convae {

/// The contents of a safetensors file (format: https://github.com/huggingface/safetensors).
struct Safetensors {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;  ///< `__metadata__`: strings only
};

/// The metadata key whose value, a JSON object, has the digest, and the digest's key in that
/// object. A file with kMetadataKey is checked against the digest and refused without one:
/// otherwise damage to the digest's name would switch the check off. Plain safetensors files have
/// no kMetadataKey and are not checked.
inline constexpr const char* kMetadataKey = "convae";
inline constexpr const char* kDigestKey = "xxh3";
/// The digest's digits while it is computed; callers of write_safetensors write these.
inline constexpr const char* kDigestPlaceholder = "0000000000000000";

/// The metadata without which other loaders refuse a file: whose tensors these are.
inline const std::pair<const std::string, std::string> kPyTorchFormat{"format", "pt"};

/// Parses a complete file in memory. Checks the whole header (length, JSON depth, duplicate names,
/// dtypes, shapes, offsets that cover the data exactly once) before it makes a tensor. Memory
/// depends on the size of `bytes`, never on a number in them. `name` is for messages. Tensors own
/// their memory. Throws SafetensorsError.
Safetensors parse_safetensors(std::span<const std::uint8_t> bytes, const std::string& name);

/// Reads and parses a file. Throws SafetensorsError; std::runtime_error if it cannot be read.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Writes atomically (AtomicFile). Tensors on any device and of any strides are stored contiguous,
/// in the format's order (widest dtype first, then by name). The value of kMetadataKey, if present,
/// must be a JSON object with `"xxh3":"0000000000000000"`; the XXH3-64 digest of the whole file,
/// computed with those digits, replaces them (16 lower-case hex digits). Throws SafetensorsError
/// for what the format cannot hold, std::runtime_error if the file cannot be written.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, torch::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

/// XXH3-64 of names and values, in 16 lower-case hex digits.
std::string digest_of(const std::map<std::string, torch::Tensor>& tensors);

}  // namespace convae
