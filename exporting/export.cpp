#include "convae/exporting/export.h"

#include "convae/exporting/description.h"
#include "convae/training/safetensors.h"

namespace convae {

void export_model(const std::filesystem::path& path, const Model& model,
                  const ExportOptions& options) {
  switch (options.format) {
    case ExportFormat::onnx:
      return export_onnx(path, model, options);
    case ExportFormat::torchscript:
      return export_torchscript(path, model, options);
    case ExportFormat::safetensors:
      return export_safetensors(path, model, options);
  }
}

void export_safetensors(const std::filesystem::path& path, const Model& model,
                        const ExportOptions& options) {
  options.validate(model.options());
  write_safetensors(path, weights_of(part_of(model, options.part)),
                    describe_export(model, options));
}

}  // namespace convae
