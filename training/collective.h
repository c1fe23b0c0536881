#pragma once

#include "convae/core/callbacks.h"
#include "convae/core/machine.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace at {
class Tensor;
}

namespace convae {

/// Processes ("ranks") that train one network together, or share a job over a folder. This class is
/// one process alone, for which there is nothing to do; an engine such as MPI or NCCL overrides it.
/// Every rank must make the same calls in the same order, with spans of the same length, from one
/// thread.
class Collective {
public:
  virtual ~Collective() = default;

  virtual std::int64_t rank() const { return 0; }
  virtual std::int64_t size() const { return 1; }
  /// Each value becomes its sum over all ranks.
  virtual void sum(std::span<double> /*values*/) {}
  virtual void sum(std::span<float> /*values*/) {}
  /// The same of values in the memory of device().
  virtual void sum_on_device(std::span<double> values) { sum(values); }
  virtual void sum_on_device(std::span<float> values) { sum(values); }
  /// What `rank` has, everywhere.
  virtual void broadcast(std::span<std::byte> /*bytes*/, std::int64_t /*rank*/) {}
  /// Returns once all ranks have come here.
  virtual void barrier() {}

  /// What this rank computes on: "cpu", or a GPU of its own, such as "cuda:1".
  virtual std::string device() const { return "cpu"; }
  /// What this rank has of its machine, which it may share with others.
  virtual MachineShare machine() const { return {}; }
  /// For people, such as "Open MPI 4.1.4".
  virtual std::string name() const { return "one process"; }
  /// The last call: with 0 all ranks end in order; else all of them end now, with that exit code.
  virtual void end(int /*code*/) {}
};

/// The ranks of this process: itself alone, unless start_ranks() or use_ranks() found others.
Collective& ranks();

/// Training goes on with those ranks; null: alone. They must live as long as they are used.
void use_ranks(Collective* engine);

/// While it lives, this rank works as one process alone: the others wait for it, or do not need it.
class Alone {
public:
  Alone();
  ~Alone();
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

private:
  Collective* others_;
};

inline bool leads() { return ranks().rank() == 0; }

/// Each value, a contiguous double or float on the CPU or the ranks' device, becomes its sum.
void sum_over_ranks(const at::Tensor& values);

/// Of things to do, in their order, those of this rank.
template <typename T>
std::vector<T> own_items(std::vector<T> all) {
  std::vector<T> own;
  for (auto i = ranks().rank(); i < std::ssize(all); i += ranks().size()) {
    own.push_back(std::move(all[static_cast<std::size_t>(i)]));
  }
  return own;
}

/// True on every rank if it is on one of them.
bool on_any_rank(bool here);

/// The smallest value of all ranks.
std::int64_t least_of_ranks(std::int64_t value);

/// The device that each of several ranks computes on, or `device` where there is one rank. Throws
/// OptionError where they are to use another.
std::string device_of_ranks(const std::string& device);

/// use_threads() with the smallest number of all ranks, so that they compute alike; says how many
/// ranks there are.
std::int64_t use_threads_of_ranks(std::int64_t threads, const Callbacks& callbacks);

/// What each rank says, by rank.
std::vector<std::string> said_by_ranks(const std::string& mine);

/// What rank 0 says.
std::string said_by_first_rank(const std::string& mine);

/// Who started this process as one of several, as its environment tells.
struct Launch {
  enum class Kind { open_mpi, pmi, slurm, torchrun };
  Kind kind{};
  std::int64_t rank = 0;
  std::int64_t size = 0;  ///< 0: only the engine knows
};

/// Nothing where the process was started alone. `variable` gives a variable of its environment.
std::optional<Launch> find_launch(const std::function<const char*(const char* name)>& variable =
                                      [](const char* name) { return std::getenv(name); });

/// "mpirun", "srun" or "torchrun".
const char* launcher_name(Launch::Kind kind);

/// Joins the other ranks that the launcher started: loads libconvae_mpi.so, or for torchrun
/// libconvae_nccl.so, which come with convae. Does nothing where there is one process. Throws
/// std::runtime_error where there are several and nothing connects them.
void start_ranks();

}  // namespace convae
