#include "convae/exporting/export.h"

#include "convae/core/version.h"
#include "convae/exporting/formats.h"
#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint.h"

namespace convae {
namespace {

ExportDescription describe(const Model& model, const ExportOptions& options) {
  const ModelOptions& spec = model.options();
  const Size fixed = options.fixed_size(spec);
  return {{"channels", std::to_string(spec.channels)},
          {"range", spec.output == Output::tanh ? "[-1,1]" : "[0,1]"},
          {"value-range", to_string(model.info().value_range)},
          {"model", model_json(spec)},
          {"version", kVersion},
          {"part", to_string(options.part)},
          {"input", fixed.h > 0 ? to_string(fixed) : "any"},
          {"smallest-input", to_string(fixed.h > 0 ? fixed : smallest_input(spec.levels))},
          {"epoch", std::to_string(model.info().progress.epoch)},
          {"step", std::to_string(model.info().progress.step)}};
}

}  // namespace

const torch::nn::Module& part_of(const Model& model, Part part) {
  const Autoencoder net = model.net();
  if (part == Part::encoder) return *net->encoder;
  if (part == Part::decoder) return *net->decoder;
  return *net;
}

void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options) {
  options.validate(model.options());
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

}  // namespace convae
