/// What several test files need: a temporary folder, small images in it, and messages of errors.
#pragma once

#include "convae/core/files.h"
#include "convae/data/dataset.h"
#include "convae/data/folder.h"
#include "convae/data/image_io.h"
#include "convae/models/options.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace convae::test {

/// The tests' tensors are small, and threads that wait for each other on cores that other programs
/// use make them a hundred times slower. Numbers are compared within one number of threads anyway.
class OneComputeThread : public testing::Environment {
  void SetUp() override { torch::set_num_threads(1); }
};
inline testing::Environment* const kOneComputeThread =
    testing::AddGlobalTestEnvironment(new OneComputeThread);

/// A folder of its own that goes away with the test.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "convae-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = std::filesystem::canonical(pattern);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
  std::filesystem::path path_;
};

/// Random numbers that no other test's draws can move.
inline at::Generator generator(std::uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

inline torch::Tensor uniform(at::IntArrayRef sizes, std::uint64_t seed) {
  return torch::rand(sizes, generator(seed));
}

inline torch::Tensor gaussian(at::IntArrayRef sizes, std::uint64_t seed) {
  return torch::randn(sizes, generator(seed));
}

/// In the layout of the network's maps and kernels, with a gradient.
inline torch::Tensor channels_last_input(at::IntArrayRef sizes, std::uint64_t seed) {
  return gaussian(sizes, seed).contiguous(torch::MemoryFormat::ChannelsLast).requires_grad_();
}

/// (C, H, W) uint8 noise.
inline torch::Tensor noise(std::int64_t channels, std::int64_t height, std::int64_t width,
                           std::uint64_t seed) {
  return torch::randint(256, {channels, height, width}, generator(seed)).to(torch::kUInt8);
}

/// The same of uint16.
inline torch::Tensor deep_noise(std::int64_t channels, std::int64_t height, std::int64_t width,
                                std::uint64_t seed) {
  return torch::randint(65536, {channels, height, width}, generator(seed)).to(torch::kUInt16);
}

/// A file of tests/data/fixtures.
inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(CONVAE_SOURCE_DIR) / "tests/data/fixtures" / name;
}

/// (C, H, W) uint8: a soft wave, something that a small network can learn.
inline torch::Tensor wave(std::int64_t channels, std::int64_t height, std::int64_t width,
                          std::int64_t phase) {
  const torch::Tensor y = torch::arange(height).view({1, height, 1});
  const torch::Tensor x = torch::arange(width).view({1, 1, width});
  const torch::Tensor c = torch::arange(channels).view({channels, 1, 1});
  const torch::Tensor angle = y * 0.3 + x * 0.2 + c * 0.9 + 1.7 * static_cast<double>(phase);
  return (127.5 + 100 * torch::sin(angle)).round().to(torch::kUInt8);
}

inline ModelOptions small_network(const std::string& levels = "4,6,8", std::int64_t channels = 3) {
  ModelOptions options;
  options.channels = channels;
  options.levels = parse_levels(levels);
  return options;
}

/// Encodes `image` (C, H, W) and writes it, making the folders on the way.
inline void write_image(const std::filesystem::path& path, const torch::Tensor& image,
                        ImageFormat format = ImageFormat::png) {
  std::filesystem::create_directories(path.parent_path());
  write_file(path, encode_image(image, format));
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<ImageEntry> entries_of(const std::filesystem::path& folder) {
  const auto found = scan_headers(list_images(folder), kDefaultMaxPixels, /*workers=*/0);
  return {found.entries.begin(), found.entries.end()};
}

/// The message of the Error that `action` throws; fails the test if it throws none.
template <typename Error, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// LibTorch has no arithmetic on uint16.
inline torch::Tensor as_int(const torch::Tensor& image) { return image.to(torch::kInt); }

/// Largest absolute difference; NaN where shapes differ.
inline double difference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::quiet_NaN();
  if (a.numel() == 0) return 0;
  return (a.to(torch::kDouble) - b.to(torch::kDouble)).abs().max().item<double>();
}

/// Same shape, same bits.
inline bool identical(const torch::Tensor& a, const torch::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && torch::equal(a, b);
}

}  // namespace convae::test
