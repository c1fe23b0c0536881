#include "convae/inspection/places.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace convae::test_places {
namespace {

/// Where pixels are among the places: (n), 0 … kPlaces-1.
torch::Tensor position(const torch::Tensor& of_pixels) {
  return of_pixels.to(torch::kDouble).matmul(torch::arange(kPlaces, torch::kDouble));
}

/// Maps as they are, and their places in an image of as many pixels.
LevelMaps level_of(const torch::Tensor& maps) { return {maps, torch::ones({maps.size(0)})}; }
Places places_of(const torch::Tensor& maps) { return {{maps.size(1), maps.size(2)}, 0}; }

void add(PlaceStatistics& statistics, const torch::Tensor& maps, int fold = 0) {
  statistics.add(PlaceStatistics::seen(level_of(maps), places_of(maps)), fold);
}

torch::Tensor standardised(const torch::Tensor& maps, const torch::Tensor& scale) {
  return PlaceStatistics::standardise(level_of(maps), places_of(maps), scale);
}

TEST(Places, OfEachPixelAreTwoNeighboursAtAnyLengthAndLevel) {
  for (std::int64_t length = 1; length <= 700; ++length) {
    for (int level = 0; level < 6; ++level) {
      const std::int64_t n = (length + (1 << level) - 1) >> level;
      const torch::Tensor places = places_of_pixels(length, level);
      ASSERT_EQ(places.sizes(), (std::vector<std::int64_t>{n, kPlaces}));
      const float* value = places.data_ptr<float>();
      double before = -1;
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0, at = 0;
        std::int64_t first = kPlaces, last = -1;
        for (std::int64_t place = 0; place < kPlaces; ++place, ++value) {
          ASSERT_GE(*value, 0);
          sum += *value;
          at += *value * static_cast<double>(place);
          if (*value == 0) continue;
          first = std::min(first, place);
          last = place;
        }
        ASSERT_NEAR(sum, 1, 1e-5) << length << " level " << level << " pixel " << i;
        ASSERT_LE(last - first, 1);
        ASSERT_GE(at, before - 1e-4) << "in order";
        before = at;
      }
    }
  }
}

TEST(Places, AreTheSameFromBothEnds) {
  for (const std::int64_t length : {1, 2, 31, 32, 33, 64, 79, 80, 81, 200, 501}) {
    const torch::Tensor places = places_of_pixels(length, 0);
    EXPECT_LT(test::difference(places, places.flip({0, 1})), 1e-4) << length;
  }
}

TEST(Places, OfABorderAreCountedInPixels) {
  const torch::Tensor expected = ((torch::arange(32, torch::kDouble) + 0.5) / 4 - 0.5).clamp_min(0);
  for (const std::int64_t length : {80, 100, 333, 700}) {
    const torch::Tensor at = position(places_of_pixels(length, 0));
    EXPECT_LT(test::difference(at.slice(0, 0, 32), expected), 1e-4) << length;
    EXPECT_LT(test::difference(31 - at.slice(0, length - 32).flip(0), expected), 1e-4) << length;
    // Evenly between: places 8 … 24 in what is left of the pixels.
    for (std::int64_t i = 32; i < length - 32; ++i) {
      const double even =
          8 + (static_cast<double>(i) + 0.5 - 32) * 16 / static_cast<double>(length - 64) - 0.5;
      ASSERT_NEAR(at[i].item<double>(), even, 1e-4) << length << " pixel " << i;
    }
  }
}

TEST(Places, OfAShortSideAreEven) {
  for (const std::int64_t length : {1, 7, 32, 79}) {
    const torch::Tensor at = position(places_of_pixels(length, 0));
    for (std::int64_t i = 0; i < length; ++i) {
      const double even = (static_cast<double>(i) + 0.5) * 32 / static_cast<double>(length) - 0.5;
      ASSERT_NEAR(at[i].item<double>(), std::clamp(even, 0.0, 31.0), 1e-4) << length;
    }
  }
}

TEST(Places, OfALevelAreThoseOfItsPixels) {
  for (const std::int64_t length : {64, 320}) {  // whose ends of borders are ends of blocks
    const torch::Tensor fine = position(places_of_pixels(length, 0));
    for (int level = 1; level < 4; ++level) {
      const torch::Tensor coarse = position(places_of_pixels(length, level));
      const torch::Tensor means = fine.view({-1, 1 << level}).mean(1);
      // At the very ends a pixel cannot be beyond the last place.
      EXPECT_LT(test::difference(coarse.slice(0, 1, -1), means.slice(0, 1, -1)), 1e-4)
          << length << " level " << level;
    }
  }
}

