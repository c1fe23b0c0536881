#include "convae/inspection/scorer.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace convae::test_scorer {
namespace {

using test::contains;
using test::message_of;
using Example = AnomalyScorer::Example;
using Scores = AnomalyScorer::Scores;

enum Kind { kGood, kSpot, kTooSmooth };

/// (1, H, W): grey with grain, six times as much of it in the last eighth of the columns.
torch::Tensor good_image(std::uint64_t seed, std::int64_t height = 40, std::int64_t width = 48) {
  torch::Tensor grain = test::gaussian({1, height, width}, seed) * 0.02;
  grain.narrow(2, width - width / 8, width / 8) *= 6;
  return 0.5 + grain;
}

/// The spot has 4 × 4 pixels, its first at `at`.
torch::Tensor with_spot(const torch::Tensor& image, std::int64_t at_y, std::int64_t at_x,
                        double depth = 0.2) {
  torch::Tensor result = image.clone();
  result.narrow(1, at_y, 4).narrow(2, at_x, 4) -= depth;
  return result;
}

torch::Tensor too_smooth(const torch::Tensor& image) { return 0.5 + 0.25 * (image - 0.5); }

torch::Tensor with_fault(const torch::Tensor& image, int kind, std::uint64_t seed) {
  const auto at = static_cast<std::int64_t>(seed);
  if (kind == kTooSmooth) return too_smooth(image);
  return with_spot(image, (at * 7) % (image.size(1) - 4), (at * 11) % (image.size(2) * 3 / 4 - 4));
}

/// (H, W): where the fault is.
torch::Tensor label_of(const torch::Tensor& image, const torch::Tensor& faulty) {
  return (image != faulty)[0].to(torch::kFloat);
}

/// What there is to see of an image whose grain the network leaves.
SeenImage seen(const torch::Tensor& image) {
  const auto brightness = image.mean().item<double>();
  Pyramid maps = texture_maps(image - 0.5, brightness);
  std::ranges::copy(texture_maps(image, brightness), std::back_inserter(maps));
  return {maps, {image.size(1), image.size(2)}};
}

Scores score_of(const AnomalyScorer& scorer, const SeenImage& image) {
  return scorer.score(scorer.look(image));
}

using HeatMaps = std::array<torch::Tensor, kMappedWays.size()>;

HeatMaps heat_maps(const AnomalyScorer& scorer, const SeenImage& image) {
  HeatMaps maps;
  for (const Way part : kMappedWays) {
    maps[part] = scorer.heat_map(part).of(scorer.look(image), image.size);
  }
  return maps;
}

int fold_of(std::uint64_t seed, int folds) {
  return static_cast<int>(seed % static_cast<std::uint64_t>(folds));
}

/// Places of so many good images, 0 … images-1.
AnomalyScorer with_places(std::uint64_t images, int folds) {
  AnomalyScorer scorer(folds);
  for (std::uint64_t i = 0; i < images; ++i) {
    scorer.learn_places(AnomalyScorer::seen_at_places(seen(good_image(i, 40 + 9 * (i % 2)))),
                        fold_of(i, folds));
  }
  scorer.close_places();
  return scorer;
}

/// From the good images, and each with every kind of fault.
AnomalyScorer learnt_from(std::uint64_t images, int folds) {
  AnomalyScorer scorer = with_places(images, folds);
  for (std::uint64_t i = 0; i < images; ++i) {
    const torch::Tensor image = good_image(i, 40 + 9 * (i % 2));
    const int fold = fold_of(i, folds);
    scorer.learn(scorer.observe(seen(image), {.fold = fold, .held_out = true}));
    for (const int kind : {kSpot, kTooSmooth}) {
      const torch::Tensor faulty = with_fault(image, kind, i);
      scorer.learn(scorer.observe(seen(faulty), {.fold = fold, .kind = kind, .held_out = true},
                                  label_of(image, faulty)));
    }
  }
  scorer.finish();
  return scorer;
}

/// Learnt from 16 good images of two sizes in four folds, once for all tests.
class AnomalyScorerOfGrain : public testing::Test {
protected:
  static void SetUpTestSuite() { scorer_ = std::make_unique<AnomalyScorer>(learnt_from(16, 4)); }
  static void TearDownTestSuite() { scorer_.reset(); }

