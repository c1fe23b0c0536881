#include "convae/exporting/description.h"

#include "convae/core/version.h"

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
  switch (part) {
    case Part::autoencoder:
      return *model.net();
    case Part::encoder:
      return *model.net()->encoder;
    case Part::decoder:
      return *model.net()->decoder;
  }
  return *model.net();
}

}  // namespace convae
