#include "convae/app/options/option_table.h"

#include "convae/app/options/option_bindings.h"

namespace convae::app {
namespace {

constexpr const char* kTrain = "train";
constexpr const char* kReading = "train reconstruct encode evaluate score";
constexpr const char* kModel = "train shapes bench";
constexpr const char* kInference =
    "reconstruct encode decode sample interpolate evaluate score export";
constexpr const char* kWriting =
    "train reconstruct encode decode sample interpolate evaluate score export";
constexpr const char* kComputing =
    "train reconstruct encode decode sample interpolate evaluate score";
constexpr const char* kMeasured =
    "train reconstruct encode decode sample interpolate evaluate score bench";

void add_data_options(std::vector<OptionSpec>& t) {
  const auto add = [&](const char* flags, const char* commands, const char* value,
                       const char* help) {
    return head(Group::data, flags, commands, value, help);
  };
  t.push_back(text(add("data", kReading, "DIR", "folder of images, searched recursively"),
                   [](Options& o) -> std::string& { return o.data.data; }));
  t.push_back(text(add("val", kTrain, "DIR", "folder of validation images instead of val-split"),
                   [](Options& o) -> std::string& { return o.data.val; }));
  t.push_back(number(add("val-split", kTrain, "SHARE",
                         "share of the images kept for validation, by a hash of their names"),
                     [](Options& o) -> double& { return o.data.val_split; }));
  t.push_back(
      text(add("group-regex", "train score", "REGEX",
               "images that belong together: those whose names match it alike, or its first ()"),
           [](Options& o) -> std::string& { return o.data.group_regex; }));
  t.push_back(image_size(
      add("size", "train reconstruct encode sample interpolate evaluate score", "SIZE",
          "resize images to N (N x N) or HxW; native: keep their sizes"),
      [](Options& o) -> Size& { return o.data.size; }, "native"));
  t.push_back(image_size(
      add("crop", kTrain, "SIZE",
          "cut N or HxW out after resizing: anywhere in training, else centred"),
      [](Options& o) -> Size& { return o.data.crop; }, "none"));
  t.push_back(integer(
      add("channels", kTrain, "N", "1 (grey) or 3 (RGB); 0: 1 if every image is grey, else 3"),
      Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.data.channels; })));
  t.push_back(parsed(
      add("augment", kTrain, "LIST",
          "vary images: flip, flip-vertical, crop:0.8, brightness:0.1, contrast:0.1 or several"),
      [](Options& o, const std::string& value) {
        o.train.augmentations = parse_augmentations(value);
      },
      [](const Options& o) { return to_string(o.train.augmentations); }));
  t.push_back(choice<Cache>(add("cache", kTrain, "WHERE",
                                "keep decoded images in memory: auto (if they fit), ram or none"),
                            [](Options& o) -> Cache& { return o.data.cache; }));
  t.push_back(
      integer(add("workers", kComputing, "N",
                  "threads that read images, and as many that write them; -1: one a core"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.data.workers; })));
  t.push_back(boolean(add("skip-bad", kReading, "BOOL",
                          "skip images that cannot be used; false: stop at the first"),
                      [](Options& o) -> bool& { return o.data.skip_bad; }));
  t.push_back(
      integer(add("max-pixels", "train reconstruct encode interpolate evaluate score", "N",
                  "images with more pixels are not used"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.data.max_pixels; })));
}

