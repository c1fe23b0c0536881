#include "convae/data/mat.h"
#include "convae/tests/support.h"
#include "convae/training/corruption.h"
#include "convae/training/defects.h"

#include <torch/torch.h>

#include <gtest/gtest.h>
#include <opencv2/core.hpp>

#include <cmath>
#include <set>
#include <string>

namespace convae::test_defects {
namespace {

using test::identical;

/// (C, H, W) in [0.3, 0.7].
torch::Tensor picture(std::int64_t channels, std::int64_t height, std::int64_t width,
                      std::int64_t phase = 0) {
  return test::wave(channels, height, width, phase).to(torch::kFloat) / 255 * 0.4 + 0.3;
}

GoodPictures three_pictures(std::int64_t channels) {
  std::vector<torch::Tensor> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(test::noise(channels, 30 + i, 50, i).permute({1, 2, 0}).contiguous());
  }
  return std::make_shared<const std::vector<torch::Tensor>>(std::move(all));
}

struct Drawn {
  torch::Tensor before, after;  // (C, H, W)
  torch::Tensor label;          // (H, W)
};

Drawn drawn(DefectKind kind, const torch::Tensor& image, std::uint64_t seed,
            const GoodPictures& others = {}) {
  const torch::Tensor pixels = image.permute({1, 2, 0}).contiguous().clone();
  const torch::Tensor label = torch::zeros({image.size(1), image.size(2), 1});
  cv::Mat on = mat_view(pixels), marks = mat_view(label);
  CounterRandom random(seed, 1, 0, Purpose::corruption);
  draw_defect(on, kind, random, others, &marks);
  return {image, pixels.permute({2, 0, 1}), label.squeeze(2)};
}

/// A Gaussian of a map (H, W) that is mirrored at the edges, as wide as OpenCV's for floats.
torch::Tensor blurred(const torch::Tensor& map, double sigma) {
  const auto reach = static_cast<std::int64_t>(std::lround(sigma * 8 + 1)) / 2;
  const torch::Tensor at = torch::arange(-reach, reach + 1).to(torch::kFloat);
  torch::Tensor kernel = (-at.square() / (2 * sigma * sigma)).exp();
  kernel = kernel / kernel.sum();
  namespace F = torch::nn::functional;
  const torch::Tensor padded =
      F::pad(map.view({1, 1, map.size(0), map.size(1)}),
             F::PadFuncOptions({reach, reach, reach, reach}).mode(torch::kReflect));
  return torch::conv2d(torch::conv2d(padded, kernel.view({1, 1, -1, 1})),
                       kernel.view({1, 1, 1, -1}))[0][0];
}

class EveryDefect : public testing::TestWithParam<DefectKind> {};

TEST_P(EveryDefect, StaysInRangeAtAnySize) {
  const Size sizes[] = {{8, 8}, {8, 40}, {9, 13}, {31, 17}, {96, 96}, {97, 130}};
  for (const std::int64_t channels : {1, 3}) {
    for (const Size size : sizes) {
      for (std::uint64_t seed = 0; seed < 8; ++seed) {
        const Drawn result = drawn(GetParam(), picture(channels, size.h, size.w), seed,
                                   seed % 2 ? three_pictures(channels) : nullptr);
        EXPECT_GE(result.after.min().item<float>(), 0) << to_string(size) << " " << seed;
        EXPECT_LE(result.after.max().item<float>(), 1) << to_string(size) << " " << seed;
        EXPECT_TRUE(result.after.isfinite().all().item<bool>());
        EXPECT_GE(result.label.min().item<float>(), 0);
        EXPECT_LE(result.label.max().item<float>(), 1);
      }
    }
  }
}

TEST_P(EveryDefect, IsSeenAndMostlyLeavesSomethingAsItWas) {
  int seen = 0, partial = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Drawn result = drawn(GetParam(), picture(3, 96, 96), seed, three_pictures(3));
    seen += result.label.max().item<float>() > 0.3 ? 1 : 0;
    partial += (result.label < 0.01).to(torch::kFloat).mean().item<float>() > 0.1 ? 1 : 0;
  }
  EXPECT_GE(seen, 14);
  EXPECT_GE(partial, 8);
}

TEST_P(EveryDefect, LabelIsWhereSomethingChanged) {
  const Drawn result = drawn(GetParam(), picture(3, 60, 80), 3, three_pictures(3));
  const torch::Tensor change = std::get<0>((result.after - result.before).abs().max(0));
  ASSERT_GT(change.max().item<float>(), 0.01);
  const auto near = [&](const torch::Tensor& map, std::int64_t side) {
    return torch::max_pool2d(map.view({1, 1, 60, 80}), side, 1, side / 2)[0][0];
  };
  EXPECT_EQ(result.label.masked_select(near(change, 7) == 0).abs().sum().item<float>(), 0);
  EXPECT_TRUE((result.label.masked_select(change > 0.1) > 0.1).all().item<bool>());
  const torch::Tensor inside = near((near(change, 7) < 0.1).to(torch::kFloat), 9) == 0;
  const torch::Tensor marked = result.label.masked_select(inside);
  EXPECT_TRUE((marked > 0.1).all().item<bool>()) << "no holes";
}

TEST_P(EveryDefect, FollowsFromTheRandomNumbers) {
  const torch::Tensor image = picture(1, 40, 50);
  const Drawn a = drawn(GetParam(), image, 5), b = drawn(GetParam(), image, 5);
  EXPECT_TRUE(identical(a.after, b.after));
  EXPECT_TRUE(identical(a.label, b.label));
  EXPECT_FALSE(identical(a.after, drawn(GetParam(), image, 6).after));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryDefect,
                         testing::Values(DefectKind::patch, DefectKind::perlin, DefectKind::line,
                                         DefectKind::spot, DefectKind::smear, DefectKind::uneven,
                                         DefectKind::texture, DefectKind::corner),
                         [](const auto& info) { return std::string(to_string(info.param)); });

