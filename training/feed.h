#pragma once

#include "convae/data/loader.h"
#include "convae/training/corruption.h"

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <future>
#include <optional>

namespace convae {

/// A loader's steps, ready to train on. For a GPU, the next step is gathered, corrupted and copied
/// there while it computes this one: in page-locked memory, on a stream of its own, without a wait
/// on the thread that trains.
///
/// Internal. Uses `loader` and `rule` as long as it lives.
class Feed {
public:
  Feed(Loader& loader, const CorruptionRule& rule, torch::Device device);
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  /// The next step, without images that could not be read; nullopt after the last. Throws what the
  /// loader throws.
  std::optional<Step> next();

private:
  struct Staged {
    Step step;
    c10::Event copied;  ///< after the copies
  };
  std::optional<Step> gather();
  std::optional<Staged> stage();

  Loader& loader_;
  const CorruptionRule& rule_;
  torch::Device device_;
  std::optional<c10::Stream> copies_;
  std::future<std::optional<Staged>> coming_;
};

}  // namespace convae
