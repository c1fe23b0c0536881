#include "convae/app/output/callbacks.h"

#include "convae/app/commands/commands.h"
#include "convae/app/output/progress_bar.h"

#include <spdlog/spdlog.h>

#include <memory>

namespace convae::app {

Callbacks program_callbacks(const RunOptions& options) {
  const auto bar = std::make_shared<ProgressBar>(!options.quiet);
  return {.info =
              [bar](const std::string& line) {
                bar->clear();
                spdlog::info("{}", line);
              },
          .warning =
              [bar](const std::string& line) {
                bar->clear();
                spdlog::warn("{}", line);
              },
          .progress =
              [bar, before = std::int64_t{0}](const std::string& stage, std::int64_t done,
                                              std::int64_t total) mutable {
                // Epochs are one stage after another too, but their counts go on.
                if (done < std::exchange(before, done)) bar->restart();
                bar->show(stage, done, total, done);
                if (done == total) bar->clear();
              },
          .before_writing = stop_in_order,
          .should_stop = [] { return stop_signal() != 0; }};
}

}  // namespace convae::app
