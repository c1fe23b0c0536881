#include "convae/app/commands/needs.h"

#include "convae/core/device.h"

namespace convae::app {
namespace {

void require_checkpoint(const Options& options) {
  require_given(options.call.checkpoint, "checkpoint", "--checkpoint runs/latest");
}

}  // namespace

void require_given(const std::string& value, const char* flag, const char* example) {
  if (value.empty()) throw UsageError(std::string("--") + flag + " is needed, such as " + example);
}

Model open_model(const Options& options, const Callbacks& callbacks) {
  require_checkpoint(options);
  use_threads(options.run.threads);
  Model model = load(options.call.checkpoint, options.run.device);
  callbacks.say(checkpoint_line(model));
  return model;
}

FolderOptions folder_options(const Options& options) {
  require_checkpoint(options);
  require_given(options.data.data, "data", "--data photos");
  FolderOptions folder{options.data, options.train.batch_size};
  folder.validate();
  return folder;
}

}  // namespace convae::app
