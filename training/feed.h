#pragma once

#include "convae/data/loader.h"
#include "convae/training/corruption.h"

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

namespace convae {

/// A stream of a GPU for copies beside its computing; none for a CPU.
std::optional<c10::Stream> copy_stream(torch::Device device);

/// A loader's steps, ready to train on. For a GPU, the next step is gathered, corrupted and copied
/// there while it computes this one: from page-locked memory, on a stream of its own, without a
/// wait on the thread that trains.
///
/// Internal. Uses `loader` and `rule` as long as it lives.
class Feed {
public:
  /// `copies`: copy_stream(device). `ahead`: prepare the next step on a thread of its own.
  /// `labelled`: with labels of what was corrupted.
  Feed(Loader& loader, const CorruptionRule& rule, std::optional<c10::Stream> copies, bool ahead,
       bool labelled = false);

  /// The next step, without images that could not be read; nullopt after the last. Throws what the
  /// loader throws.
  std::optional<Step> next();

private:
  struct Staged {
    std::optional<Step> step;
    std::optional<c10::Event> copied;  ///< after the copies to a GPU
    std::exception_ptr error;
  };
  std::optional<Step> gather();
  Staged stage();
  void work(const std::stop_token& stop);

  Loader& loader_;
  const CorruptionRule& rule_;
  std::optional<c10::Stream> copies_;
  bool labelled_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Staged> coming_;
  bool finished_ = false;  // the thread, with its last step, the end or an error taken
  std::jthread thread_;
};

}  // namespace convae
