#include "convae/reporting/report_data.h"
#include "convae/tests/support.h"

#include <nlohmann/json.hpp>

#include <limits>
#include <numeric>

namespace convae::test_report_data {
namespace {

using nlohmann::ordered_json;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::vector<MetricsRow> rows_of(std::int64_t count) {
  std::vector<MetricsRow> rows;
  for (std::int64_t epoch = 1; epoch <= count; ++epoch) {
    rows.push_back({epoch, 10 * epoch, 0.001, 1.0 / static_cast<double>(epoch), kNone, kNone, kNone,
                    kNone, 100, 1});
  }
  return rows;
}

TEST(ReportDataTest, SpreadTakesFirstLastAndEvenlyBetween) {
  using Places = std::vector<std::size_t>;
  EXPECT_EQ(spread(0, 5), Places{});
  EXPECT_EQ(spread(3, 5), (Places{0, 1, 2}));
  EXPECT_EQ(spread(9, 5), (Places{0, 2, 4, 6, 8}));
  EXPECT_EQ(spread(9, 1), (Places{8}));
  EXPECT_EQ(spread(1000, 20).front(), 0U);
  EXPECT_EQ(spread(1000, 20).back(), 999U);
}

TEST(ReportDataTest, MetricsAreThinnedButKeepTheBestEpoch) {
  const ordered_json metrics = metrics_json(rows_of(1000), 10, /*best_epoch=*/777);
  ASSERT_EQ(metrics["epoch"].size(), 11U);
  EXPECT_EQ(metrics["epoch"].front(), 1);
  EXPECT_EQ(metrics["epoch"].back(), 1000);
  const auto& epochs = metrics["epoch"];
  EXPECT_NE(std::find(epochs.begin(), epochs.end(), 777), epochs.end());
  EXPECT_EQ(ordered_json::parse(script_json(metrics))["val_psnr"][0], nullptr) << "no NaN in JSON";
}

TEST(ReportDataTest, HistogramCountsEveryImageInARoundBin) {
  std::vector<ImageQuality> images;
  for (const double error : {0.021, 0.034, 0.035, 0.0999, 0.1}) {
    images.push_back({"", {}, error * error, 0, 0});
  }
  images.push_back({"", {}, std::numeric_limits<double>::infinity(), 0, 0});
  const ordered_json histogram = histogram_json(images);
  EXPECT_EQ(histogram["width"], 0.005);
  EXPECT_NEAR(histogram["start"].get<double>(), 0.02, 1e-12);
  const auto counts = histogram["counts"].get<std::vector<int>>();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), 5);
  EXPECT_EQ(counts.front(), 1);
  EXPECT_LE(counts.size(), 25U);
}

TEST(ReportDataTest, HistogramOfOneErrorOrOfNoneIsStillOne) {
  EXPECT_EQ(histogram_json({}), nullptr);
  for (const double mse : {0.0, 0.04}) {
    const ordered_json histogram = histogram_json({{"", {}, mse, 0, 0}, {"", {}, mse, 0, 0}});
    EXPECT_GT(histogram["width"].get<double>(), 0);
    EXPECT_EQ(histogram["counts"], (std::vector<int>{2}));
  }
}

TEST(ReportDataTest, ModelHasTheOutputPaddingOfEachLevel) {
  const ordered_json json = model_json(test::small_network("8,16:k5p2"), {24, 25});
  ASSERT_EQ(json["levels"].size(), 2U);
  EXPECT_EQ(json["levels"][0]["convT"]["output_padding"], (std::vector<int>{1, 0}));
  EXPECT_EQ(json["levels"][0]["convT"]["without"], (std::vector<int>{3, 23, 25}));
  EXPECT_EQ(json["settings"], (std::vector<std::string>{"k3 s2 p1", "k5 s2 p2"}));
  EXPECT_EQ(json["latent"], (std::vector<int>{16, 6, 7}));
}

TEST(ReportDataTest, NoNameEndsTheScript) {
  const ordered_json data = {"</script><script>alert(1)</script>", "<!--", "\xff\xfe", "\u2028\"'"};
  const std::string text = script_json(data);
  EXPECT_EQ(text.find('<'), std::string::npos);
  const ordered_json back = ordered_json::parse(text);
  EXPECT_EQ(back[0], data[0]);
  EXPECT_EQ(back[2], "\uFFFD\uFFFD");
  EXPECT_EQ(back[3], data[3]);
}

}  // namespace
}  // namespace convae::test_report_data
