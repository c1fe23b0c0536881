#pragma once

#include "convae/data/image_io.h"

#include <torch/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

namespace convae {

/// Encodes images and writes their files on threads of its own, so that whoever makes the images
/// need not wait for either: the Loader's counterpart.
class ImageWriter {
public:
  /// Images at hand, those being written included, take at most `max_bytes`; one that is larger is
  /// written alone. `workers` 0 writes in write().
  explicit ImageWriter(std::int64_t workers, std::int64_t max_bytes = std::int64_t{256} << 20);
  /// Writes what is still at hand; its errors are lost, unlike finish()'s.
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  /// Takes over (C, H, W), uint8 or uint16, for the file `path`: see encode_image() and
  /// write_file(). Waits while there is too much at hand. Once a file could not be written, images
  /// at hand are dropped, and this throws why.
  void write(std::filesystem::path path, const torch::Tensor& image, ImageFormat format);

  /// Waits until all files are there. Throws why one could not be written.
  void finish();

private:
  struct Job {
    std::filesystem::path path;
    torch::Tensor image;
    ImageFormat format;
    std::int64_t bytes() const { return static_cast<std::int64_t>(image.nbytes()); }
  };
  void work();
  /// Writes the first image that waits, or else waits for one that is being written: beside other
  /// busy programs, threads that give way to them must not be waited for alone.
  void help(std::unique_lock<std::mutex>& lock);
  void write_first(std::unique_lock<std::mutex>& lock);
  void rethrow() const;

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
