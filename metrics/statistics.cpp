#include "convae/metrics/statistics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace convae {
namespace {

double ratio(double part, double whole) { return whole > 0 ? part / whole : kNoValue; }

/// Anomalous and good images of one score.
struct Tie {
  double anomalous = 0, good = 0;
};

/// The distinct scores, highest first.
std::vector<Tie> ties(const ScoredImages& images) {
  std::vector<std::size_t> order(images.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return images.scores[a] > images.scores[b]; });
  std::vector<Tie> result;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool same = i > 0 && images.scores[order[i]] == images.scores[order[i - 1]];
    if (!same) result.emplace_back();
    (images.anomalous[order[i]] ? result.back().anomalous : result.back().good) += 1;
  }
  return result;
}

/// The 0.975-quantile of Student's t: exact to 3 digits, beyond ten degrees of freedom to 0.003.
double student_quantile(std::size_t freedom) {
  constexpr double kFirst[] = {12.706, 4.303, 3.182, 2.776, 2.571,
                               2.447,  2.365, 2.306, 2.262, 2.228};
  if (freedom <= std::size(kFirst)) return kFirst[freedom - 1];
  const auto n = static_cast<double>(freedom);
  return 1.960 + 2.372 / n + 2.822 / (n * n);  // Cornish & Fisher 1938
}

}  // namespace

void ScoredImages::add(double score, bool is_anomalous) {
  scores.push_back(score);
  anomalous.push_back(is_anomalous);
}

double auroc(const ScoredImages& images) {
  double above = 0, pairs_won = 0, good = 0;  // anomalous images with a higher score so far
  for (const Tie& tie : ties(images)) {
    pairs_won += tie.good * (above + tie.anomalous / 2);
    above += tie.anomalous;
    good += tie.good;
  }
  return ratio(pairs_won, above * good);
}

double average_precision(const ScoredImages& images) {
  double found = 0, seen = 0, sum = 0;
  for (const Tie& tie : ties(images)) {
    found += tie.anomalous;
    seen += tie.anomalous + tie.good;
    sum += tie.anomalous * found / seen;
  }
  return ratio(sum, found);
}

double Detections::precision() const {
  if (false_positives + true_negatives == 0) return kNoValue;
  return ratio(true_positives, true_positives + false_positives);
}

double Detections::recall() const {
  return ratio(true_positives, true_positives + false_negatives);
}

double Detections::f1() const {
  if (true_positives + false_negatives == 0 || false_positives + true_negatives == 0) {
    return kNoValue;
  }
  return ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives);
}

double Detections::false_positive_rate() const {
  return ratio(false_positives, false_positives + true_negatives);
}

Detections detections(const ScoredImages& images, double threshold) {
  Detections counts;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const bool found = images.scores[i] > threshold;
    if (images.anomalous[i]) {
      ++(found ? counts.true_positives : counts.false_negatives);
    } else {
      ++(found ? counts.false_positives : counts.true_negatives);
    }
  }
  return counts;
}

double threshold_for_rate(std::vector<double> good_scores, double rate) {
  if (good_scores.empty()) return kNoValue;
  std::sort(good_scores.begin(), good_scores.end(), std::greater<>());
  // A rate of 1/(n + 1) as a double must not fall just below a whole number.
  const double exceeding = std::floor(rate * static_cast<double>(good_scores.size() + 1) + 1e-9);
  const auto k = static_cast<std::size_t>(std::max(exceeding, 1.0));
  return good_scores[std::min(k, good_scores.size()) - 1];
}

double smallest_rate(std::size_t good_scores) { return 1 / static_cast<double>(good_scores + 1); }

Interval Spread::interval() const {
  if (count < 2) return {};
  const double margin =
      student_quantile(count - 1) * deviation / std::sqrt(static_cast<double>(count));
  return {mean - margin, mean + margin};
}

Spread spread_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  Spread spread{.count = values.size()};
  if (values.empty()) return spread;
  const auto n = static_cast<double>(values.size());
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  spread.least = std::ranges::min(values);
  spread.most = std::ranges::max(values);
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / (n - 1));
  return spread;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const Spread of_a = spread_of(a), of_b = spread_of(b);
  // Rounded means can differ from values that are all the same.
  if (of_a.least == of_a.most || of_b.least == of_b.most) return kNoValue;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - of_a.mean) * (b[i] - of_b.mean);
  return sum / (of_a.deviation * of_b.deviation * static_cast<double>(a.size() - 1));
}

}  // namespace convae
