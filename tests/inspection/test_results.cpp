#include "convae/data/layout.h"
#include "convae/inspection/results.h"
#include "convae/tests/support.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace convae::test_results {
namespace {

using test::contains;

/// Five good images and three bad ones of two kinds; the network's scores are right but for one.
Scores known_scores() {
  Scores scores;
  const auto add = [&](const char* label, double network, double other, double area) {
    const std::string name = std::to_string(scores.images.size());
    scores.images.push_back({name, label, name, {network, other, other, network, area}});
  };
  add("good", 0.1, 3, 10);
  add("good", 0.2, 1, 20);
  add("good", 0.3, 2, 30);
  add("good", 0.4, 5, 40);
  add("good", 0.9, 4, 50);
  add("hole", 0.8, 3, 10);
  add("hole", 1.5, 1, 10);
  add("crack", 2.0, 2, 10);
  add("", 5.0, 9, 99);  // nothing is known of it
  scores.images.back().name = "a,b";
  scores.rate = 0.25;
  for (auto& of_way : scores.calibration.scores) of_way = {0.5, 1.0, 0.25};
  scores.calibration.groups = 2;
  scores.thresholds = scores.calibration.thresholds(scores.rate);
  return scores;
}

TEST(ScoreSummary, MeasuresAreThoseOfTheirDefinitions) {
  const ScoreResult summary = summarize(known_scores());
  EXPECT_EQ(summary.images.size(), 9U);
  EXPECT_EQ(summary.thresholds[kNetwork], 1.0);
  EXPECT_EQ(summary.anomalous_images, 3);
  const Measures& all = summary.overall[kNetwork];
  EXPECT_EQ(all.good, 5);
  EXPECT_EQ(all.anomalous, 3);
  EXPECT_DOUBLE_EQ(all.auroc.value, 14.0 / 15) << "of 15 pairs, one is the wrong way round";
  EXPECT_DOUBLE_EQ(all.average_precision.value, (1 + 1 + 3.0 / 4) / 3);
  EXPECT_DOUBLE_EQ(all.at_threshold.recall(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(all.at_threshold.precision(), 1);
  EXPECT_LE(all.auroc.interval.low, all.auroc.value);
  EXPECT_EQ(all.auroc.interval.high, 1);
  EXPECT_TRUE(std::isnan(all.pro));
  EXPECT_DOUBLE_EQ(summary.kinds.at("hole").auroc.value, 9.0 / 10);
  EXPECT_DOUBLE_EQ(summary.kinds.at("crack").auroc.value, 1);
  // 3, 1 and 2 against 1 … 5: 2.5 + 0.5 + 1.5 of 15 pairs.
  EXPECT_DOUBLE_EQ(summary.overall[kNoNetwork].auroc.value, 4.5 / 15);
  EXPECT_DOUBLE_EQ(summary.lead[kNoNetwork].value, 14.0 / 15 - 4.5 / 15);
  EXPECT_EQ(summary.lead[kMeanError].interval.high, 0) << "the same scores";
  // Bad images are the small ones: 3 · 0.5 of 15 pairs, which the other way round says much.
  EXPECT_DOUBLE_EQ(summary.overall[kArea].auroc.value, 0.1);
  EXPECT_DOUBLE_EQ(summary.lead[kArea].value, 14.0 / 15 - 0.9) << "small images are the bad ones";
  EXPECT_EQ(summary.strongest_control, kMeanError);
  EXPECT_FALSE(summary.beats_controls);
  // Pearson's r of 0.1 0.2 0.3 0.4 0.9 and 10 … 50: 1.8 / sqrt(0.388 · 10).
  EXPECT_NEAR(summary.area_correlation.value, 1.8 / std::sqrt(0.388 * 10), 1e-12);
  ASSERT_EQ(summary.warnings.size(), 2U);
  EXPECT_EQ(summary.warnings[0],
            "the network does not beat the control 'mean error': AUROC 0.933 against 0.933");
  EXPECT_TRUE(contains(summary.warnings[1], "follow their area: r = 0.914"));
}

TEST(ScoreSummary, OfOneSidedSetsHasTheMeasuresThatExist) {
  const auto with = [](bool good) {
    Scores scores = known_scores();
    std::erase_if(scores.images,
                  [&](const ScoredImage& image) { return (image.label == kGoodLabel) != good; });
    return summarize(scores);
  };
  const ScoreResult good = with(true);
  EXPECT_TRUE(good.labelled);
  EXPECT_FALSE(good.compares());
  EXPECT_EQ(good.overall[kNetwork].good, 5);
  EXPECT_EQ(good.overall[kNetwork].at_threshold.false_positive_rate(), 0);
  EXPECT_TRUE(good.kinds.empty());
  const ScoreResult bad = with(false);
  EXPECT_TRUE(bad.labelled);
  EXPECT_EQ(bad.overall[kNetwork].anomalous, 3);
  EXPECT_EQ(bad.kinds.at("hole").at_threshold.recall(), 0.5);
  EXPECT_EQ(bad.kinds.at("crack").at_threshold.recall(), 1);
  EXPECT_TRUE(std::isnan(bad.overall[kNetwork].average_precision.value));
  for (const ScoreResult* result : {&good, &bad}) {
    for (const std::string& warning : result->warnings) {
      EXPECT_FALSE(contains(warning, "control")) << warning;
    }
    const auto json = nlohmann::json::parse(to_json(*result));
    EXPECT_TRUE(json["image_auroc"].is_null());
    EXPECT_TRUE(json["precision"].is_null());
    EXPECT_TRUE(json["f1"].is_null());
    EXPECT_TRUE(json["beats_controls"].is_null());
    EXPECT_EQ(json["kinds"].size(), result == &bad ? 2U : 0U);
  }
}

TEST(ScoreSummary, FilesHaveAllTheirColumnsAndKeys) {
  const Scores scores = known_scores();
  const std::string csv = to_csv(scores);
  EXPECT_EQ(csv.substr(0, csv.find("\n1,")), "path,label,score,anomalous\n0,good,0.1,0");
  EXPECT_TRUE(contains(csv, "\n7,crack,2,1\n\"a,b\",,5,1\n"));
  ScoreResult summary = summarize(scores);
  summary.heat_full_scale = 2;
  const auto keys = [](const nlohmann::ordered_json& json) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : json.items()) keys.push_back(key);
    return keys;
  };
  using Keys = std::vector<std::string>;
  const Keys measures = {"good",
                         "anomalous",
                         "image_auroc",
                         "image_auroc_interval",
                         "average_precision",
                         "average_precision_interval",
                         "f1",
                         "precision",
                         "recall",
                         "false_positive_rate",
                         "pixel_auroc",
                         "pro",
                         "regions"};
  Keys all = {"images",
              "skipped",
              "anomalous_images",
              "threshold",
              "fpr",
              "calibration",
              "labelled",
              "masks",
              "score_area_correlation",
              "score_area_correlation_interval"};
  all.insert(all.end(), measures.begin(), measures.end());
  const Keys rest = {"kinds",          "residual_alone", "controls",
                     "beats_controls", "warnings",       "heat_full_scale"};
  all.insert(all.end(), rest.begin(), rest.end());
  const auto json = nlohmann::ordered_json::parse(to_json(summary));
  EXPECT_EQ(keys(json), all);
  EXPECT_EQ(keys(json["kinds"]["hole"]), measures);
  EXPECT_EQ(keys(json["controls"]), (Keys{"no_network", "mean_error", "image_area"}));
  EXPECT_EQ(keys(json["calibration"]),
            (Keys{"images", "groups", "training_images", "precision", "smallest_fpr"}));
  EXPECT_TRUE(json["pro"].is_null()) << "there are no masks";
  EXPECT_EQ(json["calibration"]["smallest_fpr"], 0.25);
}

}  // namespace
}  // namespace convae::test_results
