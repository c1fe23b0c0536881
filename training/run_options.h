#pragma once

#include "convae/core/api.h"

#include <cstdint>
#include <string>

namespace CONVAE_API convae {

/// Where a run goes, what it runs on and what it writes. Nothing here changes what is learnt,
/// except that sums depend on the number of threads in their last digits.
struct RunOptions {
  std::string output = "runs";  ///< folder of runs, or of a command's results
  std::string name;             ///< of the run's folder; empty: the data folder's
  std::string device = "auto";  ///< auto, cpu, cuda or cuda:N
  std::int64_t threads = 0;     ///< compute threads; 0: one a core
  std::int64_t save_every = 5;  ///< epochs between kept checkpoints and sample pictures; 0: none
  double save_minutes = 10;     ///< minutes after which `last` is saved within an epoch; 0: never
  bool report = true;           ///< write report.html
  bool tensorboard = false;     ///< write event files for TensorBoard

  /// Throws OptionError naming the option, its value and what is expected.
  void validate() const;

  /// The run's name where it is trained on the images of the folder `data`.
  std::string name_for(const std::string& data) const;
};

}  // namespace convae
