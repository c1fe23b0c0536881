#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace convae {

/// A safetensors file that is damaged, hostile or not one at all. what() names the file, what is
/// wrong and, where there is one, the way out.
class SafetensorsError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// The contents of a safetensors file (format: https://github.com/huggingface/safetensors).
struct Safetensors {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;  ///< `__metadata__`: strings only
};

/// The metadata key whose value, a JSON object, carries the digest, and the digest's key in that
/// object. A file whose metadata has kMetadataKey is checked against the digest, and refused if
/// there is none: otherwise damage to the digest's name would switch the check off. Plain
/// safetensors files have no kMetadataKey and are taken as they are.
inline constexpr const char* kMetadataKey = "convae";
inline constexpr const char* kDigestKey = "xxh3";
/// What the digest's digits are while the digest is computed, and what callers of
/// write_safetensors put there.
inline constexpr const char* kDigestPlaceholder = "0000000000000000";

/// Parses a complete file held in memory. The header is checked in full (length, JSON depth,
/// duplicate names, dtypes, shapes, offsets that cover the data exactly once) before any tensor
/// is made. Memory follows the size of `bytes`, never a number written in them. `name` is used in
/// messages. Tensors own their memory. Throws SafetensorsError.
Safetensors parse_safetensors(std::span<const std::uint8_t> bytes, const std::string& name);

/// Reads and parses a file. Throws SafetensorsError; std::runtime_error if it cannot be read.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Writes atomically (AtomicFile). Tensors may be on any device and of any strides; they are
/// stored contiguous, in the format's order (widest dtype first, then by name). If the metadata
/// have kMetadataKey, its value must be a JSON object with `"xxh3":"0000000000000000"`; the
/// XXH3-64 digest of the whole file, taken with those digits zero, replaces them (16 lower-case
/// hex digits). Throws SafetensorsError for what the format cannot hold, std::runtime_error if
/// the file cannot be written.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, torch::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace convae
