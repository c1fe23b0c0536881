#include "convae/training/options.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace convae {
namespace {

void at_least(std::int64_t low, const char* name, std::int64_t value) {
  require_option(value >= low, fmt::format("{} must be at least {}, but is {}", name, low, value));
}

void not_negative(const char* name, double value) {
  require_option(value >= 0 && std::isfinite(value),
                 fmt::format("{} must be at least 0, but is {:g}", name, value));
}

void below_one(const char* name, double value) {
  require_option(value >= 0 && value < 1,
                 fmt::format("{} must be at least 0 and below 1, but is {:g}", name, value));
}

/// Their product is the number of images shown, which must be countable.
void countable(const char* name, std::int64_t value) {
  constexpr std::int64_t kMost = 1'000'000'000;
  at_least(1, name, value);
  require_option(value <= kMost,
                 fmt::format("{} must be at most {}, but is {}", name, kMost, value));
}

/// What stands beside the runs in their folder.
bool is_reserved(const std::string& name) {
  return name == "latest" || name == "tensorboard" || name == ".index";
}

}  // namespace

void TrainOptions::validate() const {
  countable("epochs", epochs);
  if (batch_size != 0) countable("batch-size", batch_size);
  at_least(0, "warmup", warmup);
  at_least(0, "patience", patience);
  at_least(0, "max-steps", max_steps);
  not_negative("time", time);
  not_negative("weight-decay", weight_decay);
  not_negative("min-lr", min_lr);
  not_negative("clip-grad", clip_grad);
  if (lr != kAutoRate) not_negative("lr", lr);
  at_least(1, "lr-epochs", lr_epochs);
  not_negative("beta", beta);
  below_one("ema", ema);
  below_one("lr-factor", lr_factor);
  require_augmentations(augmentations);
  require_corruptions(corruptions);
  require_reads_back("loss", to_string(loss), parse_loss);
  require_option(lr == kAutoRate || min_lr <= lr,
                 fmt::format("min-lr must be at most lr, which is {}, but is {}", lr, min_lr));
}

void RunOptions::validate() const {
  at_least(0, "save-every", save_every);
  not_negative("save-minutes", save_minutes);
  require_option(!output.empty(), "--output is needed, such as -o runs");
  const bool is_plain = name != "." && name != ".." && name.find('/') == std::string::npos;
  require_option(is_plain && !is_reserved(name),
                 "--name " + in_quotes(name) +
                     ": expected a plain name without '/', other than 'latest', which leads to the "
                     "newest run, 'tensorboard' and '.index'; -o names the folder");
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