  static const AnomalyScorer& scorer() { return *scorer_; }
  static Scores scores(const torch::Tensor& image) { return score_of(*scorer_, seen(image)); }
  static double score(const torch::Tensor& image) { return scores(image)[kNetwork]; }
  static double highest_of_good() {
    double highest = -1e9;
    for (const Scores& good : scorer_->good_scores()) highest = std::max(highest, good[0]);
    return highest;
  }

private:
  static inline std::unique_ptr<AnomalyScorer> scorer_;
};

TEST_F(AnomalyScorerOfGrain, FindsASpotByAllParts) {
  for (std::uint64_t seed = 100; seed < 105; ++seed) {
    const Scores good = scores(good_image(seed));
    const Scores bad = scores(with_spot(good_image(seed), 17, 21));
    for (const Way part : kMappedWays) {
      EXPECT_GT(bad[part], good[part] + 1) << "part " << part;
    }
    EXPECT_GT(bad[0], highest_of_good());
  }
}

TEST_F(AnomalyScorerOfGrain, UnseenGoodImagesGetWhatHeldOutOnesGot) {
  ASSERT_EQ(scorer().good_scores().size(), 16U);
  double unseen = 0, held_out = 0;
  for (std::uint64_t seed = 200; seed < 216; ++seed) unseen += score(good_image(seed)) / 16;
  for (const Scores& good : scorer().good_scores()) held_out += good[0] / 16;
  EXPECT_NEAR(unseen, held_out, 1);
  EXPECT_LT(held_out, 0) << "more likely good than not";
}

TEST_F(AnomalyScorerOfGrain, WhatIsUsualAtAPlaceIsNoAnomalyThere) {
  // As much grain as there always is at the border, in the middle.
  const torch::Tensor image = good_image(300);
  EXPECT_GT(score(image.roll({-20}, {2})), highest_of_good());
  EXPECT_LT(score(image), highest_of_good());
}

TEST_F(AnomalyScorerOfGrain, FarTooSmoothIsAnAnomalyWhereSuchWereLearnt) {
  for (std::uint64_t seed = 400; seed < 405; ++seed) {
    EXPECT_GT(score(too_smooth(good_image(seed))), highest_of_good()) << seed;
  }
}

TEST_F(AnomalyScorerOfGrain, TheMapShowsAnAreaThatIsTooSmooth) {
  torch::Tensor image = good_image(450);
  image.narrow(1, 12, 20).narrow(2, 6, 20) = 0.5;
  const HeatMaps maps = heat_maps(scorer(), seen(image));
  const double inside = maps[0].narrow(0, 16, 12).narrow(1, 10, 12).mean().item<double>();
  EXPECT_GT(inside, 1.5 * maps[0].mean().item<double>());
}

TEST_F(AnomalyScorerOfGrain, TheMapIsHighestAtTheSpotAndHasTheImagesSize) {
  const torch::Tensor image = with_spot(good_image(500, 41, 55), 20, 30);
  const HeatMaps maps = heat_maps(scorer(), seen(image));
  const HeatMaps of_good = heat_maps(scorer(), seen(good_image(500, 41, 55)));
  for (const Way part : kMappedWays) {
    ASSERT_EQ(maps[part].sizes(), (std::vector<std::int64_t>{41, 55}));
    const auto place = maps[part].argmax().item<std::int64_t>();
    EXPECT_NEAR(static_cast<double>(place / 55), 21.5, 3);
    EXPECT_NEAR(static_cast<double>(place % 55), 31.5, 3);
    EXPECT_GT(maps[part].max().item<float>(), 1) << "more than the peaks of good images";
    EXPECT_GT(maps[part].max().item<float>(), 1.3 * of_good[part].max().item<float>());
    EXPECT_GE(maps[part].min().item<float>(), 0);
  }
}

TEST_F(AnomalyScorerOfGrain, ScoresDoNotDependOnThreads) {
  const SeenImage image = seen(with_spot(good_image(600), 10, 8, 0.1));
  const Scores alone = score_of(scorer(), image);
  const HeatMaps one = heat_maps(scorer(), image);
  torch::set_num_threads(2);
  const Scores together = score_of(scorer(), image);
  const HeatMaps two = heat_maps(scorer(), image);
  torch::set_num_threads(1);
  for (const Way part : kMappedWays) {
    EXPECT_NEAR(alone[part], together[part], 1e-9);
    EXPECT_LT(test::difference(one[part], two[part]), 1e-5);
  }
}

TEST_F(AnomalyScorerOfGrain, ScoresDoNotDependOnOtherImages) {
  std::vector<SeenImage> images;
  for (std::uint64_t seed = 700; seed < 706; ++seed) {
    images.push_back(seen(good_image(seed, 30 + 3 * (seed % 4))));
  }
  std::vector<Scores> forwards, at_once(images.size());
  for (const SeenImage& image : images) forwards.push_back(score_of(scorer(), image));
  for (std::size_t i = images.size(); i-- > 0;)
    EXPECT_EQ(score_of(scorer(), images[i]), forwards[i]);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < images.size(); ++i) {
      threads.emplace_back([&, i] { at_once[i] = score_of(scorer(), images[i]); });
    }
  }
  EXPECT_EQ(at_once, forwards);
}

