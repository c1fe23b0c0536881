#include "convae/exporting/export.h"

#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/core/output_folder.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {
namespace fs = std::filesystem;
namespace {

ExportOptions export_options(const CommandLine& line) {
  const CallOptions& call = line.options.call;
  require_option(call.export_format.has_value(),
                 "--format is needed: onnx, torchscript or safetensors");
  require_option(call.part == Part::inspector || !line.has("fpr"),
                 "--fpr: only --part inspector has a threshold; leave it out");
  ExportOptions wanted{
      .format = *call.export_format, .part = call.part, .size = {}, .fpr = call.fpr};
  if (call.input.empty()) return wanted;
  const auto size = parse_size(call.input);
  require_option(size && size->h >= 1 && size->w >= 1,
                 "--input " + in_quotes(call.input) +
                     ": expected HxW, the size of the images, such as 96x128");
  wanted.size = *size;
  return wanted;
}

std::string images_taken(const ExportOptions& options, const ModelOptions& model) {
  const Size fixed = options.fixed_size(model);
  if (fixed) return "for images of " + to_string(fixed);
  const Size smallest = smallest_input(model.levels);
  return smallest == Size{1, 1} ? "for images of every size"
                                : "for images of " + to_string(smallest) + " and larger";
}

/// What the file's threshold cannot keep.
void warn_of_threshold(const Inspector& inspector, double fpr, const Callbacks& callbacks) {
  warn_of_rate(inspector, fpr, callbacks);
  const Precision precision = inspector.calibration().precision;
  if (precision == Precision::fp32) return;
  callbacks.warn(fmt::format(
      "the threshold was calibrated in {} and the file computes in fp32, whose scores differ a "
      "little; convae calibrate --precision fp32 gives its own",
      to_string(precision)));
}

/// What an export is made of, or its run goes on from, also where a file of the run is named.
std::vector<fs::path> files_to_keep(const Model& model) {
  std::vector<fs::path> files = {model.path()};
  const fs::path run = run_of(model.path());
  if (run.empty()) return files;
  files.push_back(inspector_file(run));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "weights", error)) {
    files.push_back(entry.path());
  }
  return files;
}

}  // namespace

int run_export(const CommandLine& line) {
  Options options = line.options;
  options.run.device = "cpu";  // a file's tensors are for every machine
  require_checkpoint(options);
  require_given(options.run.output, "output", "-o model.onnx");
  ExportOptions wanted = export_options(line);
  const fs::path target(options.run.output);
  std::error_code error;
  require_option(target.has_filename() && !fs::is_directory(target, error),
                 "--output " + in_quotes(options.run.output) +
                     ": expected the name of a file, such as model.onnx");
  OutputFolder output(fs::absolute(target).parent_path(), options.call.overwrite);
  const std::string name = output.reserve_exact(target.filename().string());
  const Model model = open_model(options);
  output.spare(files_to_keep(model));
  wanted.validate(model.options());
  if (wanted.part == Part::inspector) {
    const Inspector inspector = inspector_of_run(model);
    warn_of_threshold(inspector, wanted.fpr, program_callbacks(options.run));
    export_inspector(output.prepare(name), inspector, wanted);
    if (inspector.size()) wanted.size = inspector.size();
  } else {
    export_model(output.prepare(name), model, wanted);
  }
  fmt::print("{} {} in {}\n", to_string(wanted.part), images_taken(wanted, model.options()),
             printable(options.run.output));
  return kDone;
}

}  // namespace convae::app
