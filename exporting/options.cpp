#include "convae/exporting/options.h"

#include "convae/core/errors.h"

#include <fmt/format.h>

namespace convae {

void ExportOptions::validate(const ModelOptions& model) const {
  if (part == Part::inspector) {
    require_option(format != ExportFormat::safetensors,
                   "part inspector: safetensors files hold weights only; use onnx or torchscript");
  }
  if (part == Part::encoder || part == Part::decoder) {
    model.require_latents(std::string("part ") + to_string(part));
  }
  if (size.h == 0) return;
  require_option(format == ExportFormat::onnx,
                 fmt::format("input {}: only onnx files can be made for one size; a {} file takes "
                             "every size the {} does: leave it out",
                             to_string(size), to_string(format), to_string(part)));
  require_option(model.latent == 0 || size == model.size,
                 fmt::format("input {}: this model has a dense latent and takes images of {} only",
                             to_string(size), to_string(model.size)));
  if (const auto reason = why_impossible(model.levels, size)) throw OptionError(*reason);
}

Size ExportOptions::fixed_size(const ModelOptions& model) const {
  return model.latent > 0 ? model.size : size;
}

}  // namespace convae
