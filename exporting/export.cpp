#include "convae/exporting/export.h"

#include "convae/core/version.h"
#include "convae/exporting/description.h"
#include "convae/models/autoencoder.h"
#include "convae/training/checkpoint.h"
#include "convae/training/safetensors.h"

namespace convae {

std::map<std::string, std::string> describe_export(const Model& model,
                                                   const ExportOptions& options) {
  const ModelOptions& spec = model.options();
  const Size fixed = options.fixed_size(spec);
  return {{"channels", std::to_string(spec.channels)},
          {"range", spec.output == Output::tanh ? "[-1,1]" : "[0,1]"},
          {"model", model_json(spec)},
          {"version", kVersion},
          {"part", to_string(options.part)},
          {"input", fixed.h > 0 ? to_string(fixed) : "any"},
          {"smallest-input", to_string(fixed.h > 0 ? fixed : smallest_input(spec.levels))},
          {"epoch", std::to_string(model.info().progress.epoch)},
          {"step", std::to_string(model.info().progress.step)}};
}

const torch::nn::Module& part_of(const Model& model, Part part) {
  const Autoencoder net = model.net();
  if (part == Part::encoder) return *net->encoder;
  if (part == Part::decoder) return *net->decoder;
  return *net;
}

void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options) {
  switch (options.format) {
    case ExportFormat::onnx: return export_onnx(path, model, options);
    case ExportFormat::torchscript: return export_torchscript(path, model, options);
    case ExportFormat::safetensors: return export_safetensors(path, model, options);
  }
}

void export_safetensors(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options) {
  options.validate(model.options());
  write_safetensors(path, weights_of(part_of(model, options.part)),
                    describe_export(model, options));
}

}  // namespace convae
