#include "convae/training/collective.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"
#include "convae/models/kernels/rank_sums.h"
#include "convae/training/shared_work.h"

#include <ATen/core/Tensor.h>

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace convae {
namespace {

Collective* engine_in_use = nullptr;

template <typename T>
void sum_values(const at::Tensor& values) {
  const std::span all(values.mutable_data_ptr<T>(), static_cast<std::size_t>(values.numel()));
  if (values.is_cpu()) {
    ranks().sum(all);
  } else {
    ranks().sum_on_device(all);
  }
}

/// The engine in a module that lies beside the program's libraries; null where that cannot be
/// loaded.
Collective* load_engine(const char* name) {
  // Open MPI's own modules look for its symbols among those of the program.
  void* module = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr) return nullptr;
  using Make = Collective* (*)();
  const auto make = reinterpret_cast<Make>(dlsym(module, "convae_engine"));
  if (make == nullptr) throw std::runtime_error(std::string(name) + " is not convae's");
  return make();
}

Collective* load_nccl(const Launch& launch) {
  Collective* engine = load_engine("libconvae_nccl.so");
  if (engine != nullptr) return engine;
  throw std::runtime_error(fmt::format(
      "started as {} processes by torchrun, which connects GPUs by NCCL, but that cannot be used "
      "here ({}); on CPUs: mpirun -n {} convae train …",
      launch.size, dlerror(), launch.size));
}

Collective* load_mpi(const Launch& launch) {
  const std::string started =
      launch.size > 0
          ? fmt::format("started as {} processes by {}", launch.size, launcher_name(launch.kind))
          : fmt::format("started by {}", launcher_name(launch.kind));
  Collective* engine = load_engine("libconvae_mpi.so");
  if (engine == nullptr) {
    throw std::runtime_error(fmt::format(
        "{}, but MPI cannot be used here ({}); install MPI and build convae with it (Debian: "
        "libopenmpi-dev), or start one process",
        started, dlerror()));
  }
  if (engine->size() == 1 && launch.size > 1) {
    const std::string hint =
        launch.kind == Launch::Kind::slurm
            ? "use srun --mpi=pmix (srun --mpi=list shows what there is), or mpirun"
            : "start them with the mpirun of the MPI that convae was built with";
    throw std::runtime_error(
        fmt::format("{}, but {} sees each of them alone; {}", started, engine->name(), hint));
  }
  return engine;
}

}  // namespace

Collective& ranks() {
  static Collective alone;
  return engine_in_use != nullptr ? *engine_in_use : alone;
}

void use_ranks(Collective* engine) {
  engine_in_use = engine;
  rank_sums().sum = ranks().size() > 1 ? &sum_over_ranks : nullptr;
  share_machine(ranks().machine());
}

void sum_over_ranks(const at::Tensor& values) {
  if (values.scalar_type() == at::kFloat) {
    sum_values<float>(values);
  } else {
    sum_values<double>(values);
  }
}

Alone::Alone() : others_(engine_in_use) { use_ranks(nullptr); }
Alone::~Alone() { use_ranks(others_); }

bool on_any_rank(bool here) {
  double count = here ? 1 : 0;
  ranks().sum(std::span(&count, 1));
  return count > 0;
}

std::int64_t least_of_ranks(std::int64_t value) { return std::ranges::min(told_by_ranks(value)); }

std::string device_of_ranks(const std::string& device) {
  if (ranks().size() == 1) return device;
  const std::string own = ranks().device();
  const std::string given = "--device " + in_quotes(device);
  if (own == "cpu") {
    if (!device.starts_with("cuda")) return own;
    throw OptionError(given +
                      ": several processes work on CPUs, by MPI; use --device cpu, or one "
                      "process; torchrun starts several for GPUs");
  }
  if (device == "auto" || device == "cuda") return own;
  throw OptionError(given +
                    ": torchrun's processes compute on a GPU each; use --device cuda, or "
                    "mpirun for CPUs");
}

std::int64_t use_threads_of_ranks(std::int64_t threads, const Callbacks& callbacks) {
  threads = use_threads(threads);
  if (ranks().size() == 1) return threads;
  threads = use_threads(least_of_ranks(threads));
  callbacks.say(fmt::format("{} ranks · {} · {} compute threads each", ranks().size(),
                            ranks().name(), threads));
  return threads;
}

std::vector<std::string> said_by_ranks(const std::string& mine) {
  std::vector<std::string> all;
  for (std::int64_t rank = 0; rank < ranks().size(); ++rank) {
    std::string text = rank == ranks().rank() ? mine : "";
    std::uint64_t length = text.size();
    ranks().broadcast(std::as_writable_bytes(std::span(&length, 1)), rank);
    text.resize(length);
    ranks().broadcast(std::as_writable_bytes(std::span(text)), rank);
    all.push_back(std::move(text));
  }
  return all;
}

std::string said_by_first_rank(const std::string& mine) {
  return said_by_ranks(leads() ? mine : "")[0];
}

std::optional<Launch> find_launch(const std::function<const char*(const char*)>& variable) {
  const auto has = [&](const char* name) { return variable(name) != nullptr; };
  const auto number = [&](const char* name) -> std::int64_t {
    return has(name) ? std::strtoll(variable(name), nullptr, 10) : 0;
  };
  const auto launch = [&](Launch::Kind kind, const char* rank, const char* size) {
    return Launch{kind, number(rank), number(size)};
  };
  std::optional<Launch> found;
  // The innermost first: torchrun runs below srun, and mpirun starts its daemons through srun.
  if (has("TORCHELASTIC_RUN_ID") && has("WORLD_SIZE")) {
    found = launch(Launch::Kind::torchrun, "RANK", "WORLD_SIZE");
  } else if (has("OMPI_COMM_WORLD_SIZE")) {
    found = launch(Launch::Kind::open_mpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  } else if (number("SLURM_STEP_NUM_TASKS") > 1) {
    found = launch(Launch::Kind::slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");
  } else if (has("PMI_SIZE")) {
    found = launch(Launch::Kind::pmi, "PMI_RANK", "PMI_SIZE");
  } else if (has("PMIX_RANK") && !has("SLURM_STEP_NUM_TASKS")) {
    found = launch(Launch::Kind::pmi, "PMIX_RANK", "");
  }
  return found && found->size == 1 ? std::nullopt : found;
}

const char* launcher_name(Launch::Kind kind) {
  switch (kind) {
    case Launch::Kind::slurm: return "srun";
    case Launch::Kind::torchrun: return "torchrun";
    default: return "mpirun";
  }
}

void start_ranks() {
  const std::optional<Launch> launch = find_launch();
  if (!launch) return;
  use_ranks(launch->kind == Launch::Kind::torchrun ? load_nccl(*launch) : load_mpi(*launch));
}

}  // namespace convae
