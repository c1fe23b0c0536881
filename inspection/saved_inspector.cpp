#include "convae/inspection/saved_inspector.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/text.h"
#include "convae/core/version.h"
#include "convae/data/split.h"
#include "convae/inference/folder.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/scorer.h"
#include "convae/inspection/views.h"
#include "convae/training/collective.h"
#include "convae/training/safetensors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace convae {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScoresPrefix = "scores.";
/// How scores come about, counted up when that changes: a file of another way is of no use.
constexpr int kWayOfScoring = 6;
constexpr const char* kNative = "native";  // images at their own sizes

std::string scores_name(std::size_t way) {
  std::string name = kScoresPrefix + std::string(to_string(static_cast<Way>(way)));
  std::ranges::replace(name, ' ', '-');
  return name;
}

std::string size_text(Size size) { return size ? to_string(size) : kNative; }

Safetensors read_saved(const fs::path& file) {
  try {
    return read_safetensors(file);
  } catch (const SafetensorsError&) {  // whose way out is that of checkpoints
    throw SafetensorsError(in_quotes(file) + " is damaged; remove it, or calibrate again");
  }
}

bool are_there(const GoodFolder& good) {
  DataOptions data;
  data.data = good.folder;
  data.include = good.include;
  data.exclude = good.exclude;
  try {
    return has_good_images(data);
  } catch (const std::runtime_error&) {
    return false;
  }
}

/// Names the images that a run was calibrated on, if they are there.
void take_over(const GoodFolder& good, CalibrateOptions& options, const Callbacks& callbacks) {
  if (good.folder.empty()) return;
  if (!are_there(good)) {
    return callbacks.warn("the images of --good " + in_quotes(good.folder) +
                          ", on which the run was calibrated, are gone: those of the run are used");
  }
  options.good.data.data = good.folder;
  options.good.data.include = good.include;
  options.good.data.exclude = good.exclude;
}

/// What the file says of itself; null where it cannot be read.
nlohmann::json about_saved(const fs::path& file) {
  try {
    return nlohmann::json::parse(read_saved(file).metadata.at(kMetadataKey));
  } catch (const std::exception&) {
    return {};
  }
}

/// What was read of a value, if it is one that this version knows.
template <typename T>
T known(const std::optional<T>& read, const char* key, const std::string& value) {
  if (!read) throw std::out_of_range(fmt::format("its {} is {}", key, in_quotes(value)));
  return *read;
}

Size size_of(const nlohmann::json& about) {
  const auto size = about.at("size").get<std::string>();
  return size == kNative ? Size{} : known(parse_size(size), "size", size);
}

Precision precision_of(const nlohmann::json& about) {
  // Files of before do not say it.
  const std::string precision = about.value("precision", to_string(Precision::fp32));
  return known(parse_name<Precision>(precision), "precision", precision);
}

/// Size and grouping, where the call asks for none.
void take_over_settings(const nlohmann::json& about, CalibrateOptions& options) {
  if (about.is_null()) return;
  if (!options.size) options.size = size_of(about);
  if (!options.group_regex) options.group_regex = about.at("group-regex").get<std::string>();
}

GoodFolder good_in(const nlohmann::json& about) {
  if (!about.contains("good")) return {};  // the run's own, or written by an older version
  return {about.at("good").get<std::string>(), about.at("include").get<std::vector<std::string>>(),
          about.at("exclude").get<std::vector<std::string>>()};
}

[[noreturn]] void refuse_saved(const fs::path& file, const std::exception& error) {
  throw SafetensorsError(in_quotes(file) + " is not what convae calibrate writes (" +
                         first_line(error.what()) + "); remove it, or calibrate again");
}