/// By plain loops: (kPlaces, kPlaces) of a map whose pixels say something at every place.
std::vector<std::vector<double>> values_at_places(const torch::Tensor& map, const Places& sides) {
  std::vector<std::vector<double>> at(kPlaces, std::vector<double>(kPlaces));
  const auto pixels = map.accessor<float, 2>();
  const auto rows = sides.rows.accessor<float, 2>(), columns = sides.columns.accessor<float, 2>();
  for (std::int64_t y = 0; y < kPlaces; ++y) {
    for (std::int64_t x = 0; x < kPlaces; ++x) {
      double sum = 0, all = 0;
      for (std::int64_t i = 0; i < map.size(0); ++i) {
        for (std::int64_t j = 0; j < map.size(1); ++j) {
          const double weight = static_cast<double>(rows[i][y]) * columns[j][x];
          sum += weight * pixels[i][j];
          all += weight;
        }
      }
      at[y][x] = sum / all;
    }
  }
  return at;
}

/// Each place with what its neighbours know, edges repeated.
double smoothed_at(const std::vector<std::vector<double>>& at, std::int64_t y, std::int64_t x) {
  constexpr double kLine[] = {1, 4, 6, 4, 1};
  double sum = 0;
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      const std::int64_t row = std::clamp<std::int64_t>(y + i - 2, 0, kPlaces - 1);
      const std::int64_t column = std::clamp<std::int64_t>(x + j - 2, 0, kPlaces - 1);
      sum += kLine[i] * kLine[j] * at[row][column] / 256;
    }
  }
  return sum;
}

TEST(PlaceStatistics, AreMeanAndDeviationOfTheValuesAtAPlace) {
  PlaceStatistics statistics(1);
  std::vector<std::vector<double>> values(kPlaces, std::vector<double>(kPlaces)), squares = values;
  const int images = 3;
  for (std::uint64_t seed = 0; seed < images; ++seed) {
    // Two sizes; lighter to the right.
    torch::Tensor maps = test::uniform({1, 40 + 5 * static_cast<std::int64_t>(seed), 64}, seed);
    maps = maps + torch::arange(64) / 32;
    add(statistics, maps);
    const Places sides = places_of(maps);
    const auto mean = values_at_places(maps[0], sides);
    const auto square = values_at_places(maps[0].square(), sides);
    for (std::int64_t y = 0; y < kPlaces; ++y) {
      for (std::int64_t x = 0; x < kPlaces; ++x) {
        values[y][x] += mean[y][x] / images;
        squares[y][x] += square[y][x] / images;
      }
    }
  }
  const torch::Tensor scale = statistics.without(-1);
  ASSERT_EQ(scale.sizes(), (std::vector<std::int64_t>{2, 1, kPlaces, kPlaces}));
  const auto found = scale.accessor<float, 4>();
  for (std::int64_t y = 0; y < kPlaces; ++y) {
    for (std::int64_t x = 0; x < kPlaces; ++x) {
      const double mean = smoothed_at(values, y, x);
      const double deviation = std::sqrt(smoothed_at(squares, y, x) - mean * mean);
      // A trace of pixels further away counts, too.
      ASSERT_NEAR(1 / found[0][0][y][x], deviation, 0.01 * deviation) << y << " " << x;
      ASSERT_NEAR(found[1][0][y][x] / found[0][0][y][x], mean, 0.005 * mean) << y << " " << x;
    }
  }
}

TEST(PlaceStatistics, LeaveAFoldOut) {
  PlaceStatistics all(3), others(3), none(3);
  for (std::uint64_t i = 0; i < 6; ++i) {
    const int fold = static_cast<int>(i % 3);
    const torch::Tensor maps = (1 + fold) * test::uniform({2, 9, 11}, i);
    add(all, maps, fold);
    if (fold != 1) add(others, maps, fold);
  }
  EXPECT_LT(test::difference(all.without(1), others.without(-1)), 1e-5);
  EXPECT_LT(test::difference(others.without(1), others.without(-1)), 1e-5) << "nothing is of it";
  EXPECT_GT(test::difference(all.without(1), all.without(-1)), 0.1);
  EXPECT_GT(test::difference(all.without(0), all.without(1)), 0.1);
}

