#pragma once

#include "convae/app/options/command_line.h"

#include <string>
#include <vector>

namespace convae::app {

/// Exit codes of the program.
enum ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kAnomaly = 3,
  kInterrupted = 130,
  kTerminated = 143
};

/// Each command takes its words and returns the exit code. Throws UsageError for bad usage and
/// other exceptions for what fails at run time.
int run_train(const CommandLine& line);
int run_reconstruct(const CommandLine& line);
int run_encode(const CommandLine& line);
int run_decode(const CommandLine& line);
int run_score(const CommandLine& line);
int run_shapes(const CommandLine& line);
int run_sample(const CommandLine& line);
int run_interpolate(const CommandLine& line);
int run_export(const CommandLine& line);
int run_evaluate(const CommandLine& line);
int run_info(const CommandLine& line);
int run_bench(const CommandLine& line);

/// To be called before a command writes its first file: until then SIGINT and SIGTERM end the
/// program at once, from then on the command ends as it sees fit.
void stop_in_order();

/// The signal that asked the program to stop (SIGINT or SIGTERM), or 0. The second one ends the
/// program at once.
int stop_signal();

}  // namespace convae::app
