#include "convae/exporting/export.h"

#include "convae/core/errors.h"
#include "convae/core/version.h"
#include "convae/exporting/formats.h"
#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint.h"

#include <fmt/format.h>

#include <map>
#include <string>

namespace convae {
namespace {

ExportDescription describe(const Model& model, const ExportOptions& options) {
  const ModelOptions& spec = model.options();
  const Size fixed = options.fixed_size(spec);
  return {{"channels", std::to_string(spec.channels)},
          {"range",
           spec.output == Output::tanh && options.part != Part::inspector ? "[-1,1]" : "[0,1]"},
          {"value-range", to_string(model.info().value_range)},
          {"model", model_json(spec)},
          {"version", kVersion},
          {"part", to_string(options.part)},
          {"input", fixed.h > 0 ? to_string(fixed) : "any"},
          {"smallest-input", to_string(fixed.h > 0 ? fixed : smallest_input(spec.levels))},
          {"epoch", std::to_string(model.info().progress.epoch)},
          {"step", std::to_string(model.info().progress.step)}};
}

/// Other programs get the autoencoder.
Model without_detector(const Model& model) {
  if (model.options().detector.empty()) return model;
  CheckpointInfo info = model.info();
  info.model = model.options();
  info.model.detector.clear();
  std::map<std::string, torch::Tensor> weights = weights_of(*model.net());
  std::erase_if(weights, [](const auto& item) { return item.first.starts_with("detector."); });
  Autoencoder net(info.model);
  load_weights(net, weights, "the model");
  net->to(model.device());
  return Model(net, info, model.path(), model.run());
}

}  // namespace

const torch::nn::Module& part_of(const Model& model, Part part) {
  const Autoencoder net = model.net();
  if (part == Part::encoder) return *net->encoder;
  if (part == Part::decoder) return *net->decoder;
  return *net;
}

void export_model(const std::filesystem::path& path, const Model& whole,
                  const ExportOptions& options) {
  if (options.part == Part::inspector) {
    return export_inspector(path, inspector_of_run(whole), options);
  }
  options.validate(whole.options());
  const Model model = without_detector(whole);
  ExportDescription description = describe(model, options);
  switch (options.format) {
    case ExportFormat::onnx: return write_onnx(path, model, options, description);
    case ExportFormat::torchscript:
      return write_torchscript(path, model, options.part, description);
    case ExportFormat::safetensors:
      description.insert(kPyTorchFormat);
      return write_safetensors(path, weights_of(part_of(model, options.part)), description);
  }
}

void export_inspector(const std::filesystem::path& path, const Inspector& inspector,
                      ExportOptions options) {
  const Model& model = inspector.model();
  const Size calibrated = inspector.size();
  options.part = Part::inspector;
  options.validate(model.options());
  require_false_alarms(options.fpr);
  require_option(
      !options.size || !calibrated || options.size == calibrated,
      fmt::format("input {}: the inspector was calibrated at {} and takes images of that "
                  "size only",
                  to_string(options.size), to_string(calibrated)));
  if (calibrated) options.size = calibrated;
  ExportDescription description = describe(model, options);
  description["fpr"] = fmt::format("{}", options.fpr);
  description["threshold"] = fmt::format("{}", inspector.threshold(options.fpr));
  const Size fixed = options.fixed_size(model.options());
  if (options.format == ExportFormat::onnx) return write_onnx(path, inspector, fixed, description);
  write_torchscript(path, inspector, fixed, description);
}

}  // namespace convae
