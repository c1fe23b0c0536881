#include "convae/metrics/statistics.h"
#include "convae/tests/support.h"

#include <cmath>

namespace convae::test_statistics {
namespace {

ScoredImages images(const std::vector<double>& scores, const std::vector<bool>& anomalous) {
  return {scores, anomalous};
}

/// The share of pairs that are in order, equal ones counting half: what the AUROC is defined as.
double auroc_by_pairs(const ScoredImages& all) {
  double won = 0, pairs = 0;
  for (std::size_t a = 0; a < all.size(); ++a) {
    for (std::size_t g = 0; g < all.size(); ++g) {
      if (!all.anomalous[a] || all.anomalous[g]) continue;
      pairs += 1;
      if (all.scores[a] > all.scores[g]) won += 1;
      if (all.scores[a] == all.scores[g]) won += 0.5;
    }
  }
  return pairs > 0 ? won / pairs : std::nan("");
}

/// The sum over distinct thresholds of precision times the recall gained there.
double precision_by_thresholds(const ScoredImages& all) {
  double positives = 0;
  for (const bool anomalous : all.anomalous) positives += anomalous ? 1 : 0;
  double sum = 0, recall_before = 0;
  for (int threshold = 10; threshold >= 0; --threshold) {
    double found = 0, right = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all.scores[i] < threshold) continue;
      found += 1;
      right += all.anomalous[i] ? 1 : 0;
    }
    if (found == 0) continue;
    const double recall = right / positives;
    sum += (recall - recall_before) * right / found;
    recall_before = recall;
  }
  return positives > 0 ? sum : std::nan("");
}

TEST(Auroc, KnownValues) {
  EXPECT_DOUBLE_EQ(auroc(images({1, 2, 3, 4}, {false, false, true, true})), 1);
  EXPECT_DOUBLE_EQ(auroc(images({4, 3, 2, 1}, {false, false, true, true})), 0);
  EXPECT_DOUBLE_EQ(auroc(images({1, 1, 1}, {false, true, true})), 0.5);
  EXPECT_DOUBLE_EQ(auroc(images({0.1, 0.4, 0.35, 0.8}, {false, false, true, true})), 0.75);
}

TEST(Auroc, NothingToCompareIsNoValue) {
  EXPECT_TRUE(std::isnan(auroc({})));
  EXPECT_TRUE(std::isnan(auroc(images({1, 2}, {true, true}))));
  EXPECT_TRUE(std::isnan(auroc(images({1, 2}, {false, false}))));
}

TEST(Statistics, AllOrdersOfFiveImagesAgreeWithTheDefinitions) {
  // Every way to give five images one of three scores and one of two labels.
  for (int code = 0; code < 243 * 32; ++code) {
    ScoredImages all;
    for (int i = 0, scores = code / 32; i < 5; ++i, scores /= 3) {
      all.add(scores % 3, (code >> i & 1) != 0);
    }
    const double area = auroc_by_pairs(all), precision = precision_by_thresholds(all);
    if (std::isnan(area)) {
      EXPECT_TRUE(std::isnan(auroc(all)));
    } else {
      ASSERT_NEAR(auroc(all), area, 1e-12) << code;
    }
    if (std::isnan(precision)) {
      EXPECT_TRUE(std::isnan(average_precision(all)));
    } else {
      ASSERT_NEAR(average_precision(all), precision, 1e-12) << code;
    }
  }
}

TEST(AveragePrecision, KnownValues) {
  EXPECT_NEAR(average_precision(images({0.1, 0.4, 0.35, 0.8}, {false, false, true, true})),
              0.5 * 1 + 0.5 * 2 / 3, 1e-12);
  EXPECT_DOUBLE_EQ(average_precision(images({2, 2, 2, 2}, {true, false, false, false})), 0.25);
}

TEST(Detections, CountsWhatIsAboveTheThreshold) {
  const Detections d =
      detections(images({1, 2, 3, 4, 5}, {false, false, true, false, true}), /*threshold=*/3);
  EXPECT_EQ(d.true_positives, 1) << "an image at the threshold is not above it";
  EXPECT_EQ(d.false_positives, 1);
  EXPECT_EQ(d.true_negatives, 2);
  EXPECT_EQ(d.false_negatives, 1);
  EXPECT_DOUBLE_EQ(d.precision(), 0.5);
  EXPECT_DOUBLE_EQ(d.recall(), 0.5);
  EXPECT_DOUBLE_EQ(d.f1(), 0.5);
  EXPECT_DOUBLE_EQ(d.false_positive_rate(), 1.0 / 3);
}

