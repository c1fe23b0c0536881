#pragma once

#include "convae/app/options/command_line.h"
#include "convae/app/options/resume.h"
#include "convae/inference/model.h"
#include "convae/inference/options.h"
#include "convae/inspection/inspector.h"

#include <string>
#include <utility>
#include <vector>

namespace convae::app {

/// Exit codes of the program; 128 + the signal where one stopped it.
enum ExitCode : int { kDone = 0, kFailed = 1, kUsage = 2, kAnomaly = 3 };

/// As --help and the manual page show them.
inline constexpr std::pair<const char*, const char*> kExitCodes[] = {
    {"0", "Done, also if files were skipped."},
    {"1", "Failed at run time."},
    {"2", "Bad usage or configuration; one line says what to change."},
    {"3", "score --fail-on-anomaly found an anomaly."},
    {"129, 130, 143", "Stopped by SIGHUP, Ctrl-C or SIGTERM, after saving."}};

struct Command {
  const char* name;
  const char* summary;
  const char* usage;  ///< the words that are always needed
  /// Returns the exit code. Throws OptionError for bad usage, others for what fails at run time.
  int (*run)(const CommandLine& line);
  bool shares_work = false;  ///< several ranks can do it together
  std::size_t operands = 0;  ///< words it takes that are no options
};

/// Every command, in the order of the help.
const std::vector<Command>& command_list();

/// Throws OptionError naming the nearest.
const Command& find_command(const std::string& name);

int run_train(const CommandLine& line);
int run_reconstruct(const CommandLine& line);
int run_encode(const CommandLine& line);
int run_decode(const CommandLine& line);
int run_sample(const CommandLine& line);
int run_interpolate(const CommandLine& line);
int run_export(const CommandLine& line);
int run_evaluate(const CommandLine& line);
int run_calibrate(const CommandLine& line);
int run_score(const CommandLine& line);
int run_score_folds(const CommandLine& line);  ///< score --folds
int run_shapes(const CommandLine& line);
int run_info(const CommandLine& line);
int run_pack(const CommandLine& line);
int run_bench(const CommandLine& line);
int run_completion(const CommandLine& line);
int run_man(const CommandLine& line);

// What several commands need before they can begin; OptionError where it is not given.

/// Says that `flag` is needed where `value` is empty.
void require_given(const std::string& value, const char* flag, const char* example);
void require_checkpoint(const Options& options);

/// A job with those options; `words` are the command line's.
TrainJob train_job(const TrainingOptions& given, const std::vector<std::string>& words);

/// The model of --checkpoint, on --device with --threads, with a line in the log.
Model open_model(const Options& options);

/// Says where the inspector's good images are too few to show such a rate.
void warn_of_rate(const Inspector& inspector, double fpr, const Callbacks& callbacks);

/// The images of --data for that model.
FolderOptions folder_options(const Options& options);

/// Makes `model` one for images such as "3x24x24", what --input gives, and returns their size.
Size set_input(ModelOptions& model, const std::string& text);

/// Sends out what was printed so far. Throws std::runtime_error where the standard output cannot be
/// written.
void flush_results();

/// To be called before a command writes its first file: until then SIGHUP, SIGINT and SIGTERM end
/// the program at once, from then on the command ends as it sees fit.
void stop_in_order();

/// From now on they end the program at once again.
void stop_at_once();

/// True once after each SIGUSR1.
bool take_save_signal();

/// The signal that asked the program to stop, or 0. A second one ends the program at once.
int stop_signal();

}  // namespace convae::app
