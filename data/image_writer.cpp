#include "convae/data/image_writer.h"

#include "convae/core/files.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace convae {
namespace {

/// Small images at hand, whatever their bytes: enough for what a batch leaves to be written during
/// the next one, few enough for Ctrl-C to be answered soon where every file waits for a disk.
constexpr std::int64_t kMaxJobs = 128;

/// More would wait for the disk. Each has a temporary file to be taken away at a second Ctrl-C,
/// for which AtomicFile has places.
constexpr std::int64_t kMaxThreads = 16;

/// Threads that encode take cores from compute threads, and those all wait for the one that lost
/// its core; so writers step back by this much, on Linux each thread by itself. On two cores
/// reconstruct with grids takes 3.6 s instead of 3.9. At 19, with two other programs running, it
/// took 10 s instead of 7.
constexpr int kGiveWay = 10;

/// (C, H, W) of any strides → stored in the order in which codecs read. Here, on the compute
/// threads: a worker that copied would start compute threads of its own.
torch::Tensor in_rows(const torch::Tensor& image) {
  return image.permute({1, 2, 0}).contiguous().permute({2, 0, 1});
}

}  // namespace

ImageWriter::ImageWriter(std::int64_t workers, std::int64_t max_bytes) : max_bytes_(max_bytes) {
  try {
    while (std::ssize(threads_) < std::min(workers, kMaxThreads)) {
      threads_.emplace_back([this] { work(); });
    }
  } catch (const std::system_error&) {
    // Fewer do too, and without any the images are written in write().
  }
}

ImageWriter::~ImageWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  job_waits_.notify_all();
}

void ImageWriter::write(std::filesystem::path path, const torch::Tensor& image,
                        ImageFormat format) {
  if (threads_.empty()) return write_file(path, encode_image(image, format));
  Job job{std::move(path), in_rows(image), format};
  const std::int64_t bytes = job.bytes();
  std::unique_lock lock(mutex_);
  while (!error_ && jobs_ > 0 && (jobs_ >= kMaxJobs || bytes_ + bytes > max_bytes_)) help(lock);
  rethrow();
  ++jobs_;
  bytes_ += bytes;
  waiting_.push_back(std::move(job));
  lock.unlock();
  job_waits_.notify_one();
}

void ImageWriter::finish() {
  std::unique_lock lock(mutex_);
  while (!error_ && jobs_ > 0) help(lock);
  rethrow();
}

void ImageWriter::rethrow() const {
  if (error_) std::rethrow_exception(error_);
}

void ImageWriter::work() {
  (void)::nice(kGiveWay);
  std::unique_lock lock(mutex_);
  while (true) {
    job_waits_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    write_first(lock);
  }
}

void ImageWriter::help(std::unique_lock<std::mutex>& lock) {
  if (waiting_.empty()) {
    job_done_.wait(lock);
  } else {
    write_first(lock);
  }
}

void ImageWriter::write_first(std::unique_lock<std::mutex>& lock) {
  Job job = std::move(waiting_.front());
  waiting_.pop_front();
  lock.unlock();
  const std::int64_t bytes = job.bytes();
  std::exception_ptr error;
  try {
    write_file(job.path, encode_image(job.image, job.format));
  } catch (...) {
    error = std::current_exception();
  }
  job = {};  // its memory is free before another image is let in
  lock.lock();
  --jobs_;
  bytes_ -= bytes;
  if (error && !error_) {
    error_ = error;
    waiting_.clear();
  }
  job_done_.notify_one();
}

}  // namespace convae
