#include "convae/training/checkpoint.h"

#include "convae/core/files.h"
#include "convae/core/paths.h"
#include "convae/core/version.h"

#include <torch/version.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace convae {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

template <typename... Values>
[[noreturn]] void refuse(const std::string& source, fmt::format_string<Values...> reason,
                         Values&&... values) {
  throw CheckpointError(source + ": " + fmt::format(reason, std::forward<Values>(values)...));
}

/// The value that `key` names.
template <typename Enum>
Enum named(const json& fields, const char* key) {
  const auto name = fields.at(key).get<std::string>();
  if (const auto value = parse_name<Enum>(name)) return *value;
  throw std::invalid_argument(fmt::format("unknown {} {}", key, in_quotes(name)));
}

json to_json(const ModelOptions& model) {
  json levels = json::array();
  for (const LevelSpec& level : model.levels) levels.push_back(to_string(level));
  json fields{{"channels", model.channels},
              {"levels", levels},
              {"order", to_string(model.order)},
              {"activation", to_string(model.activation)},
              {"norm", to_string(model.norm)},
              {"latent-channels", model.latent_channels},
              {"latent", model.latent},
              {"size", to_string(model.size)},
              {"output", to_string(model.output)},
              {"variational", model.variational}};
  if (!model.detector.empty()) fields["detector"] = model.detector;
  if (model.shortcut != Shortcut::none) fields["shortcut"] = to_string(model.shortcut);
  if (model.linear != Linear::none) fields["linear"] = to_string(model.linear);
  if (model.skip != Skip::none) fields["skip"] = to_string(model.skip);
  if (model.residual) fields["residual"] = true;
  return fields;
}

ModelOptions model_from_json(const json& spec) {
  ModelOptions model;
  model.channels = spec.at("channels").get<std::int64_t>();
  model.levels.clear();
  for (const json& level : spec.at("levels")) {
    model.levels.push_back(parse_level(level.get<std::string>()));
  }
  model.order = named<Order>(spec, "order");
  model.activation = named<Activation>(spec, "activation");
  model.norm = named<Norm>(spec, "norm");
  model.latent_channels = spec.at("latent-channels").get<std::int64_t>();
  model.latent = spec.at("latent").get<std::int64_t>();
  const auto size = parse_size(spec.at("size").get<std::string>());
  if (!size) throw std::invalid_argument("size is not HxW");
  model.size = *size;
  model.output = named<Output>(spec, "output");
  // Added within a format: older checkpoints do not have it.
  model.variational = spec.value("variational", false);
  model.detector = spec.value("detector", std::vector<std::int64_t>());
  if (spec.contains("shortcut")) model.shortcut = named<Shortcut>(spec, "shortcut");
  if (spec.contains("linear")) model.linear = named<Linear>(spec, "linear");
  if (spec.contains("skip")) model.skip = named<Skip>(spec, "skip");
  model.residual = spec.value("residual", false);
  model.validate();
  return model;
}

/// Calls `use` with key and member of what JSON holds as it is. Checkpoints from before a key was
/// added to a format lack it; `needed` are those that all have.
template <typename AnyProgress, typename Use>
void for_each_field(AnyProgress& progress, const Use& use) {
  constexpr bool needed = true;
  use("epoch-position", progress.epoch_position, needed);
  use("optimizer-steps", progress.optimizer_steps, needed);
  use("skipped-steps", progress.skipped_steps, !needed);
  use("seconds", progress.seconds, !needed);
  use("epoch-loss-sum", progress.epoch_loss_sum, needed);
  use("epoch-images", progress.epoch_images, needed);
  use("epoch-train-seconds", progress.epoch_train_seconds, needed);
  use("epoch-lr", progress.epoch_lr, needed);
  use("best-epoch", progress.best_epoch, needed);
  use("patience-start", progress.patience_start, !needed);
  use("lr-falls", progress.lr_falls, !needed);
  use("plateau-start", progress.plateau_start, !needed);
  use("stopped-early", progress.stopped_early, needed);
}

json to_json(const Progress& progress) {
  // JSON has no NaN or infinity: a best value that does not exist yet is written as null.
  json fields{{"best-by", to_string(progress.best_by)}, {"best-loss", progress.best_value}};
  for_each_field(progress, [&](const char* key, const auto& value, bool) { fields[key] = value; });
  return fields;
}

void read_progress(const json& fields, Progress& progress) {
  for_each_field(progress, [&](const char* key, auto& value, bool needed) {
    if (needed || fields.contains(key)) fields.at(key).get_to(value);
  });
  const json& best_value = fields.at("best-loss");
  if (!best_value.is_null()) progress.best_value = best_value.get<double>();
  if (fields.contains("best-by")) progress.best_by = named<BestBy>(fields, "best-by");
  const bool counts = progress.epoch >= 0 && progress.step >= 0 && progress.epoch_position >= 0 &&
                      progress.optimizer_steps >= 0 && progress.epoch_images >= 0;
  if (!counts) throw std::invalid_argument("a negative count of epochs, steps or images");
  if (progress.seconds < 0) throw std::invalid_argument("a negative time");
}

