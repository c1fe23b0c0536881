#pragma once

#include "convae/core/text.h"
#include "convae/training/collective.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <sched.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// Ranks that torchrun started, on one of LibTorch's process groups. Part of a module of its own.
namespace convae {

/// What torchrun tells a process, in its environment.
struct Torchrun {
  static std::string text(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) {
      throw std::runtime_error(std::string("torchrun left no ") + name + " in the environment");
    }
    return value;
  }
  static int number(const char* name) {
    if (const auto value = parse_as<int>(text(name))) return *value;
    throw std::runtime_error(std::string(name) + " of torchrun is no number");
  }

  int rank = number("RANK");
  int size = number("WORLD_SIZE");
  int rank_here = number("LOCAL_RANK");  ///< of those on this machine
  int size_here = number("LOCAL_WORLD_SIZE");

  /// Where the ranks find each other. torchrun's agent usually runs it, else rank 0 does.
  c10::intrusive_ptr<c10d::Store> store() const {
    const char* by_agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(number("MASTER_PORT"));
    options.isServer = rank == 0 && (by_agent == nullptr || std::string(by_agent) != "True");
    options.waitWorkers = false;
    // A job that was restarted must not read what the one before it left.
    return c10::make_intrusive<c10d::PrefixStore>(
        "convae/" + text("TORCHELASTIC_RESTART_COUNT"),
        c10::make_intrusive<c10d::TCPStore>(text("MASTER_ADDR"), options));
  }
};

class TorchRanks : public Collective {
public:
  /// `device` is what the group sends from and to.
  TorchRanks(const Torchrun& place, c10::intrusive_ptr<c10d::Backend> group, std::string name,
             at::Device device)
      : place_(place), group_(std::move(group)), name_(std::move(name)), device_(device) {
    machine_.processes = place.size_here;
    cpu_set_t set;
    CPU_ZERO(&set);
    // torchrun binds none of them to cores of its own.
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
      machine_.cores = static_cast<double>(CPU_COUNT(&set)) / place.size_here;
    }
  }

  std::int64_t rank() const override { return place_.rank; }
  std::int64_t size() const override { return place_.size; }
  void sum(std::span<double> values) override { sum_at(values, at::kCPU); }
  void sum(std::span<float> values) override { sum_at(values, at::kCPU); }
  void sum_on_device(std::span<double> values) override { sum_at(values, device_); }
  void sum_on_device(std::span<float> values) override { sum_at(values, device_); }

  void broadcast(std::span<std::byte> bytes, std::int64_t rank) override {
    c10d::BroadcastOptions options;
    options.rootRank = rank;
    exchange(bytes, at::kCPU, at::kByte,
             [&](std::vector<at::Tensor>& all) { return group_->broadcast(all, options); });
  }

  void barrier() override {
    double one = 1;
    sum(std::span(&one, 1));
  }

  std::string device() const override { return device_.str(); }
  MachineShare machine() const override { return machine_; }
  std::string name() const override { return name_; }

  void end(int code) override {
    if (code != 0) _exit(code);  // torchrun ends the others
    try {
      barrier();  // rank 0 may be the others' store
      group_->shutdown();
    } catch (const std::exception&) {
      _exit(1);  // another rank has failed and told why
    }
  }

private:
  template <typename T>
  void sum_at(std::span<T> values, at::Device where) {
    exchange(values, where, c10::CppTypeToScalarType<T>::value,
             [&](std::vector<at::Tensor>& all) { return group_->allreduce(all); });
  }

  /// send(tensors on the group's device) of values that lie elsewhere, or there.
  template <typename T, typename Send>
  void exchange(std::span<T> values, at::Device where, at::ScalarType type, const Send& send) try {
    if (values.empty()) return;
    const at::Tensor own =
        at::from_blob(values.data(), {std::ssize(values)}, at::TensorOptions(type).device(where));
    std::vector<at::Tensor> all{own.to(device_)};
    send(all)->wait();
    if (!all[0].is_same(own)) own.copy_(all[0]);
  } catch (const std::exception& error) {
    throw std::runtime_error(name_ + ": a rank has ended or cannot be reached: " + error.what());
  }

  Torchrun place_;
  c10::intrusive_ptr<c10d::Backend> group_;
  std::string name_;
  at::Device device_;
  MachineShare machine_;
};

}  // namespace convae
