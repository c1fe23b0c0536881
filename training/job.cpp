#include "convae/training/job.h"

#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/data/split.h"
#include "convae/metrics/similarity.h"
#include "convae/training/checkpoint.h"
#include "convae/training/memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace convae {
namespace {

bool has_same_images(const TrainJob& job, const TrainJob::Earlier& earlier) {
  const DataOptions& is = job.data;
  const DataOptions& was = earlier.data;
  return is.data == was.data && is.val == was.val && is.val_split == was.val_split &&
         is.size == was.size && is.crop == was.crop &&
         job.train.corruptions == earlier.train.corruptions;
}

bool has_same_measure(const TrainOptions& is, const TrainOptions& was) {
  return is.loss == was.loss && is.beta == was.beta && is.best == was.best;
}

/// config.toml and the checkpoint are UTF-8; a path they cannot hold could not be resumed.
void require_utf8(const std::string& path, const char* flag) {
  try {
    nlohmann::json(path).dump();
  } catch (const nlohmann::json::exception&) {
    throw OptionError(std::string("--") + flag + " " + in_quotes(path) +
                      ": the name is not UTF-8, so the run could not be resumed; rename the folder "
                      "or use a link to it");
  }
}

/// The size every image reaches the network at; {0, 0}: they have several.
Size one_size(const DataOptions& data) { return data.crop ? data.crop : data.size; }

void fix_size_of_dense_latent(ModelOptions& model, const DataOptions& data) {
  const Size seen = one_size(data);
  if (!seen) {
    throw OptionError("--latent '" + std::to_string(model.latent) +
                      "': a dense latent works at one input size only, but size is native; set "
                      "--size N or HxW, or use --latent-channels, which takes every size");
  }
  if (model.size && model.size != seen) {
    throw OptionError("--size '" + to_string(seen) + "' contradicts the checkpoint, whose " +
                      "dense latent works at " + to_string(model.size) +
                      " only; leave --size and --crop out");
  }
  model.size = seen;
}

}  // namespace

Checkpoint read_last_checkpoint(const std::filesystem::path& run) {
  const std::filesystem::path last = run / "weights" / "last.safetensors";
  std::error_code error;
  if (!std::filesystem::exists(last, error)) {
    throw std::runtime_error("--resume " + in_quotes(run) +
                             ": there is no weights/last.safetensors in it");
  }
  return read_checkpoint(last);
}

void adopt(TrainJob& job, const ModelOptions& model) {
  job.model = model;
  job.data.channels = model.channels;
  if (model.latent > 0 && !job.data.size && !job.data.crop) job.data.size = model.size;
}

SavedRun open_run(TrainJob& job, const Callbacks& callbacks) {
  if (!job.init.empty()) {
    throw OptionError("--init and --resume exclude each other: a resumed run has its weights");
  }
  RunFolder folder = RunFolder::open(job.resume);
  SavedRun saved{folder, read_last_checkpoint(folder.path())};
  adopt(job, saved.checkpoint.info.model);
  if (!job.earlier ||
      (has_same_images(job, *job.earlier) && has_same_measure(job.train, job.earlier->train))) {
    return saved;
  }
  // Values of other images or measures cannot be compared with the best so far.
  Progress& progress = saved.checkpoint.info.progress;
  if (progress.best_epoch > 0) callbacks.say("loss or images changed: 'best' starts anew");
  progress.best_epoch = 0;
  progress.patience_start = progress.epoch;
  progress.plateau_start = progress.epoch;
  progress.stopped_early = false;
  return saved;
}

bool is_finished(const TrainJob& job, Progress& progress) {
  const TrainOptions& is = job.train;
  const TrainOptions& was = job.earlier ? job.earlier->train : is;
  const bool more =
      is.epochs > was.epochs || is.patience != was.patience || is.max_steps != was.max_steps;
  if (more && progress.stopped_early) {
    progress.stopped_early = false;
    progress.patience_start = progress.epoch;
  }
  const bool steps_done = is.max_steps > 0 && progress.step >= is.max_steps;
  return progress.epoch >= is.epochs || progress.stopped_early || steps_done;
}

void check_job(TrainJob& job) {
  job.data.validate();
  job.train.validate();
  job.run.validate();
  require_utf8(job.data.data, "data");
  require_utf8(job.data.val, "val");
  ModelOptions& model = job.model;
  // The true number of channels is known only with the images; all else is checked now.
  if (model.channels == 0) model.channels = job.data.channels > 0 ? job.data.channels : 3;
  if (model.latent > 0) fix_size_of_dense_latent(model, job.data);
  model.validate();
  if (const Size seen = one_size(job.data)) plan_sizes(model.levels, seen, model.channels);
  require_memory_for_weights(model, free_memory_bytes());
}

void require_measure_of_best(const TrainJob& job, const std::vector<ImageEntry>& validation) {
  const BestBy best = job.train.best;
  if (validation.empty() && best != BestBy::val_loss && best != BestBy::train_loss) {
    throw OptionError(std::string("--best '") + to_string(best) +
                      "': there are no validation images; give some with --val or --val-split, "
                      "or use --best train_loss");
  }
  const auto has_window = [&](const ImageEntry& entry) {
    const Size size = size_in_batches(entry, job.data);
    return std::min(size.h, size.w) >= kSimilarityWindow;
  };
  if (best == BestBy::val_ssim && std::none_of(validation.begin(), validation.end(), has_window)) {
    throw OptionError(
        "--best 'val_ssim': no validation image has sides of at least 11 pixels, "
        "which SSIM needs; use --best val_loss");
  }
}

}  // namespace convae
