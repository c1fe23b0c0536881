#pragma once

#include "convae/core/descriptor.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

namespace convae {

/// A new file of events for TensorBoard: events.out.tfevents.…. Unlike convae's other files it
/// grows during the run: each append is one write, and a failed one leaves the file as it was.
/// Throws std::runtime_error with the file's name.
class EventFile {
public:
  /// `first_step`: the step a resumed run begins with; TensorBoard drops what earlier files in the
  /// folder say about it and later steps. 0: a new run.
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);

  /// Values by their tags, such as "loss/train"; leaves out NaN.
  void add_scalars(std::int64_t step, const std::map<std::string, double>& values);

  /// A PNG file of `width` × `height` pixels.
  void add_image(std::int64_t step, const std::string& tag, std::span<const std::uint8_t> png,
                 std::int64_t width, std::int64_t height);

private:
  void append(const std::string& records);

  std::filesystem::path path_;
  Descriptor descriptor_;
  std::int64_t size_ = 0;
};

}  // namespace convae