void add_model_options(std::vector<OptionSpec>& t) {
  const auto add = [&](const char* flags, const char* value, const char* help) {
    return head(Group::model, flags, kModel, value, help);
  };
  t.push_back(
      level_list(add("levels", "LIST", "levels of the encoder: CHANNELS[:kHxWsHxWpHxWdHxW],…")));
  t.push_back(pair(add("kernel", "K", "kernel of levels that do not name theirs, K or HxW"),
                   [](Options& o) -> Size& { return o.levels.defaults.kernel; }));
  t.push_back(pair(add("stride", "S", "their stride"),
                   [](Options& o) -> Size& { return o.levels.defaults.stride; }));
  t.push_back(pair(add("padding", "P", "their padding"),
                   [](Options& o) -> Size& { return o.levels.defaults.padding; }));
  t.push_back(pair(add("dilation", "D", "their dilation"),
                   [](Options& o) -> Size& { return o.levels.defaults.dilation; }));
  t.push_back(choice<Order>(add("order", "ORDER", "conv-bn-act or conv-act-bn"),
                            [](Options& o) -> Order& { return o.model.order; }));
  t.push_back(choice<Activation>(add("activation", "NAME", "silu, relu, leaky-relu or gelu"),
                                 [](Options& o) -> Activation& { return o.model.activation; }));
  t.push_back(choice<Norm>(add("norm", "NAME", "normalisation: batch, group or none"),
                           [](Options& o) -> Norm& { return o.model.norm; }));
  t.push_back(integer(
      add("latent-channels", "N", "channels after a 1x1 convolution; 0: none"),
      Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.model.latent_channels; })));
  t.push_back(
      integer(add("latent", "N", "numbers of a dense latent (fixes the size); 0: none"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.model.latent; })));
  t.push_back(boolean(head(Group::model, "variational", kTrain, "BOOL",
                           "the bottleneck gives a distribution, so that convae sample can draw"),
                      [](Options& o) -> bool& { return o.model.variational; }));
  // As a flag, --output is the folder of results; in TOML the tables keep the two apart.
  OptionSpec output = head(Group::model, "output-activation", kTrain, "NAME",
                           "last function of the decoder: sigmoid, tanh or linear (TOML: output)");
  output.name = "output";
  t.push_back(choice<Output>(output, [](Options& o) -> Output& { return o.model.output; }));
}

void add_train_options(std::vector<OptionSpec>& t) {
  const auto add = [&](const char* flags, const char* value, const char* help) {
    return head(Group::train, flags, kTrain, value, help);
  };
  const auto int_option = [&](const char* name, const char* help, Member<std::int64_t> member) {
    t.push_back(integer(add(name, "N", help), member));
  };
  int_option("epochs", "passes over the images, altogether",
             [](Options& o) -> std::int64_t& { return o.train.epochs; });
  t.push_back(integer(
      head(Group::train, "batch-size", "train reconstruct encode score bench", "N",
           "images an optimizer step"),
      Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.train.batch_size; })));
  t.push_back(
      number(add("lr", "RATE", "learning rate"), [](Options& o) -> double& { return o.train.lr; }));
  t.push_back(
      choice<OptimizerKind>(add("optimizer", "NAME", "adam, adamw or sgd (momentum 0.9)"),
                            [](Options& o) -> OptimizerKind& { return o.train.optimizer; }));
  t.push_back(number(add("weight-decay", "W", "L2 for adam and sgd, decoupled for adamw"),
                     [](Options& o) -> double& { return o.train.weight_decay; }));
  t.push_back(choice<ScheduleKind>(
      add("schedule", "NAME", "of the learning rate: cosine, constant, step, plateau or one-cycle"),
      [](Options& o) -> ScheduleKind& { return o.train.schedule; }));
  int_option("warmup", "steps over which the learning rate rises",
             [](Options& o) -> std::int64_t& { return o.train.warmup; });
  t.push_back(number(add("min-lr", "RATE", "where cosine, plateau and one-cycle end"),
                     [](Options& o) -> double& { return o.train.min_lr; }));
  int_option("lr-epochs", "step: epochs between falls; plateau: epochs to wait for progress",
             [](Options& o) -> std::int64_t& { return o.train.lr_epochs; });
  t.push_back(number(add("lr-factor", "F", "step, plateau: by which the learning rate falls"),
                     [](Options& o) -> double& { return o.train.lr_factor; }));
  t.push_back(number(add("clip-grad", "NORM", "largest norm of the gradients; 0: off"),
                     [](Options& o) -> double& { return o.train.clip_grad; }));
  t.push_back(parsed(
      add("loss", "LOSS",
          "mse, l1, charbonnier, ssim, ms-ssim or a weighted sum such as \"mse + 0.2*ssim\""),
      [](Options& o, const std::string& value) { o.train.loss = parse_loss(value); },
      [](const Options& o) { return to_string(o.train.loss); }));
  t.push_back(number(add("beta", "B", "weight of a variational model's divergence a latent number"),
                     [](Options& o) -> double& { return o.train.beta; }));
  t.push_back(parsed(
      head(Group::train, "corrupt", "train reconstruct", "LIST",
           "restore images from noise:0.1, blur:1, cutout:0.25, grid:16, blemish:0.4 or several"),
      [](Options& o, const std::string& value) { o.train.corruptions = parse_corruptions(value); },
      [](const Options& o) { return to_string(o.train.corruptions); }));
  t.push_back(number(add("ema", "DECAY", "average the weights, such as 0.999; 0: off"),
                     [](Options& o) -> double& { return o.train.ema; }));
  t.push_back(choice<BestBy>(add("best", "MEASURE", "what the best checkpoint is the best in"),
                             [](Options& o) -> BestBy& { return o.train.best; }));
  int_option("patience", "epochs without a better loss before stopping; 0: off",
             [](Options& o) -> std::int64_t& { return o.train.patience; });
  t.push_back(integer(
      head(Group::train, "seed", "train reconstruct sample score", "N", "of everything random"),
      Member<std::uint64_t>([](Options& o) -> std::uint64_t& { return o.train.seed; })));
  int_option("max-steps", "stop after so many steps; 0: after the epochs",
             [](Options& o) -> std::int64_t& { return o.train.max_steps; });
  t.push_back(choice<Precision>(
      head(Group::train, "precision", "train bench", "NAME",
           "fp32, or bf16: faster on GPUs and on CPUs with bfloat16, and a little less exact"),
      [](Options& o) -> Precision& { return o.train.precision; }));
  t.push_back(choice<OnNan>(
      add("on-nan", "WHAT", "a loss or gradient that is not finite: stop, or skip the step"),
      [](Options& o) -> OnNan& { return o.train.on_nan; }));
  t.push_back(boolean(add("deterministic", "BOOL", "only deterministic algorithms on CUDA"),
                      [](Options& o) -> bool& { return o.train.deterministic; }));
}

