#include "convae/inspection/saved_inspector.h"

#include "convae/core/errors.h"
#include "convae/core/files.h"
#include "convae/core/text.h"
#include "convae/core/version.h"
#include "convae/data/split.h"
#include "convae/inference/folder.h"
#include "convae/inspection/scorer.h"
#include "convae/training/collective.h"
#include "convae/training/safetensors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace convae {
namespace {

namespace fs = std::filesystem;

/// How scores come about, counted up when that changes: a file of another way is of no use.
constexpr int kWayOfScoring = 6;
constexpr const char* kNative = "native";  // images at their own sizes

std::string scores_name(std::size_t way) {
  std::string name = std::string("scores.") + to_string(static_cast<Way>(way));
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

/// What was read of a value, if it is one that this version knows.
template <typename T>
T known(const std::optional<T>& read, const char* key, const std::string& value) {
  if (!read) throw std::out_of_range(fmt::format("its {} is {}", key, in_quotes(value)));
  return *read;
}

Precision precision_of(const nlohmann::json& about) {
  // Files of before do not say it.
  const std::string precision = about.value("precision", to_string(Precision::fp32));
  return known(parse_name<Precision>(precision), "precision", precision);
}

/// Size, grouping and, if they were named, good images.
CalibrateOptions options_of(const nlohmann::json& about) {
  CalibrateOptions options;
  const auto size = about.at("size").get<std::string>();
  options.size = size == kNative ? Size{} : known(parse_size(size), "size", size);
  options.group_regex = about.at("group-regex").get<std::string>();
  if (!about.contains("good")) return options;
  DataOptions& good = options.good.data;
  good.data = about.at("good").get<std::string>();
  good.include = about.at("include").get<std::vector<std::string>>();
  good.exclude = about.at("exclude").get<std::vector<std::string>>();
  return options;
}

[[noreturn]] void refuse_saved(const fs::path& file, const std::exception& error) {
  throw SafetensorsError(in_quotes(file) + " is not what convae calibrate writes (" +
                         first_line(error.what()) + "); remove it, or calibrate again");
}

bool are_there(const DataOptions& good) {
  try {
    return has_good_images(good);
  } catch (const std::runtime_error&) {
    return false;
  }
}

void require_size(const Inspector& saved, const std::optional<Size>& asked) {
  const Size size = asked.value_or(saved.size());
  require_option(fixed_network_size(size, saved.model().options()) == saved.size(),
                 fmt::format("--size {}: the run was calibrated at {}; leave it out, or calibrate "
                             "again with convae calibrate --size",
                             size_text(size), size_text(saved.size())));
}

/// Whether that is how the run is calibrated where nothing else is asked for.
bool is_usual(const CalibrateOptions& asked, const CalibrateOptions& usual, const Model& model) {
  const DataOptions a = asked.complete(model).data, b = usual.complete(model).data;
  return a.size == b.size && a.group_regex == b.group_regex && a.max_pixels >= b.max_pixels;
}

void keep(const Inspector& inspector, const Callbacks& callbacks) {
  const Model& model = inspector.model();
  if (model.run().empty()) {
    return callbacks.warn(
        "a checkpoint file keeps no calibration: name its run folder, and the next call "
        "is faster and needs no good images");
  }
  if (!leads()) return;
  try {
    // What there is for these weights was asked for: only calibrate replaces that.
    if (!kept_inspector(model)) inspector.save(inspector_file(model.run()));
  } catch (const std::runtime_error& error) {
    callbacks.warn("the calibration is not kept: " + first_line(error.what()));
  }
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
  if (!good_.data.empty()) {
    about["good"] = good_.data;
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
    if (about.value("features", 1) != kWayOfScoring || weights != model.weights_digest() ||
        about.at("value-range").get<std::string>() != to_string(model.info().value_range)) {
      return std::nullopt;
    }
    const CalibrateOptions options = options_of(about);
    Inspector inspector(model.in_precision(precision_of(about)), *options.size,
                        *options.group_regex, std::make_shared<AnomalyScorer>(saved.tensors));
    inspector.good_ = options.good.data;
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

std::optional<Inspector> kept_inspector(const Model& model) {
  const fs::path file = inspector_file(model.run());
  return fs::exists(file) ? Inspector::load(model, file) : std::nullopt;
}

Inspector inspector_of_run(const Model& model) {
  require_option(!model.run().empty(),
                 "--checkpoint " + in_quotes(model.path()) +
                     ": what was learnt of good images is kept in a run folder; name that, such as "
                     "runs/latest");
  if (const auto kept = kept_inspector(model)) return *kept;
  const fs::path file = inspector_file(model.run());
  throw std::runtime_error(
      in_quotes(file) +
      (fs::exists(file) ? " is of other weights or of another version" : " is not there") +
      "; run convae calibrate --checkpoint " + shell_word(model.run().string()));
}

Inspector calibrate_run(const Model& model, const CalibrateOptions& options,
                        const Callbacks& callbacks) {
  require_option(!model.run().empty(),
                 "--checkpoint " + in_quotes(model.path()) +
                     ": calibrate keeps what it learns in a run folder, such as runs/latest");
  // Whether it can be written is to be known before the work.
  if (leads()) AtomicFile trial(inspector_file(model.run()));
  Inspector inspector = Inspector::calibrate(model, options, callbacks);
  if (leads()) inspector.save(inspector_file(model.run()));
  return inspector;
}

CalibrateOptions as_calibrated_before(Model& model, const Callbacks& callbacks) {
  CalibrateOptions options;
  const fs::path file = inspector_file(model.run());
  nlohmann::json about;
  try {
    about = nlohmann::json::parse(read_saved(file).metadata.at(kMetadataKey));
  } catch (const std::exception&) {
    return options;  // there is none, or it is damaged
  }
  Precision precision{};
  try {
    options = options_of(about);
    precision = precision_of(about);
  } catch (const std::exception& error) {
    refuse_saved(file, error);
  }
  model = model.in_precision(precision);
  DataOptions& good = options.good.data;
  if (!good.data.empty() && !are_there(good)) {
    callbacks.warn("the images of --good " + in_quotes(good.data) +
                   ", on which the run was calibrated, are gone: those of the run are used");
    good = {};
  }
  return options;
}

Inspector inspector_for(Model model, CalibrateOptions options, const Callbacks& callbacks,
                        const std::function<void(const Model&, Size)>& prepare) {
  const fs::path file = inspector_file(model.run());
  const bool may_keep = options.good.data.data.empty();
  CalibrateOptions usual;
  if (may_keep && fs::exists(file)) {
    const std::optional<Inspector> saved = Inspector::load(model, file);
    if (saved) require_size(*saved, options.size);
    if (saved && options.group_regex.value_or(saved->group_regex()) == saved->group_regex()) {
      callbacks.say(fmt::format("calibrated before, on {} good images at size {} in {}: {}",
                                saved->calibration().images(), size_text(saved->size()),
                                to_string(saved->calibration().precision),
                                printable(file.string())));
      if (prepare) prepare(saved->model(), saved->size());
      return *saved;
    }
    callbacks.say(saved ? "calibrating again, with another --group-regex"
                        : printable(file.string()) +
                              " is of other weights or of another version: calibrating again");
    usual = as_calibrated_before(model, callbacks);
    if (!options.size) options.size = usual.size;
    if (!options.group_regex) options.group_regex = usual.group_regex;
    DataOptions& good = options.good.data;
    good.data = usual.good.data.data;
    good.include = usual.good.data.include;
    good.exclude = usual.good.data.exclude;
  }
  if (prepare) prepare(model, options.complete(model).data.size);
  const Inspector inspector = Inspector::calibrate(model, options, callbacks);
  if (may_keep && is_usual(options, usual, model)) keep(inspector, callbacks);
  return inspector;
}

}  // namespace convae
