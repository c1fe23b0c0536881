#include "convae/reporting/run_views.h"

#include "convae/core/files.h"
#include "convae/data/image_io.h"

#include <spdlog/spdlog.h>

#include <functional>

namespace convae::app {
namespace {

void warn_on_failure(const std::function<void()>& write, const char* remark = "; the run goes on") {
  try {
    write();
  } catch (const std::runtime_error& error) {
    spdlog::warn("{}{}", error.what(), remark);
  }
}

std::string shell_word(const std::string& word) {
  constexpr const char* kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  // What printable() escapes, the shell's $'…' understands.
  const std::string shown = printable(word);
  const bool escaped = shown != word;
  std::string quoted = escaped ? "$'" : "'";
  for (const char c : shown) {
    if (c == '\'') {
      quoted += escaped ? "\\'" : "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

std::string shell_command(const std::vector<std::string>& words) {
  std::string command = "convae";
  for (const std::string& word : words) command += " " + shell_word(word);
  return command;
}

RunViews::RunViews(const RunFolder& folder, const Options& options, std::int64_t epochs, Size input)
    : folder_(folder), tensorboard_(options.run.tensorboard) {
  if (options.run.report) {
    report_.emplace(folder, ReportFacts{options.model, input, epochs});
  }
}

void RunViews::begin(const Progress& progress, const std::vector<SkippedFile>& skipped) {
  if (tensorboard_) {
    warn_on_failure(
        [&] { events_.emplace(folder_.path(), progress.step > 0 ? progress.step + 1 : 0); });
  }
  if (report_) {
    warn_on_failure([&] { report_->write(RunReport::State::running, progress, skipped); });
  }
}

void RunViews::note_epoch(const MetricsRow& row, const Progress& progress,
                          const std::vector<SkippedFile>& skipped) {
  if (events_) warn_on_failure([&] { add_events(row); });
  if (report_) warn_on_failure([&] { report_->update(progress, skipped); });
}

void RunViews::end(RunReport::State state, const Progress& progress,
                   const std::vector<SkippedFile>& skipped, const std::string& message) {
  if (report_) warn_on_failure([&] { report_->write(state, progress, skipped, message); }, "");
}

void RunViews::add_events(const MetricsRow& row) {
  events_->add_scalars(row.step, {{"loss/train", row.train_loss},
                                  {"loss/validation", row.val_loss},
                                  {"validation/mse", row.val_mse},
                                  {"validation/psnr", row.val_psnr},
                                  {"validation/ssim", row.val_ssim},
                                  {"learning_rate", row.lr},
                                  {"images_per_s", row.images_per_s},
                                  {"epoch", static_cast<double>(row.epoch)}});
  std::error_code error;
  const std::filesystem::path sample = folder_.sample(row.epoch);
  if (!std::filesystem::exists(sample, error)) return;
  const std::vector<std::uint8_t> png = read_file(sample);
  const ImageInfo info = probe_image(png);
  events_->add_image(row.step, "input, reconstruction, error", png, info.width, info.height);
}

}  // namespace convae::app