void add_run_options(std::vector<OptionSpec>& t) {
  t.push_back(text(head(Group::run, "o,output", kWriting, "DIR",
                        "where results go: the folder of runs, or a command's own folder or file"),
                   [](Options& o) -> std::string& { return o.run.output; }));
  t.push_back(
      text(head(Group::run, "name", kTrain, "NAME", "of the run; default: the data folder's"),
           [](Options& o) -> std::string& { return o.run.name; }));
  t.push_back(text(head(Group::run, "device", kMeasured, "DEVICE", "auto, cpu, cuda or cuda:N"),
                   [](Options& o) -> std::string& { return o.run.device; }));
  t.push_back(
      integer(head(Group::run, "threads", kMeasured, "N", "compute threads; 0: one a core"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.run.threads; })));
  t.push_back(integer(
      head(Group::run, "save-every", kTrain, "N",
           "epochs between kept checkpoints and sample pictures; 0: none"),
      Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.train.save_every; })));
  t.push_back(number(head(Group::run, "save-minutes", kTrain, "MINUTES",
                          "save within an epoch after so long; 0: never"),
                     [](Options& o) -> double& { return o.train.save_minutes; }));
  t.push_back(boolean(head(Group::run, "report", kTrain, "BOOL",
                           "write report.html, a page of curves and pictures, into the run folder"),
                      [](Options& o) -> bool& { return o.run.report; }));
  t.push_back(boolean(head(Group::run, "tensorboard", kTrain, "BOOL",
                           "write scalars and sample pictures for TensorBoard into the run folder"),
                      [](Options& o) -> bool& { return o.run.tensorboard; }));
  t.push_back(
      word(head(Group::run, "log-level", kWriting, "LEVEL", "debug, info, warning or error"),
           [](Options& o) -> std::string& { return o.run.log_level; },
           {"debug", "info", "warning", "error"}));
  t.push_back(
      boolean(head(Group::run, "quiet", kWriting, "BOOL", "only warnings, errors and results"),
              [](Options& o) -> bool& { return o.run.quiet; }));
}

