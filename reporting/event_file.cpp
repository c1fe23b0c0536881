#include "convae/reporting/event_file.h"

#include "convae/core/files.h"
#include "events.pb.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace convae {
namespace fs = std::filesystem;
namespace {

/// CRC-32C (Castagnoli, reversed polynomial 0x82f63b78), which the format demands: zlib's CRC-32
/// has another polynomial. Bit by bit: a table would be faster, but an epoch writes only one
/// picture.
std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

template <typename Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(value); ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
  return bytes;
}

/// Checksums of data that holds checksums are weak: the format rotates and shifts them.
std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

/// A TFRecord: length (8 bytes, little-endian), its checksum, the data, its checksum.
std::string record(const events::Event& event) {
  const std::string data = event.SerializeAsString();
  const std::string length = little_endian(std::uint64_t{data.size()});
  return length + little_endian(masked_crc(length)) + data + little_endian(masked_crc(data));
}

events::Event new_event(std::int64_t step) {
  using Seconds = std::chrono::duration<double>;
  events::Event event;
  event.set_wall_time(Seconds(std::chrono::system_clock::now().time_since_epoch()).count());
  event.set_step(step);
  return event;
}

}  // namespace

EventFile::EventFile(const fs::path& folder, std::int64_t first_step) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  for (int number = 0; descriptor_.get() < 0; ++number) {
    // TensorBoard reads a folder's files in the order of their names: the time, then a number.
    path_ = folder / ("events.out.tfevents." + std::to_string(seconds.count()) + ".convae." +
                      std::to_string(number));
    descriptor_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (descriptor_.get() < 0 && errno != EEXIST) {
      throw std::runtime_error("cannot create " + in_quotes(path_) + ": " + system_reason());
    }
  }
  events::Event version = new_event(0);
  version.set_file_version("brain.Event:2");
  std::string records = record(version);
  if (first_step > 0) {
    events::Event start = new_event(first_step);
    start.mutable_session_log()->set_status(events::SessionLog::START);
    records += record(start);
  }
  try {
    append(records);
  } catch (const std::runtime_error&) {
    std::error_code ignored;
    fs::remove(path_, ignored);
    throw;
  }
}

void EventFile::add_scalars(std::int64_t step, const std::map<std::string, double>& values) {
  events::Event event = new_event(step);
  for (const auto& [tag, number] : values) {
    if (std::isnan(number)) continue;
    events::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(tag);
    value.set_simple_value(static_cast<float>(number));
  }
  append(record(event));
}

void EventFile::add_image(std::int64_t step, const std::string& tag,
                          std::span<const std::uint8_t> png, std::int64_t width,
                          std::int64_t height) {
  constexpr int kRgb = 3;
  events::Event event = new_event(step);
  events::Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(tag);
  events::Summary::Image& image = *value.mutable_image();
  image.set_width(static_cast<std::int32_t>(width));
  image.set_height(static_cast<std::int32_t>(height));
  image.set_colorspace(kRgb);
  image.set_encoded_image_string(png.data(), png.size());
  append(record(event));
}

void EventFile::append(const std::string& records) {
  const int file = descriptor_.get();
  std::size_t done = 0;
  while (done < records.size()) {
    const auto written =
        TEMP_FAILURE_RETRY(::write(file, records.data() + done, records.size() - done));
    if (written <= 0) {
      const std::string reason = system_reason();
      // Half a record would make readers miss all that follow it.
      const bool restored =
          ::ftruncate(file, size_) == 0 && ::lseek(file, size_, SEEK_SET) == size_;
      throw std::runtime_error("cannot write " + in_quotes(path_) + ": " + reason +
                               (restored ? "" : ", and it ends in half a record"));
    }
    done += static_cast<std::size_t>(written);
  }
  size_ += static_cast<std::int64_t>(records.size());
}

}  // namespace convae