/// Whether version 0.1 knew all that the model has.
bool is_of_version_0_1(const ModelOptions& model) {
  return model.detector.empty() && model.shortcut == Shortcut::none &&
         model.linear == Linear::none && model.has_latents() &&
         std::ranges::all_of(model.levels,
                             [](const LevelSpec& level) { return level.residual_blocks == 0; });
}

std::string to_metadata(const CheckpointInfo& info) {
  const json range = info.model.output == Output::tanh ? json{-1, 1} : json{0, 1};
  json data{{"channels", info.model.channels}, {"range", range}};
  if (info.value_range.is_fixed()) data["value-range"] = to_string(info.value_range);
  return json{{"format", info.format},
              {"convae", info.convae_version},
              {"libtorch", info.libtorch_version},
              {"model", to_json(info.model)},
              {"data", data},
              {"epoch", info.progress.epoch},
              {"step", info.progress.step},
              {"seed", info.seed},
              {"progress", to_json(info.progress)},
              {"images", info.images},
              {"config", info.config},
              {kDigestKey, kDigestPlaceholder}}
      .dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

CheckpointInfo from_metadata(const std::string& text, const std::string& source) {
  CheckpointInfo info;
  try {
    const json metadata = json::parse(text);
    if (metadata.contains("features") && !metadata.contains("format")) {
      refuse(source,
             "it is what score has learnt of a run, not a checkpoint; name the run's folder");
    }
    info.format = metadata.at("format").get<int>();
    if (info.format < CheckpointInfo::kOldFormat || info.format > CheckpointInfo::kFormat) {
      refuse(source,
             "checkpoint format {}, but this version of convae reads formats 1 and 2; use the "
             "convae that wrote it ({})",
             info.format, printable(metadata.value("convae", "version unknown")));
    }
    info.convae_version = metadata.at("convae").get<std::string>();
    info.libtorch_version = metadata.at("libtorch").get<std::string>();
    info.model = model_from_json(metadata.at("model"));
    info.value_range =
        parse_value_range(metadata.value("data", json::object()).value("value-range", "full"));
    if (info.value_range.kind == ValueRange::Kind::automatic) {
      throw std::invalid_argument("the value range is not known");
    }
    info.progress.epoch = metadata.at("epoch").get<std::int64_t>();
    info.progress.step = metadata.at("step").get<std::int64_t>();
    info.seed = metadata.at("seed").get<std::uint64_t>();
    read_progress(metadata.at("progress"), info.progress);
    info.images = metadata.value("images", "");
    info.config = metadata.at("config").get<std::string>();
    metadata.at(kDigestKey);  // a checkpoint without its checksum was tampered with
  } catch (const json::exception& error) {
    refuse(source, "its description is damaged: {}", error.what());
  } catch (const std::invalid_argument& error) {
    refuse(source, "its description does not work: {}", error.what());
  }
  return info;
}

bool belongs_to_model(const std::string& name) {
  return !name.starts_with("optimizer.") && !name.starts_with(kAveragePrefix);
}

bool is_finite(const torch::Tensor& tensor) {
  return !tensor.is_floating_point() || torch::isfinite(tensor).all().item<bool>();
}

/// A description must not make us build a model that its file has no weights for.
void check_weights_are_there(const Checkpoint& checkpoint, const std::string& source) {
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (belongs_to_model(name)) numbers += tensor.numel();
  }
  const std::int64_t needed = checkpoint.info.model.parameter_count();
  if (numbers < needed) {
    refuse(source, "its architecture needs {} weights, but the file holds {}", needed, numbers);
  }
}

}  // namespace

std::map<std::string, torch::Tensor> weights_of(const torch::nn::Module& net) {
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& item : net.named_parameters()) tensors[item.key()] = item.value();
  for (const auto& item : net.named_buffers()) tensors[item.key()] = item.value();
  return tensors;
}

std::string model_json(const ModelOptions& model) { return to_json(model).dump(); }

void save_checkpoint(const fs::path& path, const Autoencoder& net, const Optimizer* optimizer,
                     CheckpointInfo info, const WeightAverage* average) {
  // Version 0.1 would stop at the options in the configuration that it does not know.
  const bool is_old =
      info.config.empty() && !info.value_range.is_fixed() && is_of_version_0_1(net->options());
  info.format = is_old ? CheckpointInfo::kOldFormat : CheckpointInfo::kFormat;
  info.convae_version = kVersion;
  info.libtorch_version = TORCH_VERSION;
  info.model = net->options();
  std::map<std::string, torch::Tensor> tensors = weights_of(*net);
  if (optimizer != nullptr) {
    info.progress.optimizer_steps = optimizer->steps();
    tensors.merge(optimizer->state());
  }
  if (average != nullptr) tensors.merge(average->state());
  for (const auto& [name, tensor] : tensors) {
    if (is_finite(tensor)) continue;
    throw CheckpointError(in_quotes(path) + " is not written: '" + name +
                          "' holds values that are not finite; try a lower lr or clip-grad 1");
  }
  write_safetensors(path, tensors, {kPyTorchFormat, {kMetadataKey, to_metadata(info)}});
}

