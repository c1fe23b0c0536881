#include "convae/app/program.h"

#include "convae/app/commands/commands.h"
#include "convae/app/options/command_line.h"
#include "convae/app/output/logging.h"
#include "convae/core/files.h"
#include "convae/core/version.h"
#include "convae/training/collective.h"

#include <c10/util/Exception.h>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <thread>

namespace convae::app {
namespace {

constexpr const char* kNoMemory =
    "there is not enough memory; try a smaller batch-size, size or number of channels";

constexpr const char* kNoGpuMemory =
    "the GPU has too little memory; try a smaller --batch-size or --size, or --device cpu";

volatile std::sig_atomic_t received_signal = 0;
volatile std::sig_atomic_t has_begun = 0;
volatile std::sig_atomic_t save_is_asked = 0;
volatile std::sig_atomic_t seconds_to_stop = 0;  // 0: any number

extern "C" void note_signal(int signal) {
  // The first asks for an orderly end, if there is anything to end; a second ends at once. A
  // closing terminal is no second: kernel and shell each send a SIGHUP.
  const bool is_second = received_signal != 0 && signal != SIGHUP;
  if (is_second || has_begun == 0) exit_without_unfinished_files(128 + signal);
  received_signal = signal;
  alarm(static_cast<unsigned>(seconds_to_stop));  // which comes as a second signal
}

extern "C" void note_save_signal(int /*signal*/) { save_is_asked = 1; }

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGALRM, &action, nullptr);
  struct sigaction save = action;
  save.sa_handler = note_save_signal;
  sigaction(SIGUSR1, &save, nullptr);
  // nohup ignores it, so that the program outlives its terminal.
  if (std::signal(SIGHUP, SIG_IGN) != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  // A file over the size limit (ulimit -f) is an error of its write, not the end of the program.
  std::signal(SIGXFSZ, SIG_IGN);
}

/// Commands that do not share their work would all write the same files.
void require_one_process(const std::string& command) {
  const std::optional<Launch> launch = find_launch();
  if (!launch) return;
  throw std::runtime_error(command + " works in one process, but " + launcher_name(launch->kind) +
                           " started several, which share the work of train, reconstruct, encode, "
                           "evaluate, calibrate and score alone (docs/scale.md)");
}

/// The first rank speaks for all.
void begin_with_ranks() {
  start_ranks();  // from here on, one that fails ends all
  // When a rank dies, torchrun asks the others to stop, which wait for that rank; it kills them 30
  // seconds later.
  if (ranks().size() > 1 && find_launch()->kind == Launch::Kind::torchrun) seconds_to_stop = 20;
  if (!leads() && std::freopen("/dev/null", "w", stdout) == nullptr) {
    throw std::runtime_error("/dev/null cannot be written");
  }
}

int execute(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    std::fputs(help_text("").c_str(), words.empty() ? stderr : stdout);
    return words.empty() ? kUsage : kDone;
  }
  if (words[0] == "--version") {
    std::printf("convae %s\n", kVersion);
    return kDone;
  }
  const Command& command = find_command(words[0]);
  if (command.shares_work) begin_with_ranks();
  const CommandLine line = read_command_line(words, defaults_of(words[0]));
  if (line.help) {
    std::fputs(help_text(line.command).c_str(), stdout);
    return kDone;
  }
  start_logging(line.options.run);
  watch_signals();
  if (!command.shares_work) require_one_process(line.command);
  return command.run(line);
}

/// In the words of other errors; what() has the name of a C++ function.
std::string reason_of(const std::filesystem::filesystem_error& error) {
  if (error.path1().empty()) return error.what();
  const std::filesystem::path& path = error.path2().empty() ? error.path1() : error.path2();
  return "cannot use " + in_quotes(path) + ": " + error.code().message();
}

/// One line: what() of LibTorch's errors carries a backtrace after the first. What goes wrong on
/// all ranks, the first one says; the job ends before another would.
int complain(const char* message, int code) {
  std::string line = first_line(message);
  if (tells_of_no_memory(line)) line = kNoMemory;
  const std::optional<Launch> launch = find_launch();
  if (launch && launch->rank > 0) {
    stop_at_once();  // when the launcher asks for it, because another rank has said it
    std::this_thread::sleep_for(std::chrono::seconds(1));
    if (ranks().size() == 1) return code;  // not connected, for a reason that holds for all
    line = "rank " + std::to_string(launch->rank) + ": " + line;
  }
  std::fprintf(stderr, "convae: %s\n", line.c_str());
  ranks().end(code);
  return code;
}

}  // namespace

void flush_results() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw std::runtime_error("cannot write the result to the standard output");
}

void stop_in_order() { has_begun = 1; }

void stop_at_once() { has_begun = 0; }

int stop_signal() { return received_signal; }

bool take_save_signal() {
  if (save_is_asked == 0) return false;
  save_is_asked = 0;
  return true;
}

int run_program(int argc, char** argv) noexcept {
  try {
    const int code = execute({argv + 1, argv + argc});
    flush_results();
    ranks().end(kDone);
    return code;
  } catch (const Interrupted& stop) {
    if (leads()) spdlog::warn("{}", stop.what());
    ranks().end(kDone);
    return stop_signal() != 0 ? 128 + stop_signal() : kDone;  // 0: another rank was asked to stop
  } catch (const OptionError& error) {
    return complain(error.what(), kUsage);
  } catch (const c10::OutOfMemoryError&) {
    return complain(kNoGpuMemory, kFailed);
  } catch (const c10::Error& error) {
    return complain(error.what_without_backtrace(), kFailed);
  } catch (const std::filesystem::filesystem_error& error) {
    return complain(reason_of(error).c_str(), kFailed);
  } catch (const std::bad_alloc&) {
    return complain(kNoMemory, kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}

}  // namespace convae::app
