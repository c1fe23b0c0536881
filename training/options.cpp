#include "convae/training/options.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

namespace convae {
namespace {

template <typename T>
void at_least(const char* name, T value, T low) {
  if (value >= low && std::isfinite(static_cast<double>(value))) return;
  std::ostringstream message;
  message << name << " must be at least " << low << ", but is " << value;
  throw OptionError(message.str());
}

/// Their product is the number of images shown, which must be countable.
void countable(const char* name, std::int64_t value) {
  constexpr std::int64_t kMost = 1'000'000'000;
  at_least<std::int64_t>(name, value, 1);
  require_option(value <= kMost,
                 fmt::format("{} must be at most {}, but is {}", name, kMost, value));
}

/// What stands beside the runs in their folder.
bool is_reserved(const std::string& name) {
  return name == "latest" || name == "tensorboard" || name == ".index";
}

void below_one(const char* name, double value) {
  if (value >= 0 && value < 1) return;
  std::ostringstream message;
  message << name << " must be at least 0 and below 1, but is " << value;
  throw OptionError(message.str());
}

}  // namespace

void TrainOptions::validate() const {
  countable("epochs", epochs);
  if (batch_size != 0) countable("batch-size", batch_size);
  at_least<std::int64_t>("warmup", warmup, 0);
  at_least<std::int64_t>("patience", patience, 0);
  at_least<std::int64_t>("max-steps", max_steps, 0);
  at_least("time", time, 0.0);
  at_least("weight-decay", weight_decay, 0.0);
  at_least("min-lr", min_lr, 0.0);
  at_least("clip-grad", clip_grad, 0.0);
  if (lr != kAutoRate) at_least("lr", lr, 0.0);
  at_least<std::int64_t>("lr-epochs", lr_epochs, 1);
  at_least("beta", beta, 0.0);
  below_one("ema", ema);
  below_one("lr-factor", lr_factor);
  require_augmentations(augmentations);
  require_corruptions(corruptions);
  require_reads_back("loss", to_string(loss), parse_loss);
  require_option(lr == kAutoRate || min_lr <= lr,
                 fmt::format("min-lr must be at most lr, which is {}, but is {}", lr, min_lr));
}

void RunOptions::validate() const {
  at_least<std::int64_t>("save-every", save_every, 0);
  at_least("save-minutes", save_minutes, 0.0);
  if (output.empty()) throw OptionError("--output is needed, such as -o runs");
  const std::filesystem::path path(name);
  if (path.has_parent_path() || name == "." || name == ".." || is_reserved(name)) {
    throw OptionError("--name " + in_quotes(name) +
                      ": expected a plain name without '/', other than 'latest', which leads to "
                      "the newest run, 'tensorboard' and '.index'; -o names the folder");
  }
}

std::string RunOptions::name_for(const std::string& data) const {
  if (!name.empty()) return name;
  const std::filesystem::path path(data);
  std::string folder = (path.has_filename() ? path : path.parent_path()).filename().string();
  if (folder.ends_with(".tar")) {  // x-{000..146}.tar, shards of x
    folder = folder.substr(0, std::min(folder.find('{'), folder.size() - 4));
    folder.erase(folder.find_last_not_of("-_.") + 1);
  }
  return folder.empty() || is_reserved(folder) ? "run" : folder;
}

}  // namespace convae