/// All that a calibration of the run was made with, of other weights, too.
void take_over_saved(Model& model, CalibrateOptions& options, const Callbacks& callbacks) {
  const fs::path file = inspector_file(model);
  const nlohmann::json about = about_saved(file);
  if (about.is_null()) return;
  Precision precision{};
  GoodFolder good;
  try {
    take_over_settings(about, options);
    precision = precision_of(about);
    good = good_in(about);
  } catch (const std::exception& error) {
    refuse_saved(file, error);
  }
  take_over(good, options, callbacks);
  model = model.in_precision(precision);
}

}  // namespace

void Inspector::save(const fs::path& file) const {
  AnomalyScorer::State tensors = scorer_->state();
  for (std::size_t way = 0; way < kWays; ++way) {
    std::vector<double> scores = calibration_.scores[way];
    std::ranges::sort(scores);
    tensors[scores_name(way)] = torch::tensor(scores, torch::kDouble);
  }
  nlohmann::ordered_json about = {{kDigestKey, kDigestPlaceholder},
                                  {"version", kVersion},
                                  {"features", kWayOfScoring},
                                  {"weights", model_.weights_digest()},
                                  {"value-range", to_string(model_.info().value_range)},
                                  {"size", size_text(size_)},
                                  {"group-regex", group_regex_},
                                  {"precision", to_string(model_.precision())},
                                  {"groups", calibration_.groups},
                                  {"training-images", calibration_.training_images}};
  if (!good_.folder.empty()) {
    about["good"] = good_.folder;
    about["include"] = good_.include;
    about["exclude"] = good_.exclude;
  }
  // A folder whose name is not UTF-8 is not found again; dump() alone would throw.
  const std::string text = about.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                                      nlohmann::ordered_json::error_handler_t::replace);
  write_safetensors(file, tensors, {{kMetadataKey, text}});
}

std::optional<Inspector> Inspector::load(const Model& model, const fs::path& file) {
  const Safetensors saved = read_saved(file);
  try {
    if (!saved.metadata.contains(kMetadataKey)) throw std::out_of_range("without metadata");
    const auto about = nlohmann::json::parse(saved.metadata.at(kMetadataKey));
    const auto weights = about.at("weights").get<std::string>();
    if (about.value("features", 1) != kWayOfScoring) return std::nullopt;
    if (weights != model.weights_digest()) return std::nullopt;
    if (about.at("value-range").get<std::string>() != to_string(model.info().value_range)) {
      return std::nullopt;
    }
    Inspector inspector(model.in_precision(precision_of(about)), size_of(about),
                        about.at("group-regex").get<std::string>(),
                        std::make_shared<AnomalyScorer>(saved.tensors));
    inspector.good_ = good_in(about);
    Calibration& calibration = inspector.calibration_;
    calibration.groups = about.at("groups").get<std::int64_t>();
    calibration.training_images = about.at("training-images").get<std::int64_t>();
    for (std::size_t way = 0; way < kWays; ++way) {
      const torch::Tensor scores = saved.tensors.at(scores_name(way)).to(torch::kDouble);
      calibration.scores[way].assign(scores.data_ptr<double>(),
                                     scores.data_ptr<double>() + scores.numel());
      if (calibration.scores[way].size() != calibration.images()) throw std::out_of_range("scores");
    }
    if (calibration.images() < AnomalyScorer::kFewestImages) throw std::out_of_range("scores");
    return inspector;
  } catch (const std::exception& error) {
    refuse_saved(file, error);
  }
}

fs::path inspector_file(const fs::path& run) {
  return run.empty() ? fs::path() : run / "inspector.safetensors";
}

fs::path inspector_file(const Model& model) { return inspector_file(model.run()); }

std::optional<Inspector> kept_inspector(const Model& model) {
  const fs::path file = inspector_file(model);
  if (file.empty() || !fs::exists(file)) return std::nullopt;
  return Inspector::load(model, file);
}

Inspector inspector_of_run(const Model& model) {
  require_option(!model.run().empty(),
                 "--checkpoint " + in_quotes(model.path()) +
                     ": what was learnt of good images is kept in a run folder; name that, such as "
                     "runs/latest");
  const fs::path file = inspector_file(model);
  const bool is_there = fs::exists(file);
  if (const auto kept = kept_inspector(model)) return *kept;
  throw std::runtime_error(
      in_quotes(file) +
      (is_there ? " is of other weights or of another version" : " is not there") +
      "; run convae calibrate --checkpoint " + shell_word(model.run().string()));
}

