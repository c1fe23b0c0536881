#include "convae/app/commands/commands.h"

#include "convae/app/options/binding.h"
#include "convae/app/output/logging.h"
#include "convae/core/machine.h"
#include "convae/core/text.h"
#include "convae/training/collective.h"

#include <algorithm>

namespace convae::app {

const std::vector<Command>& command_list() {
  static const std::vector<Command> commands = {
      {"train", "Trains an autoencoder on a folder of images and writes a run folder.",
       "--data DIR [options]", run_train, /*shares_work=*/true},
      {"reconstruct", "Writes the reconstruction of every image at exactly its size.",
       "--checkpoint RUN --data DIR -o OUT [options]", run_reconstruct, /*shares_work=*/true},
      {"encode", "Writes the latents of a folder of images as a NumPy array.",
       "--checkpoint RUN --data DIR -o latents.npy [options]", run_encode, /*shares_work=*/true},
      {"decode", "Turns latents back into images.",
       "--checkpoint RUN --latents latents.npy -o OUT [options]", run_decode},
      {"sample", "Draws images from a variational model.", "--checkpoint RUN -o OUT [options]",
       run_sample},
      {"interpolate", "Walks from one image to another through their latents.",
       "A B --checkpoint RUN -o OUT [options]", run_interpolate, /*shares_work=*/false, 2},
      {"export", "Writes the model for other programs: ONNX, TorchScript or plain weights.",
       "--checkpoint RUN --format FORMAT -o FILE [options]", run_export},
      {"evaluate", "Compares reconstructions with PCA, JPEG and the mean image.",
       "--checkpoint RUN --data DIR [--json] [-o OUT] [options]", run_evaluate,
       /*shares_work=*/true},
      {"calibrate", "Learns for score what good images look like, and keeps it in the run.",
       "--checkpoint RUN [--good DIR] [options]", run_calibrate, /*shares_work=*/true},
      {"score", "Scores how anomalous images are, with a network trained on good ones.",
       "--checkpoint RUN --data DIR -o OUT [options]", run_score, /*shares_work=*/true},
      {"pack", "Writes a folder of images as tar shards, which all commands read in place.",
       "--data DIR -o OUT [options]", run_pack},
      {"shapes", "Shows sizes and output_padding level by level.", "--input CxHxW [options]",
       run_shapes},
      {"info", "Shows what a checkpoint contains.", "RUN_OR_FILE [--json]", run_info,
       /*shares_work=*/false, 1},
      {"bench",
       "Measures this machine: training step and inference, compared with the bare convolutions.",
       "[--input CxHxW] [options]", run_bench},
      {"completion", "Prints the completion script of a shell.", "bash|zsh|fish", run_completion,
       /*shares_work=*/false, 1},
      {"man", "Prints the manual page.", "", run_man}};
  return commands;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : command_list()) {
    if (name == command.name) return command;
    names.emplace_back(command.name);
  }
  const std::string hint = did_you_mean(name, names);
  throw OptionError("unknown command " + in_quotes(name) +
                    (hint.empty() ? "; convae --help lists them" : hint));
}

void require_given(const std::string& value, const char* flag, const char* example) {
  if (value.empty()) throw OptionError(std::string("--") + flag + " is needed, such as " + example);
}

void require_checkpoint(const Options& options) {
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
}

Model open_model(const Options& options) {
  require_checkpoint(options);
  const Callbacks callbacks = program_callbacks(options.run);
  const std::string device = device_of_ranks(options.run.device);
  use_threads_of_ranks(options.run.threads, callbacks);
  limit_memory(options.run.memory);
  const Model model =
      load(options.call.checkpoint, device).in_precision(options.call.precision, callbacks);
  callbacks.say(checkpoint_line(model));
  return model;
}

void warn_of_rate(const Inspector& inspector, double fpr, const Callbacks& callbacks) {
  const std::string doubt = inspector.calibration().doubt(fpr);
  if (!doubt.empty()) callbacks.warn(doubt);
}

FolderOptions folder_options(const Options& options) {
  require_checkpoint(options);
  require_given(options.data.data, "data", "--data photos");
  FolderOptions folder{options.data, options.train.batch_size};
  folder.tile = options.call.tile;
  folder.validate();
  return folder;
}

Size set_input(ModelOptions& model, const std::string& text) {
  std::string_view rest = text;
  const auto channels = take_count(rest);
  const bool has_size = std::count(rest.begin(), rest.end(), 'x') == 2 && rest[0] == 'x';
  const auto size = has_size ? parse_size(rest.substr(1)) : std::nullopt;
  if (!channels || !size || *channels < 1 || *channels > (1 << 20)) {
    throw OptionError("--input " + in_quotes(text) +
                      ": expected CxHxW, channels, height and width, such as 3x24x25");
  }
  constexpr double kMostValues = 1e15;  // what follows counts bytes of maps in 64 bits
  require_option(static_cast<double>(*channels) * size->h * size->w <= kMostValues,
                 "--input " + in_quotes(text) + ": that is more than 10^15 values");
  model.channels = *channels;
  if (model.latent > 0) model.size = *size;
  return *size;
}

}  // namespace convae::app
