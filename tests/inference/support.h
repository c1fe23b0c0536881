/// What tests of jobs share: small models, pictures of odd and even sizes, and callbacks that stop.
#pragma once

#include "convae/core/callbacks.h"
#include "convae/inference/model.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace convae::test {

inline ModelOptions small_options() { return small_network("4,6"); }

/// Not trained, but always the same.
inline Model small_model(const ModelOptions& options = small_options()) {
  torch::manual_seed(5);
  return Model(Autoencoder(options));
}

/// Relative names of all files, sorted.
inline std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// (C, H, W) uint8 or uint16, as the file has it.
inline torch::Tensor image_in(const std::filesystem::path& path) {
  return decode_image(read_file(path), /*channels=*/3);
}

/// Asks to stop once it has been asked `times` times before.
inline Callbacks stopping_after(int times) {
  Callbacks callbacks;
  callbacks.should_stop = [left = std::make_shared<int>(times)] { return (*left)-- <= 0; };
  return callbacks;
}

/// Every job on one folder with images of odd and even sizes.
class JobTest : public testing::Test {
protected:
  void SetUp() override {
    std::int64_t phase = 0;
    for (const auto& [name, size] : kImages) {
      write_image(input() / name, wave(3, size.h, size.w, phase++));
    }
  }

  std::filesystem::path input() const { return folder_ / "in"; }
  std::filesystem::path output() const { return folder_ / "out"; }
  DataOptions data() const {
    DataOptions options;
    options.data = input().string();
    options.workers = 0;
    return options;
  }

  inline static const std::vector<std::pair<std::string, Size>> kImages{
      {"a.png", {16, 16}}, {"b.png", {13, 18}}, {"c/d.png", {17, 21}}, {"e.png", {13, 18}}};
  TemporaryFolder folder_;
  Model model_ = small_model();
};

}  // namespace convae::test
