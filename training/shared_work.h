#pragma once

#include "convae/training/collective.h"
#include "convae/training/packing.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace convae {

/// What each rank tells all, by rank.
template <typename T>
std::vector<T> told_by_ranks(const T& mine) {
  if (ranks().size() == 1) return {mine};
  std::string bytes;
  pack(bytes, mine);
  std::vector<T> told;
  for (const std::string& said : said_by_ranks(bytes)) {
    std::string_view rest = said;
    unpack(rest, told.emplace_back());
  }
  return told;
}

/// Items 0, 1, 2 … of a job that ranks share: rank r of N makes r, r + N, r + 2N … Every rank gets
/// all results, in the order of the items, as a single process would. Every few
/// items ranks wait for each other; one that fails meanwhile must end them all.
///
///     SharedWork<Row> work(items, [&](Row row) { rows.push_back(row); });
///     for (std::int64_t i = work.first(); i < items; i += work.step()) work.made(make(i));
///     work.finish();
template <typename Result>
class SharedWork {
public:
  /// `use` takes what came of an item.
  SharedWork(std::int64_t items, std::function<void(Result)> use)
      : use_(std::move(use)), turns_left_((items + step() - 1) / step()) {}

  static std::int64_t first() { return ranks().rank(); }
  static std::int64_t step() { return ranks().size(); }

  /// The result of this rank's next item; nullopt where it has none.
  void made(std::optional<Result> result) {
    --turns_left_;
    if (step() == 1) {
      if (result) use_(std::move(*result));
      return;
    }
    waiting_.push_back(std::move(result));
    if (waiting_.size() == kTurnsTogether || turns_left_ == 0) exchange();
  }

  /// After this rank's last item.
  void finish() {
    if (turns_left_ > 0) made(std::nullopt);  // others have one more
  }

private:
  /// Ranks wait for each other less often; but what they made is held meanwhile.
  static constexpr std::size_t kTurnsTogether = 4;

  void exchange() {
    std::vector<std::vector<std::optional<Result>>> of_ranks = told_by_ranks(waiting_);
    for (std::size_t turn = 0; turn < waiting_.size(); ++turn) {
      for (auto& results : of_ranks) {
        if (results[turn]) use_(std::move(*results[turn]));
      }
    }
    waiting_.clear();
  }

  std::function<void(Result)> use_;
  std::int64_t turns_left_;
  std::vector<std::optional<Result>> waiting_;
};

}  // namespace convae