void add_call_options(std::vector<OptionSpec>& t) {
  const auto add = [&](const char* flags, const char* commands, const char* value,
                       const char* help) {
    return head(Group::call, flags, commands, value, help);
  };
  t.push_back(
      text(add("config", "train shapes", "FILE", "TOML file of options; flags go before it"),
           [](Options& o) -> std::string& { return o.call.config; }));
  t.push_back(text(add("resume", kTrain, "RUN", "go on with a run from its last checkpoint"),
                   [](Options& o) -> std::string& { return o.call.resume; }));
  t.push_back(text(add("init", kTrain, "FILE", "start from the weights of a safetensors file"),
                   [](Options& o) -> std::string& { return o.call.init; }));
  t.push_back(
      text(add("checkpoint", kInference, "RUN", "run folder (its best weights) or checkpoint file"),
           [](Options& o) -> std::string& { return o.call.checkpoint; }));
  t.push_back(text(add("train-data", "evaluate", "DIR",
                       "images to fit PCA and other references to; default: the run's own"),
                   [](Options& o) -> std::string& { return o.call.train_data; }));
  t.push_back(
      text(add("latents", "decode", "FILE", "latents (.npy, with its .csv) or a folder of them"),
           [](Options& o) -> std::string& { return o.call.latents; }));
  t.push_back(text(add("input", "shapes bench", "CxHxW", "channels and size of the image"),
                   [](Options& o) -> std::string& { return o.call.input; }));
  t.push_back(
      word(add("format", "reconstruct", "FORMAT", "png, or keep (the input's format and depth)"),
           [](Options& o) -> std::string& { return o.call.format; }, {"png", "keep"}));
  t.push_back(needed_choice<ExportFormat>(
      add("format", "export", "FORMAT", "onnx, torchscript or safetensors (weights only)"),
      [](Options& o) -> std::optional<ExportFormat>& { return o.call.export_format; }));
  t.push_back(choice<Part>(add("part", "export", "PART", "autoencoder, encoder or decoder"),
                           [](Options& o) -> Part& { return o.call.part; }));
  t.push_back(text(
      add("input", "export", "HxW", "onnx: for images of this size only, instead of every size"),
      [](Options& o) -> std::string& { return o.call.input; }));
  t.push_back(word(add("pool", "encode", "HOW", "mean: average latents over their area, (N, C)"),
                   [](Options& o) -> std::string& { return o.call.pool; }, {"none", "mean"}));
  t.push_back(boolean(
      add("grid", "reconstruct", "BOOL", "also write input | reconstruction | error to grid/"),
      [](Options& o) -> bool& { return o.call.grid; }));
  t.push_back(
      boolean(add("error-map", "reconstruct", "BOOL", "also write the error pictures to error/"),
              [](Options& o) -> bool& { return o.call.error_map; }));
  t.push_back(
      text(add("good", "score", "DIR",
               "good images to calibrate on, instead of those the run kept out of training"),
           [](Options& o) -> std::string& { return o.call.good; }));
  t.push_back(number(add("fpr", "score", "SHARE", "of good images that may be called anomalous"),
                     [](Options& o) -> double& { return o.call.fpr; }));
  t.push_back(
      boolean(add("heat-maps", "score", "BOOL",
                  "write where the anomalies are: over the image to overlay/, alone to heat/"),
              [](Options& o) -> bool& { return o.call.heat_maps; }));
  t.push_back(boolean(add("fail-on-anomaly", "score", "BOOL", "exit with 3 if there is an anomaly"),
                      [](Options& o) -> bool& { return o.call.fail_on_anomaly; }));
  t.push_back(boolean(add("overwrite", kInference, "BOOL", "replace files that exist"),
                      [](Options& o) -> bool& { return o.call.overwrite; }));
  t.push_back(
      integer(add("rounds", "bench", "N", "timed rounds; the table shows medians"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.call.rounds; })));
  t.push_back(
      integer(add("count", "sample", "N", "images to draw"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.call.count; })));
  t.push_back(
      integer(add("steps", "interpolate", "N", "pictures, both ends included"),
              Member<std::int64_t>([](Options& o) -> std::int64_t& { return o.call.steps; })));
  t.push_back(
      boolean(add("json", "shapes info bench evaluate score", "BOOL", "machine-readable result"),
              [](Options& o) -> bool& { return o.call.json; }));
}

}  // namespace

const std::vector<OptionSpec>& option_table() {
  static const std::vector<OptionSpec> table = [] {
    std::vector<OptionSpec> options;
    add_data_options(options);
    add_model_options(options);
    add_train_options(options);
    add_run_options(options);
    add_call_options(options);
    return options;
  }();
  return table;
}

const OptionSpec* find_option(Group group, std::string_view name) {
  for (const OptionSpec& option : option_table()) {
    if (option.group == group && option.name == name) return &option;
  }
  return nullptr;
}

}  // namespace convae::app