TEST_F(AnomalyScorerOfGrain, AnImageTwiceTheSizeOrOfOnePixelHasAScore) {
  EXPECT_TRUE(std::isfinite(score(good_image(800, 90, 120))));
  const SeenImage pixel = seen(torch::full({1, 1, 1}, 0.5));
  EXPECT_TRUE(std::isfinite(score_of(scorer(), pixel)[0]));
  EXPECT_EQ(heat_maps(scorer(), pixel)[0].sizes(), (std::vector<std::int64_t>{1, 1}));
}

TEST_F(AnomalyScorerOfGrain, AScoreThatIsNotFiniteIsRefused) {
  SeenImage image = seen(good_image(900));
  image.maps[0].values.fill_(std::nan(""));
  EXPECT_TRUE(
      contains(message_of<std::runtime_error>([&] { score_of(scorer(), image); }), "finite"));
}

TEST_F(AnomalyScorerOfGrain, StateKeepsAllThatScoringNeeds) {
  const AnomalyScorer copy(scorer().state());
  for (const torch::Tensor& image : {good_image(1000), with_spot(good_image(1001), 5, 7)}) {
    EXPECT_EQ(score_of(copy, seen(image)), score_of(scorer(), seen(image)));
    const HeatMaps ours = heat_maps(scorer(), seen(image)), theirs = heat_maps(copy, seen(image));
    for (const Way part : kMappedWays) {
      EXPECT_TRUE(torch::equal(ours[part], theirs[part]));
    }
  }
}

TEST_F(AnomalyScorerOfGrain, ADamagedStateIsRefused) {
  const AnomalyScorer::State whole = scorer().state();
  const auto refused = [](const AnomalyScorer::State& state) {
    return message_of<std::invalid_argument>([&] { AnomalyScorer scorer(state); });
  };
  for (const auto& [name, tensor] : whole) {
    AnomalyScorer::State without = whole;
    without.erase(name);
    EXPECT_FALSE(refused(without).empty()) << "without " << name;

    AnomalyScorer::State cut = whole;
    cut[name] = tensor.dim() == 0 ? tensor + 100000 : tensor.slice(-1, 1).contiguous();
    EXPECT_FALSE(refused(cut).empty()) << "a cut " << name;

    if (!tensor.is_floating_point()) continue;
    AnomalyScorer::State not_finite = whole;
    not_finite[name] = tensor.clone();
    not_finite[name].view(-1)[0] = std::nan("");
    EXPECT_TRUE(contains(refused(not_finite), "'" + name + "'")) << name;

    AnomalyScorer::State rounded = whole;
    rounded[name] = tensor.to(torch::kHalf);
    EXPECT_FALSE(refused(rounded).empty()) << "rounded " << name;
  }
  EXPECT_TRUE(contains(refused({}), "network-features"));
}

/// What is learnt from 12 images: the scores of the good ones, where `change` may alter each.
template <typename Change>
std::vector<Scores> good_scores_with(const Change& change) {
  AnomalyScorer scorer = with_places(12, 3);
  for (std::uint64_t i = 0; i < 12; ++i) {
    const torch::Tensor image = good_image(i, 40 + 9 * (i % 2));
    for (const int kind : {kGood, kSpot}) {
      const torch::Tensor shown = kind == kGood ? image : with_fault(image, kind, i);
      AnomalyScorer::Learnt learnt =
          scorer.observe(seen(shown), {.fold = fold_of(i, 3), .kind = kind, .held_out = true});
      change(learnt);
      scorer.learn(std::move(learnt));
    }
  }
  scorer.finish();
  return scorer.good_scores();
}