/// Noise whose mean rises to the right and whose deviation rises downwards.
torch::Tensor uneven_noise(std::uint64_t seed) {
  const torch::Tensor right = torch::arange(90) / 90, down = (torch::arange(70) / 70).view({-1, 1});
  return 0.5 + right + (0.1 + 0.3 * down) * test::gaussian({2, 70, 90}, seed);
}

TEST(PlaceStatistics, StandardiseUnseenMapsAtEachPlace) {
  PlaceStatistics statistics(1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) add(statistics, uneven_noise(seed));
  const torch::Tensor scale = statistics.without(-1);
  std::vector<torch::Tensor> unseen;
  for (std::uint64_t seed = 50; seed < 60; ++seed) {
    unseen.push_back(standardised(uneven_noise(seed), scale));
  }
  const torch::Tensor z = torch::stack(unseen);
  ASSERT_EQ(z.sizes(), (std::vector<std::int64_t>{10, 2, 70, 90}));
  for (const std::int64_t y : {0, 35}) {
    for (const std::int64_t x : {0, 45}) {
      const torch::Tensor quarter = z.narrow(2, y, 35).narrow(3, x, 45);
      EXPECT_NEAR(quarter.mean().item<double>(), 0, 0.1) << y << " " << x;
      EXPECT_NEAR(quarter.std().item<double>(), 1, 0.1) << y << " " << x;
    }
  }
}

TEST(PlaceStatistics, OfValuesWithSeveralGainsAreThoseOfAllTheMaps) {
  const torch::Tensor gains = torch::tensor({0.5F, 3.0F, 2.0F, 1.0F});
  const auto level = [&](std::uint64_t seed) {
    return LevelMaps{test::uniform({2, 40, 61}, seed), gains};
  };
  PlaceStatistics of_values(1), of_maps(1);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    of_values.add(PlaceStatistics::seen(level(seed), places_of(level(seed).values)), 0);
    add(of_maps, level(seed).maps());
  }
  const torch::Tensor scale = of_maps.without(-1), unseen = level(9).maps();
  EXPECT_EQ(unseen.size(0), 4);
  EXPECT_TRUE(torch::equal(unseen[3], level(9).values[1]));
  EXPECT_TRUE(torch::allclose(of_values.without(-1), scale, 1e-3, 1e-3));
  EXPECT_LT(test::difference(PlaceStatistics::standardise(level(9), places_of(unseen), scale),
                             standardised(unseen, scale)),
            1e-4);
}

TEST(PlaceStatistics, APlaceWithoutAnythingIsNotSteadyWithoutEnd) {
  PlaceStatistics statistics(1);
  const auto half_empty = [](std::uint64_t seed) {
    torch::Tensor maps = test::uniform({1, 64, 64}, seed);
    maps.narrow(2, 0, 32).zero_();
    return maps;
  };
  for (std::uint64_t seed = 0; seed < 5; ++seed) add(statistics, half_empty(seed));
  torch::Tensor trace = half_empty(9);
  trace[0][30][10] = 0.01;
  const torch::Tensor z = standardised(trace, statistics.without(-1));
  EXPECT_GT(z[0][30][10].item<float>(), 0.02);
  EXPECT_LT(z[0][30][10].item<float>(), 2);
}

TEST(PlaceStatistics, OfTinyAndOfUniformImagesAreFinite) {
  for (const std::int64_t side : {1, 2, 5, 31}) {
    PlaceStatistics tiny(2), uniform(2);
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      add(tiny, test::uniform({3, side, side}, seed), static_cast<int>(seed % 2));
      add(uniform, torch::full({3, side, side}, 0.25), static_cast<int>(seed % 2));
    }
    for (const int fold : {-1, 0, 1}) {
      EXPECT_TRUE(tiny.without(fold).isfinite().all().item<bool>()) << side;
      EXPECT_TRUE(uniform.without(fold).isfinite().all().item<bool>()) << side;
    }
    const torch::Tensor same = torch::full({3, side, side}, 0.25);
    const torch::Tensor z = standardised(same, uniform.without(-1));
    EXPECT_LT(z.abs().max().item<float>(), 0.1) << side;
  }
}

}  // namespace
}  // namespace convae::test_places