TEST(Detections, RatesWithoutImagesAreNoValues) {
  const Detections good = detections(images({1, 2}, {false, false}), 5);
  EXPECT_TRUE(std::isnan(good.precision()));
  EXPECT_TRUE(std::isnan(good.recall()));
  EXPECT_TRUE(std::isnan(good.f1()));
  EXPECT_DOUBLE_EQ(good.false_positive_rate(), 0);
  const Detections bad = detections(images({1, 6}, {true, true}), 5);
  EXPECT_TRUE(std::isnan(bad.precision())) << "it would be 1 whatever the threshold";
  EXPECT_TRUE(std::isnan(bad.f1()));
  EXPECT_TRUE(std::isnan(bad.false_positive_rate()));
  EXPECT_DOUBLE_EQ(bad.recall(), 0.5);
}

TEST(Threshold, IsExceededByAtMostTheRate) {
  std::vector<double> scores;
  for (int i = 1; i <= 99; ++i) scores.push_back(i);
  EXPECT_DOUBLE_EQ(threshold_for_rate(scores, 0.01), 99) << "one of 100 may be above the highest";
  EXPECT_DOUBLE_EQ(threshold_for_rate(scores, 0.05), 95);
  EXPECT_DOUBLE_EQ(threshold_for_rate(scores, 0.5), 50);
  EXPECT_DOUBLE_EQ(threshold_for_rate(scores, 0.999999), 1);
}

TEST(Threshold, OfTooFewScoresIsTheHighest) {
  EXPECT_DOUBLE_EQ(threshold_for_rate({2, 5, 3}, 0.01), 5);
  EXPECT_DOUBLE_EQ(smallest_rate(3), 0.25);
  EXPECT_TRUE(std::isnan(threshold_for_rate({}, 0.01)));
}

TEST(Threshold, HoldsItsRateOnUnseenScores) {
  // The rate is promised on average over draws of the good images.
  const int good = 49, unseen = 200, draws = 400;
  double above = 0;
  for (int draw = 0; draw < draws; ++draw) {
    const torch::Tensor scores = test::uniform({good + unseen}, static_cast<std::uint64_t>(draw));
    const auto* values = scores.const_data_ptr<float>();
    const double threshold = threshold_for_rate({values, values + good}, 0.1);
    for (int i = good; i < good + unseen; ++i) above += values[i] > threshold ? 1 : 0;
  }
  EXPECT_NEAR(above / (draws * unseen), 0.1, 0.01);
}

TEST(Correlation, KnownValues) {
  EXPECT_NEAR(correlation({1, 2, 3}, {2, 4, 6}), 1, 1e-12);
  EXPECT_NEAR(correlation({1, 2, 3}, {3, 2, 1}), -1, 1e-12);
  EXPECT_NEAR(correlation({1, 2, 3, 4}, {1, -1, -1, 1}), 0, 1e-12);
  EXPECT_TRUE(std::isnan(correlation({1, 1}, {1, 2})));
  EXPECT_TRUE(std::isnan(correlation({0.1, 0.1, 0.1}, {0.7, 0.7, 0.7})));  // means are rounded
  EXPECT_TRUE(std::isnan(correlation({}, {})));
  EXPECT_TRUE(std::isnan(correlation({1}, {1})));
}

TEST(Statistics, SpreadsAreThoseOfKnownValues) {
  const Spread spread = spread_of({0.9, std::nan(""), 0.8, 0.85, 0.95});
  EXPECT_EQ(spread.count, 4U);
  EXPECT_DOUBLE_EQ(spread.mean, 0.875);
  EXPECT_DOUBLE_EQ(spread.least, 0.8);
  EXPECT_DOUBLE_EQ(spread.most, 0.95);
  EXPECT_NEAR(spread.deviation, 0.0645497, 1e-7);  // numpy.std(ddof=1)
  // scipy.stats.t.interval(0.95, 3, 0.875, 0.0645497 / 2)
  EXPECT_NEAR(spread.interval().low, 0.7722879, 2e-5);
  EXPECT_NEAR(spread.interval().high, 0.9777121, 2e-5);
  EXPECT_TRUE(std::isnan(spread_of({0.5}).interval().low));
  EXPECT_TRUE(std::isnan(spread_of({}).mean));
}

TEST(Statistics, IntervalsOfManyValuesAreStudentsToo) {
  std::vector<double> values;
  for (int i = 0; i < 16; ++i) values.push_back(i % 2 == 0 ? 1 : -1);
  const Spread spread = spread_of(values);
  // scipy.stats.t.ppf(0.975, 15) = 2.13145
  EXPECT_NEAR(spread.interval().high, 2.13145 * spread.deviation / 4, 1e-3);
}

}  // namespace
}  // namespace convae::test_statistics