TEST(Defects, LabelSaysHowMuchChanged) {
  for (const DefectKind kind : {DefectKind::line, DefectKind::uneven}) {  // of one colour
    const Drawn result = drawn(kind, torch::full({3, 60, 80}, 0.4F), 3);
    const torch::Tensor change = std::get<0>((result.after - result.before).abs().max(0));
    ASSERT_GT(change.max().item<float>(), 0.01);
    const torch::Tensor expected = 1 - (-blurred(change, 0.8) / (0.08 * 0.4)).exp();
    EXPECT_LT(test::difference(result.label, expected), 1e-4) << to_string(kind);
  }
}

TEST(Defects, AllKindsOccur) {
  std::set<DefectKind> kinds;
  for (std::uint64_t i = 0; i < 200; ++i) {
    CounterRandom random(1, 1, i, Purpose::corruption);
    kinds.insert(any_defect(random));
  }
  EXPECT_EQ(kinds.size(), names(DefectKind{}).size());
}

TEST(Defects, AreDrawnOnTheirShareOfTheImages) {
  const torch::Tensor images = picture(1, 24, 24).expand({400, 1, 24, 24});
  std::vector<std::int64_t> indices(400);
  for (std::int64_t i = 0; i < 400; ++i) indices[i] = i;
  torch::Tensor labels;
  const torch::Tensor result =
      corrupt(images, {parse_corruptions("defects:0.25"), 1, 1}, indices, &labels);
  EXPECT_EQ(labels.sizes(), (std::vector<std::int64_t>{400, 1, 24, 24}));
  const torch::Tensor marked = labels.flatten(1).amax(1) > 0;
  const torch::Tensor changed = (result != images).flatten(1).any(1);
  EXPECT_TRUE((changed | marked.logical_not()).all().item<bool>());
  EXPECT_NEAR(changed.sum().item<double>(), 100, 30);
}

TEST(Defects, LabelIsOfThemAlone) {
  torch::Tensor labels;
  const torch::Tensor images = picture(3, 20, 20).unsqueeze(0);
  corrupt(images, {parse_corruptions("noise:0.2,defects:0"), 1, 1}, {0}, &labels);
  EXPECT_EQ(labels.abs().sum().item<float>(), 0);
  corrupt(images, {parse_corruptions(""), 1, 1}, {0}, &labels);
  EXPECT_EQ(labels.sizes(), (std::vector<std::int64_t>{1, 1, 20, 20}));
}

TEST(Defects, DoNotDependOnTheBatch) {
  const torch::Tensor images =
      torch::stack({picture(3, 30, 33, 0), picture(3, 30, 33, 1), picture(3, 30, 33, 2)});
  const CorruptionRule rule{parse_corruptions("defects:1"), 4, 2, three_pictures(3)};
  torch::Tensor all_labels, one_label;
  const torch::Tensor all = corrupt(images, rule, {7, 8, 9}, &all_labels);
  const torch::Tensor one = corrupt(images.narrow(0, 1, 1), rule, {8}, &one_label);
  EXPECT_TRUE(identical(all.narrow(0, 1, 1), one));
  EXPECT_TRUE(identical(all_labels.narrow(0, 1, 1), one_label));
}

TEST(Defects, LeaveTinyPicturesAsTheyAre) {
  const Drawn result = drawn(DefectKind::spot, picture(1, 7, 90), 1);
  EXPECT_TRUE(identical(result.after.contiguous(), result.before));
}

TEST(Defects, GoodPicturesAreSpreadOverTheFolder) {
  const test::TemporaryFolder folder;
  for (int i = 0; i < 130; ++i) {
    const std::string name = std::to_string(1000 + i) + ".png";
    test::write_image(folder / name, torch::full({1, 2, 3}, i, torch::kUInt8));
  }
  test::write_image(folder / "9999.png", test::noise(1, 530, 600, 1));
  ImageDataset::Options grey;
  grey.channels = 1;
  ImageDataset images(test::entries_of(folder.path()), grey);
  EXPECT_EQ(good_pictures_for(parse_corruptions("noise"), images), nullptr);
  const GoodPictures found = good_pictures_for(parse_corruptions("defects"), images);
  ASSERT_EQ(found->size(), 64U);
  EXPECT_EQ(found->at(0)[0][0][0].item<int>(), 0);
  EXPECT_EQ(found->at(63)[0][0][0].item<int>(), 63 * 131 / 64);

  ImageDataset large({{images.entry(130)}}, grey);
  const torch::Tensor cut = good_pictures_for(parse_corruptions("defects"), large)->at(0);
  EXPECT_EQ(cut.sizes(), (std::vector<std::int64_t>{512, 512, 1}));
  EXPECT_EQ(cut[0][0][0].item<int>(), large.load(0)->index({0, 9, 44}).item<int>());
  const torch::Tensor small =
      good_pictures_for(parse_corruptions("defects"), large, /*at=*/{20, 24})->at(0);
  EXPECT_TRUE(torch::equal(small.permute({2, 0, 1}), resize_image(*large.load(0), 20, 24)));
}

TEST(Defects, SheetShowsEachKindBesideItsLabel) {
  const torch::Tensor sheet = defect_sheet({picture(3, 60, 60), picture(3, 50, 60)}, {}, 1);
  EXPECT_EQ(sheet.sizes(), (std::vector<std::int64_t>{3, 60 + 4 + 60, 8 * 60 + 7 * 4}));
  EXPECT_EQ(sheet.scalar_type(), torch::kUInt8);
}

}  // namespace
}  // namespace convae::test_defects
