#pragma once

#include "convae/core/size.h"
#include "convae/core/tensor.h"
#include "convae/inspection/results.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace convae {

/// report.html of a scored folder: one page without other files, of bounded size however many
/// pictures there are. Of these it keeps only those that will be shown, whatever their order.
class ScoreReport {
public:
  explicit ScoreReport(double threshold) : threshold_(threshold) {}

  /// Whether the page shows this picture, unless enough others turn out to be more telling.
  bool wants(const ScoredImage& image) const { return !places_of(image).empty(); }

  /// A picture as the page shows it.
  struct Pictures {
    std::array<std::int64_t, 2> size{};  ///< width, height
    std::array<std::string, 2> uris;     ///< picture, overlay
    template <typename Self>
    static auto parts(Self& self) {
      return std::tie(self.size, self.uris);
    }
  };
  /// picture: (C, H, W) uint8, uint16 or float in [0,1]; overlay: (3, H, W) uint8, the picture with
  /// its unusual places. `own`: the size of a picture that they show smaller than it is.
  static Pictures pictures_of(const torch::Tensor& picture, const torch::Tensor& overlay,
                              Size own = {});

  /// To be called where it wants the picture.
  void add(const ScoredImage& image, Pictures pictures);

  /// `name`: what was scored.
  std::string page(const ScoreResult& result, const std::string& name) const;

private:
  enum ListName : std::size_t { kRanked, kFalseAlarms, kMisses, kLists };
  static constexpr std::array<std::size_t, kLists> kMost = {48, 24, 24};  // pictures of each

  struct Shown {
    ScoredImage image;
    Pictures pictures;
  };
  /// By score, the most telling first; names decide between equals.
  using Key = std::pair<double, std::string>;

  /// The lists a picture belongs to, as far as they take it, and where.
  std::vector<std::pair<ListName, Key>> places_of(const ScoredImage& image) const;

  double threshold_;
  std::array<std::map<Key, std::shared_ptr<const Shown>>, kLists> lists_;
};

}  // namespace convae
