#include "convae/data/image_writer.h"

#include "convae/core/files.h"
#include "convae/core/parallel.h"
#include "convae/data/loader.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace convae {
namespace {

/// Images that may wait, whatever their bytes: enough for one batch to be written during the next,
/// few enough for Ctrl-C to work soon on a slow disk.
constexpr std::int64_t kMaxJobs = 128;

/// More would wait for the disk. Each has a temporary file that a second Ctrl-C removes, and
/// AtomicFile has 32 places for those.
constexpr std::int64_t kMaxThreads = 16;

/// nice() of the writers (on Linux, of each thread): encoding takes cores from compute threads,
/// which all wait for the one that lost its core. On two cores reconstruct with grids takes 3.6 s
/// instead of 3.9. At 19, beside two other programs, it took 10 s instead of 7.
constexpr int kGiveWay = 10;

/// (C, H, W) of any strides → stored in the codecs' order. Done on the caller's thread: copying on
/// a worker would start more compute threads.
torch::Tensor in_rows(const torch::Tensor& image) {
  return image.permute({1, 2, 0}).contiguous().permute({2, 0, 1});
}

}  // namespace

ImageWriter::ImageWriter(std::int64_t workers, std::int64_t max_bytes)
    : max_bytes_(max_bytes > 0 ? max_bytes : most_bytes_ahead()) {
  // Fewer threads work too; without any, write() writes the images.
  threads_ = start_threads(std::min(workers, kMaxThreads), [this] { work(); });
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
  write(std::move(path), image,
        [format](const torch::Tensor& pixels) { return encode_image(pixels, format); });
}

void ImageWriter::write(std::filesystem::path path, const torch::Tensor& image, Encode encode) {
  const torch::Tensor rows = in_rows(image);
  write(static_cast<std::int64_t>(rows.nbytes()),
        [path = std::move(path), rows, encode = std::move(encode)] {
          const std::vector<std::uint8_t> bytes = encode(rows);
          if (!bytes.empty()) write_file(path, bytes);
        });
}

void ImageWriter::write(std::int64_t bytes, std::function<void()> write) {
  if (threads_.empty()) return write();
  std::unique_lock lock(mutex_);
  help_while(lock, [&] { return jobs_ > 0 && (jobs_ >= kMaxJobs || bytes_ + bytes > max_bytes_); });
  ++jobs_;
  bytes_ += bytes;
  waiting_.push_back({bytes, std::move(write)});
  lock.unlock();
  job_waits_.notify_one();
}

void ImageWriter::finish() {
  std::unique_lock lock(mutex_);
  help_while(lock, [&] { return jobs_ > 0; });
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

void ImageWriter::help_while(std::unique_lock<std::mutex>& lock,
                             const std::function<bool()>& busy) {
  while (!error_ && busy()) {
    if (waiting_.empty()) {
      job_done_.wait(lock);
    } else {
      write_first(lock);
    }
  }
  if (error_) std::rethrow_exception(error_);
}

void ImageWriter::write_first(std::unique_lock<std::mutex>& lock) {
  Job job = std::move(waiting_.front());
  waiting_.pop_front();
  lock.unlock();
  const std::int64_t bytes = job.bytes;
  std::exception_ptr error;
  try {
    job.write();
  } catch (...) {
    error = std::current_exception();
  }
  job = {};  // frees its memory before another image comes in
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