TEST(AnomalyScorer, GoodImagesAreScoredByWhatOtherFoldsShowed) {
  const auto before = good_scores_with([](const AnomalyScorer::Learnt&) {});
  const auto after = good_scores_with([](AnomalyScorer::Learnt& learnt) {
    const bool is_changed = learnt.example.kind == kSpot && learnt.example.fold == 1;
    if (is_changed) learnt.features = learnt.features + 0.5;
  });
  ASSERT_EQ(before.size(), 12U);
  ASSERT_EQ(after.size(), 12U);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const double change = std::abs(after[i][0] - before[i][0]);
    if (i % 3 == 1) {
      EXPECT_LT(change, 1e-9) << "its own fold changed";
    } else {
      EXPECT_GT(change, 1e-3) << "another fold changed";
    }
  }
}

TEST(AnomalyScorer, ImagesOfTheTrainingShowNothingOfUnseenOnes) {
  int held_out = 0;
  const auto scores = good_scores_with([&](AnomalyScorer::Learnt& learnt) {
    if (learnt.example.kind == kGood) learnt.example.held_out = ++held_out % 2 == 0;
  });
  EXPECT_EQ(scores.size(), 6U);
}

/// What a detector adds, (1, H, W) logits, which are high where `marks` is.
SeenImage detected(SeenImage image, const torch::Tensor& marks, std::uint64_t seed) {
  const torch::Tensor noise = test::gaussian({1, image.size.h, image.size.w}, seed) * 0.3;
  const Pyramid maps = mean_maps(noise - 4 + 3 * marks.unsqueeze(0));
  image.maps.insert(image.maps.end() - kPyramidLevels, maps.begin(), maps.end());
  return image;
}

/// The weights of a detector's peaks which was trained on every second image. Confused, it marks
/// something in all others.
double weight_of_detector(bool confused) {
  constexpr int kImages = 18, kFolds = 3;
  constexpr std::int64_t kDetectors = kPyramidLevels;  // the last of the network's features
  const auto view = [&](std::uint64_t i, int kind) {
    const torch::Tensor image = good_image(i), faulty = with_fault(image, kSpot, i);
    torch::Tensor marks = torch::zeros({40, 48});
    if (kind == kSpot) marks = label_of(image, faulty);
    if (confused && i % 2 == 0) {
      const auto at = static_cast<std::int64_t>(i);
      marks.narrow(0, at * 5 % 36, 4).narrow(1, at * 13 % 44, 4) = 1;
    }
    return detected(seen(kind == kSpot ? faulty : image), marks, 100 * i + kind);
  };
  AnomalyScorer scorer(kFolds);
  for (std::uint64_t i = 0; i < kImages; ++i) {
    scorer.learn_places(AnomalyScorer::seen_at_places(view(i, kGood)), fold_of(i, kFolds));
  }
  scorer.close_places();
  for (std::uint64_t i = 0; i < kImages; ++i) {
    for (const int kind : {kGood, kSpot}) {
      const Example example{.fold = fold_of(i, kFolds), .kind = kind, .held_out = i % 2 == 0};
      scorer.learn(scorer.observe(view(i, kind), example));
    }
  }
  scorer.finish();
  const AnomalyScorer::State state = scorer.state();
  const auto last = state.at("network-features").item<std::int64_t>();
  return state.at("part.0.weights").slice(1, last - kDetectors, last).abs().sum().item<double>();
}

TEST(AnomalyScorer, ADetectorThatOtherImagesConfuseCountsLittle) {
  const double clear = weight_of_detector(false), confused = weight_of_detector(true);
  EXPECT_GT(clear, 0.5);
  EXPECT_LT(confused, clear / 20);
}

TEST(AnomalyScorer, ThreeGoodImagesAreEnoughAndTwoAreNot) {
  EXPECT_TRUE(contains(message_of<std::invalid_argument>([] { learnt_from(2, 2); }),
                       "3 images or more in two folds or more, but there are 2 in 2"));
  const AnomalyScorer scorer = learnt_from(3, 3);
  EXPECT_EQ(scorer.good_scores().size(), 3U);
  for (std::uint64_t seed = 30; seed < 33; ++seed) {
    const double good = score_of(scorer, seen(good_image(seed)))[0];
    EXPECT_GT(score_of(scorer, seen(with_spot(good_image(seed), 17, 21, 0.3)))[0], good);
  }
}

TEST(AnomalyScorer, ImagesOfOneFoldAreNotEnough) {
  EXPECT_TRUE(
      contains(message_of<std::invalid_argument>([] { learnt_from(6, 1); }), "two folds or more"));
}

}  // namespace
}  // namespace convae::test_scorer