Inspector calibrate_run(const Model& model, const CalibrateOptions& options,
                        const Callbacks& callbacks) {
  require_option(!model.run().empty(),
                 "--checkpoint " + in_quotes(model.path()) +
                     ": calibrate keeps what it learns in a run folder, such as runs/latest");
  // Whether it can be written is to be known before the work.
  if (leads()) AtomicFile trial(inspector_file(model));
  Inspector inspector = Inspector::calibrate(model, options, callbacks);
  if (leads()) inspector.save(inspector_file(model));
  return inspector;
}

std::optional<Inspector> saved_inspector(Model& model, CalibrateOptions& options,
                                         const Callbacks& callbacks) {
  const fs::path file = inspector_file(model);
  if (!options.good.data.data.empty() || file.empty() || !fs::exists(file)) return std::nullopt;
  std::optional<Inspector> saved = Inspector::load(model, file);
  if (!saved) {
    callbacks.say(printable(file.string()) +
                  " is of other weights or of another version: calibrating again");
    take_over_saved(model, options, callbacks);
    return std::nullopt;
  }
  const Size asked =
      options.size ? fixed_network_size(*options.size, model.options()) : saved->size();
  require_option(asked == saved->size(),
                 fmt::format("--size {}: the run was calibrated at {}; leave it out, or calibrate "
                             "again with convae calibrate --size",
                             size_text(options.size.value_or(Size{})), size_text(saved->size())));
  model = saved->model();
  if (options.group_regex.value_or(saved->group_regex()) != saved->group_regex()) {
    callbacks.say("calibrating again, with another --group-regex");
    options.size = saved->size();
    take_over(saved->good(), options, callbacks);
    return std::nullopt;
  }
  callbacks.say(fmt::format("calibrated before, on {} good images at size {} in {}: {}",
                            saved->calibration().images(), size_text(saved->size()),
                            to_string(saved->calibration().precision), printable(file.string())));
  return saved;
}

Inspector inspector_for(Model model, CalibrateOptions options, const Callbacks& callbacks) {
  const bool may_keep = options.good.data.data.empty();
  const std::optional<Inspector> saved = saved_inspector(model, options, callbacks);
  return saved ? *saved : calibrate_and_keep(model, options, may_keep, callbacks);
}

CalibrateOptions as_calibrated_before(Model& model, const Callbacks& callbacks) {
  CalibrateOptions options;
  take_over_saved(model, options, callbacks);
  return options;
}

Inspector calibrate_and_keep(const Model& model, const CalibrateOptions& options, bool may_keep,
                             const Callbacks& callbacks) {
  Inspector inspector = Inspector::calibrate(model, options, callbacks);
  if (!may_keep) return inspector;
  // What one call asked for must not become every call's.
  CalibrateOptions usually;
  take_over_settings(about_saved(inspector_file(model)), usually);
  const DataOptions asked = options.complete(model).data;
  const DataOptions usual = usually.complete(model).data;
  const bool is_usual = asked.size == usual.size && asked.group_regex == usual.group_regex &&
                        asked.max_pixels >= usual.max_pixels;
  if (!is_usual) return inspector;
  if (model.run().empty()) {
    callbacks.warn(
        "a checkpoint file keeps no calibration: name its run folder, and the next call "
        "is faster and needs no good images");
    return inspector;
  }
  if (!leads()) return inspector;
  try {
    // What there is for these weights was asked for: only calibrate replaces that.
    if (!kept_inspector(model)) inspector.save(inspector_file(model));
  } catch (const std::runtime_error& error) {
    callbacks.warn("the calibration is not kept: " + first_line(error.what()));
  }
  return inspector;
}

}  // namespace convae
