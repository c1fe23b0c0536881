#pragma once

#include "convae/app/options/options.h"
#include "convae/core/callbacks.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"

#include <string>

/// What several commands need before they can begin.
namespace convae::app {

/// Throws UsageError saying that `flag` is needed where `value` is empty.
void require_given(const std::string& value, const char* flag, const char* example);

/// The model of --checkpoint, on --device with --threads, with a line in the log.
Model open_model(const Options& options, const Callbacks& callbacks);

/// The images of --data for that model. Throws UsageError where --checkpoint or --data is missing
/// or an option cannot work.
FolderOptions folder_options(const Options& options);

}  // namespace convae::app
