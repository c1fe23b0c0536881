#include "convae/inspection/classifier.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace convae::test_classifier {
namespace {

/// Images to learn from.
struct Images {
  std::vector<torch::Tensor> features;
  std::vector<int> kinds;

  void add(const torch::Tensor& of_all, int kind) {
    for (const torch::Tensor& one : of_all.unbind(0)) features.push_back(one);
    kinds.insert(kinds.end(), static_cast<std::size_t>(of_all.size(0)), kind);
  }
  torch::Tensor matrix() const { return torch::stack(features).to(torch::kDouble); }
  FaultClassifier fit() const {
    const torch::Tensor x = matrix();
    return FaultClassifier::fit(
        x, kinds, torch::full({x.size(1)}, FaultClassifier::kVariance, torch::kDouble));
  }
};

/// (n, 4) double, of deviation 1 around a place along the first axis.
torch::Tensor cloud(std::int64_t n, double first, std::uint64_t seed) {
  torch::Tensor points = test::gaussian({n, 4}, seed).to(torch::kDouble);
  points.select(1, 0) += first;
  return points;
}

std::vector<double> scores(const FaultClassifier& classifier, const torch::Tensor& of_all) {
  std::vector<double> all;
  for (const torch::Tensor& one : of_all.unbind(0)) all.push_back(classifier.score(one));
  return all;
}

std::vector<std::size_t> order_of(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](std::size_t i) { return values[i]; });
  return order;
}

Images two_clouds() {
  Images images;
  images.add(cloud(40, -3, 1), 0);
  images.add(cloud(30, 3, 2), 1);
  return images;
}

TEST(FaultClassifier, TellsTwoCloudsApart) {
  const FaultClassifier classifier = two_clouds().fit();
  EXPECT_EQ(classifier.weights.sizes(), (std::vector<std::int64_t>{1, 4}));
  EXPECT_EQ(classifier.biases.sizes(), (std::vector<std::int64_t>{1}));
  for (const double value : scores(classifier, cloud(100, -3, 3))) EXPECT_LT(value, 0.3);
  for (const double value : scores(classifier, cloud(100, 3, 4))) EXPECT_GT(value, -0.3);
  const torch::Tensor weights = classifier.weights[0].abs();
  EXPECT_EQ(weights.argmax().item<int>(), 0) << "the others say nothing";
}

TEST(FaultClassifier, ScoreIsBetweenTheLikeliestKindAndTheMeanOfAll) {
  const FaultClassifier classifier{torch::tensor({{1.0, 2.0}, {0.0, -1.0}}).to(torch::kDouble),
                                   torch::tensor({0.5, 0.0}).to(torch::kDouble)};
  const auto score = [&](double first, double second) {
    return classifier.score(torch::tensor({first, second}, torch::kDouble));
  };
  EXPECT_NEAR(score(1, -1), (1 + 0.25) / 2, 1e-12) << "of -0.5 and 1";
  EXPECT_NEAR(score(-76.5, 40), 2.5, 1e-12) << "of 4 and -40: whatever it is not";
}