Checkpoint read_weights_file(const fs::path& path) {
  Safetensors file = read_safetensors(path);
  for (const auto& [name, tensor] : file.tensors) {
    if (is_finite(tensor)) continue;
    refuse(in_quotes(path), "{} holds values that are not finite", in_quotes(name));
  }
  const auto metadata = file.metadata.find(kMetadataKey);
  if (metadata == file.metadata.end()) {
    Checkpoint plain{{}, std::move(file.tensors), false};
    const auto range = file.metadata.find("value-range");  // of weights that convae exported
    try {
      if (range != file.metadata.end()) plain.info.value_range = parse_value_range(range->second);
    } catch (const OptionError&) {  // it means something else in another program
    }
    return plain;
  }
  Checkpoint checkpoint{from_metadata(metadata->second, in_quotes(path)), std::move(file.tensors)};
  check_weights_are_there(checkpoint, in_quotes(path));
  return checkpoint;
}

Checkpoint read_checkpoint(const fs::path& path) {
  Checkpoint checkpoint = read_weights_file(path);
  if (checkpoint.is_described) return checkpoint;
  refuse(in_quotes(path),
         "not a convae checkpoint, as in a run's folder; weights alone, such as exported ones, can "
         "start a run with train --init");
}

Checkpoint read_last_checkpoint(const fs::path& run) {
  const fs::path last = run / "weights" / "last.safetensors";
  if (!is_there(last)) {
    throw std::runtime_error("--resume " + in_quotes(run) +
                             (fs::exists(run) ? ": there is no weights/last.safetensors in it"
                                              : ": there is no such run folder"));
  }
  return read_checkpoint(last);
}

void load_weights(Autoencoder& net, const std::map<std::string, torch::Tensor>& tensors,
                  const std::string& source) {
  torch::NoGradGuard no_grad;
  std::map<std::string, torch::Tensor> targets = weights_of(*net);
  for (const auto& [name, saved] : tensors) {
    if (!belongs_to_model(name)) continue;
    const auto target = targets.find(name);
    if (target == targets.end()) {
      refuse(source, "it holds {}, which this architecture does not have", in_quotes(name));
    }
    if (saved.sizes() != target->second.sizes()) {
      refuse(source, "{} has shape {}, but this architecture expects {}", in_quotes(name),
             c10::str(saved.sizes()), c10::str(target->second.sizes()));
    }
  }
  for (const auto& [name, target] : targets) {
    // Frameworks that do not count batches leave this out; it only shapes the first steps.
    if (tensors.contains(name) || name.ends_with("num_batches_tracked")) continue;
    refuse(source, "'{}' is missing, which this architecture needs", name);
  }
  for (auto& [name, target] : targets) {
    if (const auto saved = tensors.find(name); saved != tensors.end()) target.copy_(saved->second);
  }
}

std::map<std::string, torch::Tensor> tensors_to_use(const Checkpoint& checkpoint) {
  std::map<std::string, torch::Tensor> tensors = checkpoint.tensors;
  // A weight that is missing stays missing: the file is damaged, whatever its average says.
  for (auto& [name, tensor] : tensors) {
    const auto average = checkpoint.tensors.find(kAveragePrefix + name);
    if (average != checkpoint.tensors.end()) tensor = average->second;
  }
  return tensors;
}

fs::path find_checkpoint(const fs::path& run_or_file) {
  std::error_code error;
  if (!fs::is_directory(run_or_file, error)) {
    if (!fs::exists(run_or_file)) {  // throws where it cannot be looked for
      const fs::path gone = fs::read_symlink(run_or_file, error);  // `latest` of a moved run
      throw CheckpointError("there is no checkpoint or run folder " + in_quotes(run_or_file) +
                            (gone.empty() ? "" : "; it leads to " + in_quotes(gone)));
    }
    return run_or_file;
  }
  for (const char* name : {"best.safetensors", "last.safetensors"}) {
    fs::path file = run_or_file / "weights" / name;
    if (fs::exists(file, error)) return file;
    if (error) {
      throw CheckpointError("cannot read " + in_quotes(file) + ": " + error.message());
    }
  }
  throw CheckpointError(in_quotes(run_or_file) +
                        " is not a run folder: it has no weights/best.safetensors or "
                        "weights/last.safetensors");
}

}  // namespace convae
