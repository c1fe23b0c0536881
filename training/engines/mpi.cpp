// libconvae_mpi.so: ranks on any MPI. A module of its own, so that convae starts without MPI.
#include "convae/training/collective.h"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>

namespace convae {
namespace {

class MpiRanks : public Collective {
public:
  MpiRanks() {
    int given = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    measure_machine();
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  void sum(std::span<double> values) override { sum_as(values, MPI_DOUBLE); }
  void sum(std::span<float> values) override { sum_as(values, MPI_FLOAT); }
  void broadcast(std::span<std::byte> bytes, std::int64_t rank) override {
    in_pieces(bytes, [&](std::byte* data, int count) {
      MPI_Bcast(data, count, MPI_BYTE, static_cast<int>(rank), MPI_COMM_WORLD);
    });
  }
  void barrier() override { MPI_Barrier(MPI_COMM_WORLD); }
  MachineShare machine() const override { return machine_; }

  std::string name() const override {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
    int length = 0;
    MPI_Get_library_version(text.data(), &length);
    const std::string all(text.data(), static_cast<std::size_t>(length));
    // "Open MPI v4.1.4, package: …" or "MPICH Version: 4.0.2\n…"
    return all.substr(0, all.find_first_of(",\n"));
  }

  void end(int code) override {
    if (code == 0) {
      MPI_Finalize();
    } else {
      MPI_Abort(MPI_COMM_WORLD, code);
    }
  }

private:
  /// MPI counts in int.
  template <typename T, typename Do>
  static void in_pieces(std::span<T> values, const Do& act) {
    constexpr std::size_t kMost = 1 << 30;
    for (std::size_t begin = 0; begin < values.size(); begin += kMost) {
      act(values.data() + begin, static_cast<int>(std::min(kMost, values.size() - begin)));
    }
  }

  template <typename T>
  static void sum_as(std::span<T> values, MPI_Datatype type) {
    in_pieces(values, [&](T* data, int count) {
      MPI_Allreduce(MPI_IN_PLACE, data, count, type, MPI_SUM, MPI_COMM_WORLD);
    });
  }

  /// Of a core that k ranks of this machine may run on, each has 1/k: a launcher may bind them to
  /// cores of their own, or to none.
  void measure_machine() {
    MPI_Comm here = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &here);
    int processes = 1;
    MPI_Comm_size(here, &processes);
    machine_.processes = processes;
    cpu_set_t set;
    CPU_ZERO(&set);
    std::array<int, CPU_SETSIZE> mine{}, users{};
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
      for (int core = 0; core < CPU_SETSIZE; ++core) mine[core] = CPU_ISSET(core, &set) ? 1 : 0;
    }
    MPI_Allreduce(mine.data(), users.data(), CPU_SETSIZE, MPI_INT, MPI_SUM, here);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (mine[core] > 0) machine_.cores += 1.0 / users[core];
    }
    MPI_Comm_free(&here);
  }

  int rank_ = 0, size_ = 1;
  MachineShare machine_;
};

}  // namespace
}  // namespace convae

/// The ranks that MPI knows; it lives as long as the process.
extern "C" __attribute__((visibility("default"))) convae::Collective* convae_engine() {
  static convae::MpiRanks engine;
  return &engine;
}
