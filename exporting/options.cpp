#include "convae/exporting/options.h"

#include "convae/core/errors.h"

#include <stdexcept>

namespace convae {

void ExportOptions::validate(const ModelOptions& model) const {
  if (size.h == 0) return;
  const std::string given = "input " + to_string(size) + ": ";
  if (format != ExportFormat::onnx) {
    throw OptionError(given + "only onnx files can be made for one size; a " + to_string(format) +
                      " file takes every size the model does");
  }
  if (model.latent > 0 && size != model.size) {
    throw OptionError(given + "this model has a dense latent and takes images of " +
                      to_string(model.size) + " only");
  }
  if (const auto reason = why_impossible(model.levels, size)) {
    throw OptionError(*reason);
  }
}

Size ExportOptions::fixed_size(const ModelOptions& model) const {
  return model.latent > 0 ? model.size : size;
}

}  // namespace convae
