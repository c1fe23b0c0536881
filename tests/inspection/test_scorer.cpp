#include "convae/inspection/scorer.h"
#include "convae/tests/support.h"

namespace convae::test_scorer {
namespace {

using Views = AnomalyScorer::Views;

/// What a network leaves of a good part: noise, and more of it at the right border.
Residual good_residual(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  torch::Tensor values = test::gaussian({1, height, width}, seed) * 0.05;
  values.narrow(2, width - width / 8, width / 8) *= 6;
  return {values, 0.5};
}

Residual with_spot(Residual residual, std::int64_t x, double depth) {
  const std::int64_t y = residual.values.size(1) / 2;
  residual.values.narrow(1, y, 4).narrow(2, x, 4) -= depth;
  return residual;
}

/// Learnt from 24 good images of two sizes in four folds.
class AnomalyScorerOfNoise : public testing::Test {
protected:
  AnomalyScorerOfNoise() {
    const auto each = [&](auto&& use) {
      for (std::uint64_t i = 0; i < 24; ++i) {
        use(Views{good_residual(64 + 9 * (i % 2), 80, i)}, static_cast<int>(i % 4));
      }
    };
    each([&](const Views& views, int) { scorer_.learn_noise(views); });
    each([&](const Views& views, int fold) { scorer_.learn_locations(views, fold); });
    each([&](const Views& views, int fold) { scorer_.calibrate(views, fold); });
    scorer_.finish();
  }

  double score(const Residual& residual) { return scorer_.score({residual})[0]; }
  double highest_of_good() const {
    double highest = 0;
    for (const auto& good : scorer_.good_scores()) highest = std::max(highest, good[0]);
    return highest;
  }

  AnomalyScorer scorer_{1, 4};
};

TEST_F(AnomalyScorerOfNoise, FindsASpotAndNoUnseenGoodImage) {
  double good = 0;
  for (std::uint64_t i = 100; i < 110; ++i) good += score(good_residual(70, 80, i)) / 10;
  EXPECT_LT(good, highest_of_good());
  EXPECT_GT(score(with_spot(good_residual(70, 80, 200), 30, 0.3)), 2 * highest_of_good());
}

TEST_F(AnomalyScorerOfNoise, WhatIsUsualAtAPlaceIsNoAnomalyThere) {
  // As much noise as there always is at the border, in the middle.
  Residual moved = good_residual(70, 80, 300);
  moved.values = moved.values.roll({-40}, {2});
  EXPECT_GT(score(moved), 2 * score(good_residual(70, 80, 300)));
}

TEST_F(AnomalyScorerOfNoise, TheMapIsHighestAtTheSpot) {
  AnomalyScorer::Maps maps;
  const Residual residual = with_spot(good_residual(64, 80, 400), 30, 0.4);
  const auto scores = scorer_.score({residual}, &maps);
  EXPECT_DOUBLE_EQ(scores[0], score(residual)) << "a map changes no score";
  ASSERT_EQ(maps[0].sizes(), (std::vector<std::int64_t>{64, 80}));
  const auto place = maps[0].argmax().item<std::int64_t>();
  EXPECT_NEAR(static_cast<double>(place / 80), 33.5, 3);
  EXPECT_NEAR(static_cast<double>(place % 80), 31.5, 3);
  EXPECT_LT(test::difference(maps[0], maps[1]), 1e-6) << "there is one view only";
}

TEST_F(AnomalyScorerOfNoise, DoesNotDependOnThreads) {
  const Residual residual = with_spot(good_residual(64, 80, 500), 30, 0.2);
  AnomalyScorer::Maps one, two;
  const double alone = scorer_.score({residual}, &one)[0];
  torch::set_num_threads(2);
  const double together = scorer_.score({residual}, &two)[0];
  torch::set_num_threads(1);
  EXPECT_DOUBLE_EQ(alone, together);
  EXPECT_TRUE(torch::equal(one[0], two[0]));
}

TEST(AnomalyScorer, ViewsAreScoredTogetherAndAlone) {
  AnomalyScorer both(2, 3), first(1, 3);
  for (int pass = 0; pass < 3; ++pass) {
    for (std::uint64_t i = 0; i < 9; ++i) {
      const Views views = {good_residual(40, 40, i), good_residual(40, 40, i + 50)};
      const Views alone = {views[0]};
      const int fold = static_cast<int>(i % 3);
      if (pass == 0) both.learn_noise(views), first.learn_noise(alone);
      if (pass == 1) both.learn_locations(views, fold), first.learn_locations(alone, fold);
      if (pass == 2) both.calibrate(views, fold), first.calibrate(alone, fold);
    }
  }
  both.finish();
  first.finish();
  const Residual spot = with_spot(good_residual(40, 40, 70), 12, 0.5);
  const Residual plain = good_residual(40, 40, 71);
  const auto scores = both.score({spot, plain});
  EXPECT_NEAR(scores[1], first.score({spot})[0], 1e-9);
  EXPECT_GT(scores[1], scores[2]);
  EXPECT_GT(scores[0], both.score({plain, plain})[0]);
}

TEST(AnomalyScorer, ThreeGoodImagesAreEnoughAndTwoAreNot) {
  for (const std::uint64_t images : {2, 3}) {
    AnomalyScorer scorer(1, static_cast<int>(images));
    for (std::uint64_t i = 0; i < images; ++i) {
      scorer.learn_locations({good_residual(30, 20, i)}, static_cast<int>(i));
    }
    for (std::uint64_t i = 0; i < images; ++i) {
      scorer.calibrate({good_residual(30, 20, i)}, static_cast<int>(i));
    }
    if (images == 2) {
      EXPECT_THROW(scorer.finish(), std::invalid_argument);
    } else {
      scorer.finish();
      const double good = scorer.score({good_residual(30, 20, 9)})[0];
      EXPECT_GT(scorer.score({with_spot(good_residual(30, 20, 9), 8, 0.6)})[0], good);
    }
  }
}

}  // namespace
}  // namespace convae::test_scorer
