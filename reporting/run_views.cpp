#include "convae/reporting/run_views.h"

#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/data/image_io.h"

#include <functional>

namespace convae {
namespace {

void warn_on_failure(const Callbacks& callbacks, const std::function<void()>& write,
                     const char* remark = "; the run goes on") {
  try {
    write();
  } catch (const std::runtime_error& error) {
    callbacks.warn(std::string(error.what()) + remark);
  }
}

/// Beside the runs: TensorBoard follows links, and would show a run that `latest` leads to twice. A
/// new run takes the place of one of its name that was deleted.
std::filesystem::path events_folder(const std::filesystem::path& run, bool is_new) {
  const std::filesystem::path own = std::filesystem::canonical(run);
  const std::filesystem::path folder = own.parent_path() / "tensorboard" / own.filename();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_to_create(folder, error);
  if (!is_new) return folder;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      std::filesystem::remove(entry.path());
    }
  }
  return folder;
}

}  // namespace

RunViews::RunViews(bool report, bool tensorboard) : tensorboard_(tensorboard) {
  if (report) report_.emplace();
}

void RunViews::begin(const RunStatus& run) {
  if (tensorboard_) {
    const std::int64_t step = run.progress.step;
    // Of an epoch that was cut short and goes on or begins anew, what was written at its end goes
    // as well: metrics.csv has it no longer.
    const std::int64_t lost = step + (run.folder.measured_step() == step ? 1 : 0);
    warn_on_failure(run.callbacks, [&] {
      events_.emplace(events_folder(run.folder.path(), step == 0), step > 0 ? lost : 0);
    });
  }
  if (report_) warn_on_failure(run.callbacks, [&] { report_->write(run, RunState::running); });
}

void RunViews::epoch(const RunStatus& run, const MetricsRow& row, bool /*is_best*/) {
  if (events_) warn_on_failure(run.callbacks, [&] { add_events(run.folder, row); });
  if (report_) warn_on_failure(run.callbacks, [&] { report_->update(run); });
}

void RunViews::end(const RunStatus& run, RunState state, const std::string& message) {
  if (!report_ || !run.folder.is_in_place()) return;
  warn_on_failure(
      run.callbacks, [&] { report_->write(run, state, message); }, "");
}

void RunViews::add_events(const RunFolder& folder, const MetricsRow& row) {
  events_->add_scalars(row.step, {{"loss/train", row.train_loss},
                                  {"loss/validation", row.val_loss},
                                  {"validation/mse", row.val_mse},
                                  {"validation/psnr", row.val_psnr},
                                  {"validation/ssim", row.val_ssim},
                                  {"learning_rate", row.lr},
                                  {"images_per_s", row.images_per_s},
                                  {"epoch", static_cast<double>(row.epoch)}});
  const std::filesystem::path sample = folder.sample(row.epoch);
  if (!is_there(sample)) return;
  const std::vector<std::uint8_t> png = read_file(sample);
  const ImageInfo info = probe_image(png);
  events_->add_image(row.step, "input, reconstruction, error", png, info.width, info.height);
}

}  // namespace convae
