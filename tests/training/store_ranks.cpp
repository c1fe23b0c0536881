// Stands in for libconvae_nccl.so where there are no GPUs: the same ranks of torchrun, on the CPU.
// What they exchange goes through torchrun's store, slowly.
#include "convae/training/engines/torch_ranks.h"

namespace convae {
namespace {

struct Done : c10d::Work {
  Done() { finish(); }
};

class StoreGroup : public c10d::Backend {
public:
  explicit StoreGroup(const Torchrun& place)
      : Backend(place.rank, place.size), store_(place.store()) {}

  const std::string getBackendName() const override { return "store"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& /*options*/) override {
    std::vector<at::Tensor> all = exchange(tensors[0]);
    tensors[0].zero_();
    for (const at::Tensor& one : all) tensors[0].add_(one);
    return c10::make_intrusive<Done>();
  }

  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                                           const c10d::BroadcastOptions& options) override {
    tensors[0].copy_(exchange(tensors[0])[static_cast<std::size_t>(options.rootRank)]);
    return c10::make_intrusive<Done>();
  }

private:
  /// What every rank has, by rank.
  std::vector<at::Tensor> exchange(const at::Tensor& mine) {
    const auto* bytes = static_cast<const std::uint8_t*>(mine.const_data_ptr());
    store_->set(key(turn_, getRank()), std::vector<std::uint8_t>(bytes, bytes + mine.nbytes()));
    std::vector<at::Tensor> all;
    for (int rank = 0; rank < getSize(); ++rank) {
      std::vector<std::uint8_t> found = store_->get(key(turn_, rank));
      all.push_back(at::from_blob(found.data(), mine.sizes(), mine.options()).clone());
    }
    // Who has set this turn's has read that of the turn before last.
    if (turn_ >= 2) store_->deleteKey(key(turn_ - 2, getRank()));
    ++turn_;
    return all;
  }

  static std::string key(std::int64_t turn, int rank) {
    return std::to_string(turn) + "/" + std::to_string(rank);
  }

  c10::intrusive_ptr<c10d::Store> store_;
  std::int64_t turn_ = 0;
};

}  // namespace
}  // namespace convae

extern "C" __attribute__((visibility("default"))) convae::Collective* convae_engine() {
  static const convae::Torchrun place;
  static convae::TorchRanks engine(place, c10::make_intrusive<convae::StoreGroup>(place),
                                   "torchrun's store", at::kCPU);
  return &engine;
}
