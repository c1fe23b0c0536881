#pragma once

#include "convae/core/tensor.h"
#include "convae/data/image_io.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace convae {

/// Encodes images and writes their files, or other ones, on its own threads, while others make the
/// next images: the Loader's counterpart.
class ImageWriter {
public:
  /// Images that wait or are being written take at most `max_bytes` (0: most_bytes_ahead()); a
  /// larger one is written alone. `workers` 0 writes in write().
  explicit ImageWriter(std::int64_t workers, std::int64_t max_bytes = 0);
  /// Writes what still waits, and ignores errors: call finish() before.
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  /// Takes (C, H, W), uint8 or uint16, for the file `path`: see encode_image() and write_file().
  /// Waits while too many images wait. After a file could not be written, drops the waiting images
  /// and throws the reason.
  void write(std::filesystem::path path, const torch::Tensor& image, ImageFormat format);
  /// The same with an encoder of one's own, which is called once, from any thread. Where it returns
  /// no bytes, no file is written.
  using Encode = std::function<std::vector<std::uint8_t>(const torch::Tensor& image)>;
  void write(std::filesystem::path path, const torch::Tensor& image, Encode encode);

  /// The same for any file of about `bytes`, which `write` writes.
  void write(std::int64_t bytes, std::function<void()> write);

  /// Waits until all files are written. Throws the reason if one could not be.
  void finish();

private:
  struct Job {
    std::int64_t bytes = 0;
    std::function<void()> write;
  };
  void work();
  /// Until `busy` ends, writes the first waiting image, or else waits for one that is being
  /// written: the threads have low priority, and beside other busy programs waiting for them alone
  /// takes too long. Throws the reason where a file could not be written.
  void help_while(std::unique_lock<std::mutex>& lock, const std::function<bool()>& busy);
  void write_first(std::unique_lock<std::mutex>& lock);

  std::int64_t max_bytes_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable job_waits_, job_done_;
  std::deque<Job> waiting_;
  std::int64_t jobs_ = 0;     // that are waiting or being written
  std::int64_t bytes_ = 0;    // of their pixels
  std::exception_ptr error_;  // the first
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace convae