/// At the best weights their pull towards zero balances what the images say: w = -v g with the
/// prior's variance v, and biases, which nothing pulls, have no gradient.
TEST(FaultClassifier, FitIsWhereTheGradientIsZero) {
  Images images;
  images.add(cloud(25, -0.5, 5), 0);
  images.add(cloud(12, 0.5, 6), 1);
  images.add(torch::cat({cloud(20, 1, 7).slice(1, 2), cloud(20, 1, 8).slice(1, 0, 2)}, 1), 2);
  const torch::Tensor x = images.matrix();
  const torch::Tensor variances = torch::tensor({1e-3, 1e-2, 5e-4, 3e-3}, torch::kDouble);
  const FaultClassifier classifier = FaultClassifier::fit(x, images.kinds, variances);
  for (int kind = 1; kind <= 2; ++kind) {
    const auto of_kind = static_cast<double>(std::ranges::count(images.kinds, kind));
    const double good = 25;
    std::vector<double> gradient(5, 0.0);  // of 4 weights and the bias
    for (std::size_t i = 0; i < images.kinds.size(); ++i) {
      if (images.kinds[i] != 0 && images.kinds[i] != kind) continue;
      const torch::Tensor one = x[static_cast<std::int64_t>(i)];
      double logit = classifier.biases[kind - 1].item<double>();
      for (int f = 0; f < 4; ++f) {
        logit += classifier.weights[kind - 1][f].item<double>() * one[f].item<double>();
      }
      const bool faulty = images.kinds[i] == kind;
      const double share = (good + of_kind) / 2 / (faulty ? of_kind : good);
      const double slope = share * (1 / (1 + std::exp(-logit)) - (faulty ? 1 : 0));
      for (int f = 0; f < 4; ++f) gradient[f] += slope * one[f].item<double>();
      gradient[4] += slope;
    }
    EXPECT_NEAR(gradient[4], 0, 1e-4) << "kind " << kind;
    for (int f = 0; f < 4; ++f) {
      const double weight = classifier.weights[kind - 1][f].item<double>();
      EXPECT_NEAR(weight, -variances[f].item<double>() * gradient[f], 1e-5)
          << "kind " << kind << " feature " << f;
    }
  }
}

TEST(FaultClassifier, AKindThatCannotBeLearntLeavesTheOrderOfScores) {
  Images images = two_clouds();
  const torch::Tensor unseen = torch::cat({cloud(20, -3, 9), cloud(20, 3, 10), cloud(20, 0, 11)});
  const std::vector<double> before = scores(images.fit(), unseen);
  images.add(cloud(40, -3, 1), 2);  // looks like the good ones
  const FaultClassifier both = images.fit();
  EXPECT_LT(both.weights[1].abs().max().item<double>(), 1e-6);
  EXPECT_EQ(order_of(before), order_of(scores(both, unseen)));
}

TEST(FaultClassifier, AKindSeenMoreOftenIsNotMoreLikely) {
  // Faults are good images mirrored at the origin, where then nothing is known.
  const torch::Tensor good = cloud(20, -1, 12);
  for (const int times : {1, 2, 10}) {
    Images images;
    images.add(good, 0);
    for (int i = 0; i < times; ++i) images.add(-good, 1);
    const FaultClassifier classifier = images.fit();
    EXPECT_NEAR(classifier.score(torch::zeros({4}, torch::kDouble)), 0, 1e-3) << times;
    EXPECT_GT(classifier.score(torch::tensor({1.0, 0.0, 0.0, 0.0}, torch::kDouble)), 0.01);
  }
}

TEST(FaultClassifier, LearnsFromThreeImages) {
  Images images;
  images.add(cloud(2, -4, 13), 0);
  images.add(cloud(1, 4, 14), 1);
  const FaultClassifier classifier = images.fit();
  EXPECT_GT(classifier.score(cloud(1, 4, 15)[0]), classifier.score(cloud(1, -4, 16)[0]));
}

TEST(FaultClassifier, FeaturesThatAreAllEqualSayNothing) {
  for (const double value : {0.0, 2.0}) {
    Images images;
    images.add(torch::full({6, 3}, value), 0);
    images.add(torch::full({4, 3}, value), 1);
    images.add(torch::full({5, 3}, value), 2);
    EXPECT_NEAR(images.fit().score(torch::full({3}, value, torch::kDouble)), 0, 1e-6);
  }
}

TEST(FaultClassifier, LearnsWhereGradientsAreOff) {
  const torch::NoGradGuard no_grad;
  const FaultClassifier classifier = two_clouds().fit();
  EXPECT_GT(classifier.weights[0][0].item<double>(), 0.01);
  EXPECT_FALSE(classifier.weights.requires_grad());
}

}  // namespace
}  // namespace convae::test_classifier
