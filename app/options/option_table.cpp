#include "convae/app/options/option_table.h"

namespace convae::app {
namespace {

constexpr const char* kTrain = "train";
constexpr const char* kReading = "train reconstruct encode evaluate calibrate score pack";
constexpr const char* kModel = "train shapes bench";
constexpr const char* kUsing =
    "reconstruct encode decode sample interpolate evaluate calibrate score export";
constexpr const char* kWriting =
    "train reconstruct encode decode sample interpolate evaluate score export pack";
constexpr const char* kLogging =
    "train reconstruct encode decode sample interpolate evaluate calibrate score export pack";
constexpr const char* kComputing =
    "train reconstruct encode decode sample interpolate evaluate calibrate score";
constexpr const char* kMeasured =
    "train reconstruct encode decode sample interpolate evaluate calibrate score bench";

/// Checked in full once kernel, stride, padding and dilation are known.
std::string read_levels(const std::string& text) {
  parse_levels(text);
  return text;
}

/// The help of a choice ends with its words, which are added from `choices`.
std::vector<OptionSpec> make_table() {
  using enum Group;
  std::vector<OptionSpec> table = {
      {data, "data", "train reconstruct encode evaluate score pack", "DIR", &DataOptions::data,
       "folder of images, searched recursively, or of tar shards; or shards: x.tar, "
       "'x-{000..146}.tar'"},
      {data, "val", kTrain, "DIR", &DataOptions::val, "validation images, in place of val-split"},
      {data, "include", kReading, "GLOB", &DataOptions::include,
       "use only files that match, such as '*.png' or 'shift1/**'; may be repeated"},
      {data, "exclude", kReading, "GLOB", &DataOptions::exclude,
       "leave out files that match, such as '*_GT.*' or 'test/**'; may be repeated"},
      {data, "images", "", "LIST", &DataOptions::images,
       "the only images to use, by their names in data; written by score --folds"},
      {data, "val-split", kTrain, "SHARE", &DataOptions::val_split,
       "approximate share of the images kept for validation, chosen by a hash of their names"},
      {data, "group-regex", "train calibrate score", "REGEX", &DataOptions::group_regex,
       "images with the same match, or the same first (), stay together"},
      {data, "size", kComputing, "SIZE", Binding(&DataOptions::size, image_size("native")),
       "resize images to N (N x N) or HxW pixels; native: keep their sizes; decode, sample: of the "
       "images to make"},
      {data, "crop", kTrain, "SIZE", Binding(&DataOptions::crop, image_size("none")),
       "cut out N or HxW pixels after resizing: at random in training, else centred"},
      {data, "channels", kTrain, "N", &DataOptions::channels,
       "1 (grey) or 3 (RGB); 0: 1 if every image is grey, else 3"},
      {data, "value-range", kTrain, "RANGE", Binding(&DataOptions::value_range, parse_value_range),
       "values of the files that become 0 and 1: full (all their type holds), auto (those of the "
       "training images) or LO:HI; kept in the checkpoint"},
      {data, "augment", kTrain, "LIST", Binding(&TrainOptions::augmentations, parse_augmentations),
       "vary images: flip, flip-vertical, crop:0.8, brightness:0.1, contrast:0.1 or several"},
      {data, "cache", kTrain, "WHERE", &DataOptions::cache,
       "keep decoded images in memory (auto: if they fit)"},
      {data, "workers", kComputing, "N", &DataOptions::workers,
       "threads that read images, and as many that write them; -1: one per core"},
      {data, "skip-bad", kReading, "BOOL", &DataOptions::skip_bad,
       "skip images that cannot be used; false: stop at the first"},
      {data, "max-pixels", "train reconstruct encode decode interpolate evaluate calibrate score",
       "N", &DataOptions::max_pixels, "largest image that is used, in pixels"},

      {model, "levels", kModel, "LIST",
       Binding(&LevelOptions::list, {read_levels, std::identity{}}),
       "levels of the encoder: CHANNELS[:kHxWsHxWpHxWdHxWrN],…"},
      {model, "kernel", kModel, "K", &LevelSpec::kernel, "default kernel of a level: K or HxW"},
      {model, "stride", kModel, "S", &LevelSpec::stride, "default stride of a level: S or HxW"},
      {model, "padding", kModel, "P", &LevelSpec::padding, "default padding of a level: P or HxW"},
      {model, "dilation", kModel, "D", &LevelSpec::dilation,
       "default dilation of a level: D or HxW"},
      {model, "residual-blocks", kModel, "N", &LevelSpec::residual_blocks,
       "default residual blocks of a level, each of two 3x3 convolutions"},
      {model, "shortcut", kModel, "NAME", &ModelOptions::shortcut,
       "shortcut around every level, without weights (shuffle: of pixels to channels and back)"},
      {model, "linear", kModel, "NAME", &ModelOptions::linear,
       "linear path beside the convolutions, for latent or latent-channels (pca: training starts "
       "at the error of PCA); makes output-activation linear"},
      {model, "skip", kModel, "NAME", &ModelOptions::skip,
       "skip connections (add: each decoder level adds the encoder's map of its size; for "
       "restoring images, leaves no latent)"},
      {model, "residual", kModel, "BOOL", &ModelOptions::residual,
       "predict what to subtract from the input; makes output-activation linear"},
      {model, "order", kModel, "ORDER", &ModelOptions::order, "order of layers in a level"},
      {model, "activation", kModel, "NAME", &ModelOptions::activation, "activation"},
      {model, "norm", kModel, "NAME", &ModelOptions::norm, "normalisation"},
      {model, "latent-channels", kModel, "N", &ModelOptions::latent_channels,
       "channels of the latent, by a 1x1 convolution; 0: the last level's"},
      {model, "latent", kModel, "N", &ModelOptions::latent,
       "numbers of a dense latent, which fixes the image size; 0: none"},
      {model, "variational", kTrain, "BOOL", &ModelOptions::variational,
       "make the latent a distribution that convae sample can draw from"},
      {model, "detector", "train shapes", "LIST",
       Binding(&ModelOptions::detector, {parse_widths, widths_text}),
       "channels of a detector of anomalies, level by level, such as 16,32,64; none: no detector"},
      {model, "output-activation", kTrain, "NAME", &ModelOptions::output,
       "last function of the decoder"},

      {train, "epochs", kTrain, "N", &TrainOptions::epochs, "passes over the images, in total"},
      {train, "batch-size", "train reconstruct encode calibrate score bench", "N",
       Binding(
           &TrainOptions::batch_size,
           number_or_auto<std::int64_t>(0, "a whole number of at least 1, or auto in training")),
       "images per batch; in training, per step; auto (train): by image size, their number and "
       "memory"},
      {train, "lr", kTrain, "RATE",
       Binding(&TrainOptions::lr,
               number_or_auto(TrainOptions::kAutoRate, "a number of at least 0 or auto")),
       "learning rate; auto: by a test of 100 steps before the training"},
      {train, "optimizer", kTrain, "NAME", &TrainOptions::optimizer,
       "optimizer (sgd has momentum 0.9; muon turns the updates of convolutions into orthogonal "
       "matrices)"},
      {train, "weight-decay", kTrain, "W", &TrainOptions::weight_decay,
       "weight decay: L2 for adam and sgd, decoupled for adamw and muon"},
      {train, "schedule", kTrain, "NAME", &TrainOptions::schedule, "schedule of the learning rate"},
      {train, "warmup", kTrain, "N", &TrainOptions::warmup, "steps with a rising learning rate"},
      {train, "min-lr", kTrain, "RATE", &TrainOptions::min_lr,
       "last learning rate of cosine, plateau and one-cycle"},
      {train, "lr-epochs", kTrain, "N", &TrainOptions::lr_epochs,
       "step: epochs between falls; plateau: epochs to wait for progress"},
      {train, "lr-factor", kTrain, "F", &TrainOptions::lr_factor,
       "step, plateau: factor by which the learning rate falls"},
      {train, "clip-grad", kTrain, "NORM", &TrainOptions::clip_grad, "gradient norm limit; 0: off"},
      {train, "loss", kTrain, "LOSS", Binding(&TrainOptions::loss, parse_loss),
       "mse, l1, charbonnier, ssim, ms-ssim or a weighted sum such as \"mse + 0.2*ssim\""},
      {train, "beta", kTrain, "B", &TrainOptions::beta,
       "weight of a variational model's divergence per latent number"},
      {train, "corrupt", "train reconstruct evaluate", "LIST",
       Binding(&TrainOptions::corruptions, parse_corruptions),
       "restore images from noise:0.1 or a range noise:0.02-0.2, shot:100, blur:1, jpeg:20-60, "
       "shrink:2, cutout:0.25, grid:16, blemish:0.4, defects:0.75 or several"},
      {train, "ema", kTrain, "DECAY", &TrainOptions::ema,
       "decay of the averaged weights, such as 0.999; 0: off"},
      {train, "best", kTrain, "MEASURE", &TrainOptions::best, "measure of the best checkpoint"},
      {train, "patience", kTrain, "N", &TrainOptions::patience,
       "epochs without a better `best` before stopping; 0: off"},
      {train, "seed", "train reconstruct sample evaluate score", "N", &TrainOptions::seed,
       "seed of all random numbers"},
      {train, "max-steps", kTrain, "N", &TrainOptions::max_steps,
       "stop after this many steps; 0: after the epochs"},
      {train, "time", kTrain, "TIME", Binding(&TrainOptions::time, duration()),
       "train for 90s, 10m, 2h or 1h30m in total, in place of epochs and max-steps; the schedule "
       "follows, and no two runs are equal bit for bit"},
      {train, "precision", kTrain, "NAME", &TrainOptions::precision,
       "precision of the network (bf16: half the arithmetic, on GPUs and newer CPUs; tf32: of "
       "products alone, on GPUs; auto: bf16 where device and network gain by it, else fp32)"},
      {train, "on-nan", kTrain, "WHAT", &TrainOptions::on_nan,
       "what to do if a loss or gradient is not finite"},
      {train, "deterministic", kTrain, "BOOL", &TrainOptions::deterministic,
       "only algorithms that always give the same result, on CUDA (slower)"},

      {run, "output", kWriting, "DIR", &RunOptions::output,
       "where results go: the folder of runs, or a command's own folder or file", "o"},
      {run, "name", "train pack", "NAME", &RunOptions::name,
       "the run's or the shards' name; default: the data folder's"},
      {run, "device", kMeasured, "DEVICE", &RunOptions::device, "auto, cpu, cuda or cuda:N"},
      {run, "threads", kMeasured, "N", &RunOptions::threads,
       "compute threads; 0: OMP_NUM_THREADS, or one per core"},
      {run, "memory", kComputing, "SIZE", Binding(&RunOptions::memory, memory_size()),
       "memory limit, such as 4G; auto: what the machine or container leaves"},
      {run, "save-every", kTrain, "N", &RunOptions::save_every,
       "epochs between kept checkpoints and sample pictures; 0: only the first and last pictures"},
      {run, "save-minutes", kTrain, "MINUTES", &RunOptions::save_minutes,
       "minutes between saves within an epoch; 0: none"},
      {run, "report", "train score", "BOOL", &RunOptions::report,
       "write report.html, a page of curves or scores and pictures, beside the other results"},
      {run, "tensorboard", kTrain, "BOOL", &RunOptions::tensorboard,
       "write scalars and sample pictures for TensorBoard into OUTPUT/tensorboard/NAME"},
      {run, "strict", kTrain, "BOOL", &RunOptions::strict,
       "refuse to resume a run whose images have changed"},
      {run, "log-level", kLogging, "LEVEL", &RunOptions::log_level, "least severe messages shown"},
      {run, "quiet", kLogging, "BOOL", &RunOptions::quiet, "only warnings, errors and results"},

      {call, "config", "train shapes score", "FILE", &CallOptions::config,
       "TOML file of options; flags override it"},
      {call, "resume", kTrain, "RUN", &CallOptions::resume,
       "continue a run from its last checkpoint; auto: the run OUTPUT/NAME, or start it"},
      {call, "init", kTrain, "FILE", &CallOptions::init,
       "start from weights in a safetensors file"},
      {call, "checkpoint", kUsing, "RUN", &CallOptions::checkpoint,
       "run folder (its best weights) or checkpoint file"},
      {call, "train-data", "evaluate", "DIR", &CallOptions::train_data,
       "images to fit PCA and other references to; default: the run's own"},
      {call, "latents", "decode", "FILE", &CallOptions::latents,
       "latents (.npy, with its .csv or --size) or a folder of them"},
      {call, "input", "shapes bench", "CxHxW", &CallOptions::input,
       "channels and size of the image, in pixels"},
      {call, "format", "reconstruct", "FORMAT", &CallOptions::format,
       "file format (keep: each file's own)"},
      {call, "format", "export", "FORMAT", &CallOptions::export_format,
       "file format (safetensors: weights only)"},
      {call, "part", "export", "PART", &CallOptions::part, "part of the model"},
      {call, "input", "export", "HxW", &CallOptions::input,
       "onnx: one image size in pixels instead of every size"},
      {call, "pool", "encode", "HOW", &CallOptions::pool, "pool latents over their area to (N, C)"},
      {call, "tile", "reconstruct encode score", "N", Binding(&CallOptions::tile, tile_side()),
       "process larger images in tiles of N x N pixels, with the same result; auto: images too "
       "large for memory or above max-pixels; default: those too large for memory"},
      {call, "grid", "reconstruct", "BOOL", &CallOptions::grid,
       "also write input | reconstruction | error to grid/"},
      {call, "error-map", "reconstruct", "BOOL", &CallOptions::error_map,
       "also write the error pictures to error/"},
      {call, "good", "calibrate score", "DIR", &CallOptions::good,
       "good images to calibrate on, instead of those the run kept out of training"},
      {call, "fpr", "calibrate score export", "SHARE", &CallOptions::fpr,
       "share of good images that may be called anomalous"},
      {call, "heat-maps", "score", "BOOL", &CallOptions::heat_maps,
       "write where the anomalies are: over the image to overlay/, alone to heat/"},
      {call, "fail-on-anomaly", "score", "BOOL", &CallOptions::fail_on_anomaly,
       "exit with 3 if there is an anomaly"},
      {call, "watch", "score", "BOOL", &CallOptions::watch,
       "score the files in --data, then new ones as they are written; a line of JSON each"},
      {call, "stdin", "score", "BOOL", &CallOptions::from_stdin,
       "score the files whose paths come on standard input; a line of JSON each"},
      {call, "folds", "score", "K", &CallOptions::folds,
       "judge a recipe (--config or --checkpoint) by cross-validation: trains and scores K times"},
      {call, "precision", "reconstruct encode decode sample interpolate evaluate calibrate bench",
       "NAME", &CallOptions::precision,
       "precision of the network (fp32: as in exports and on other machines; auto, bf16 and tf32: "
       "faster, see train)"},
      {call, "shard-size", "pack", "BYTES", Binding(&CallOptions::shard_size, byte_count()),
       "size of the images in a shard, such as 256M or 1G (units of 1024)"},
      {call, "overwrite", "reconstruct encode decode sample interpolate evaluate score export pack",
       "BOOL", &CallOptions::overwrite, "replace files that exist"},
      {call, "rounds", "bench", "N", &CallOptions::rounds, "timed rounds; the table shows medians"},
      {call, "count", "sample", "N", &CallOptions::count, "images to draw"},
      {call, "steps", "interpolate", "N", &CallOptions::steps, "pictures, both ends included"},
      {call, "json", "shapes info bench evaluate calibrate score", "BOOL", &CallOptions::json,
       "machine-readable result"},
  };
  for (OptionSpec& option : table) {
    if (!option.is_switch() && !option.value.choices.empty()) {
      option.help += ": " + in_words(option.value.choices);
    }
  }
  return table;
}

}  // namespace

const std::vector<OptionSpec>& option_table() {
  static const std::vector<OptionSpec> table = make_table();
  return table;
}

std::vector<const OptionSpec*> options_of(std::string_view command) {
  const std::string word = " " + std::string(command) + " ";
  std::vector<const OptionSpec*> options;
  for (const OptionSpec& option : option_table()) {
    const bool takes_it = (" " + option.commands + " ").find(word) != std::string::npos;
    if (takes_it) options.push_back(&option);
  }
  return options;
}

std::vector<const OptionSpec*> options_of(Group group) {
  std::vector<const OptionSpec*> options;
  for (const OptionSpec& option : option_table()) {
    if (option.group == group) options.push_back(&option);
  }
  return options;
}

}  // namespace convae::app
