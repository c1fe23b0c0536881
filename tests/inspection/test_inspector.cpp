#include "convae/core/errors.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/saved_inspector.h"
#include "convae/inspection/score_files.h"
#include "convae/inspection/scorer.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/safetensors.h"

#include <nlohmann/json.hpp>

namespace convae::test_inspector {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;
namespace fs = std::filesystem;

/// (1, H, W) uint8: a grey plate with stripes, a bright rim and grain; sizes differ.
torch::Tensor good_part(std::uint64_t seed) {
  const std::int64_t height = 40 + 4 * static_cast<std::int64_t>(seed % 2), width = 44;
  const torch::Tensor x = torch::arange(width).to(torch::kFloat);
  torch::Tensor plate = (0.45 + 0.08 * torch::sin(0.6 * x)).repeat({height, 1});
  for (const std::int64_t side : {0, 1}) {
    plate.narrow(side, 0, 3).fill_(0.8);
    plate.narrow(side, plate.size(side) - 3, 3).fill_(0.8);
  }
  plate = plate + 0.02 * test::gaussian({height, width}, seed);
  return (255 * plate.clamp(0, 1)).round().to(torch::kUInt8).unsqueeze(0);
}

/// With a dark hole at rows 16 … 21 and columns 24 … 29.
torch::Tensor with_hole(torch::Tensor part) {
  part.narrow(1, 16, 6).narrow(2, 24, 6).fill_(30);
  return part;
}

torch::Tensor mask_of_hole(const torch::Tensor& part) {
  torch::Tensor mask = torch::zeros_like(part);
  mask.narrow(1, 16, 6).narrow(2, 24, 6).fill_(255);
  return mask;
}

void write_good(const fs::path& folder, std::uint64_t count, std::uint64_t first = 0) {
  for (std::uint64_t i = first; i < first + count; ++i) {
    test::write_image(folder / ("part" + std::to_string(100 + i) + ".png"), good_part(i));
  }
}

/// Six good images and three with holes, in the MVTec layout without images to train on.
void write_test_set(const fs::path& root) {
  write_good(root / "test/good", 6, 50);
  for (const std::uint64_t i : {71, 72, 73}) {
    const std::string stem = "part" + std::to_string(i);
    const torch::Tensor part = with_hole(good_part(i));
    test::write_image(root / "test/hole" / (stem + ".png"), part);
    test::write_image(root / "ground_truth/hole" / (stem + "_mask.png"), mask_of_hole(part));
  }
}

/// Not trained: then what is seen in the image itself decides.
Model small_model(const std::string& config = "") {
  torch::manual_seed(3);
  ModelOptions options;
  options.channels = 1;
  options.levels = parse_levels("4,8", {});
  CheckpointInfo info;
  info.config = config;
  return Model(Autoencoder(options), info);
}

CalibrateOptions good_images_of(const fs::path& folder) {
  CalibrateOptions options;
  options.good.data.data = folder.string();
  return options;
}

ScoreOptions images_of(const fs::path& folder, const fs::path& output = {}) {
  ScoreOptions options;
  options.images.data.data = folder.string();
  options.output = output;
  options.fpr = 0.1;
  return options;
}

/// Calibrated on twelve good images, once for all tests.
class CalibratedInspector : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    write_good(*folder_ / "good", 12);
    write_test_set(*folder_ / "set");
    inspector_ = std::make_unique<Inspector>(
        Inspector::calibrate(small_model(), good_images_of(*folder_ / "good")));
  }
  static void TearDownTestSuite() {
    inspector_.reset();
    folder_.reset();
  }

  static const Inspector& inspector() { return *inspector_; }
  static fs::path set() { return *folder_ / "set"; }
  static fs::path good() { return *folder_ / "good"; }

private:
  static inline std::unique_ptr<TemporaryFolder> folder_;
  static inline std::unique_ptr<Inspector> inspector_;
};

TEST_F(CalibratedInspector, AHoleScoresAboveGoodImagesAndTheMapShowsIt) {
  const double threshold = inspector().threshold(0.1);
  for (const std::uint64_t seed : {30, 31, 32}) {
    const ImageScore good = inspector().score(good_part(seed));
    const torch::Tensor part = with_hole(good_part(seed));
    const ImageScore bad = inspector().score(part);
    EXPECT_GT(bad.score, good.score + 1);
    EXPECT_GT(bad.score, threshold);
    ASSERT_EQ(bad.map.sizes(), part[0].sizes());
    const auto place = bad.map.argmax().item<std::int64_t>();
    EXPECT_NEAR(static_cast<double>(place / 44), 18.5, 5);
    EXPECT_NEAR(static_cast<double>(place % 44), 26.5, 5);
  }
}

TEST_F(CalibratedInspector, IsTheSameWhateverTheCallersMode) {
  const c10::InferenceMode mode;
  const Inspector again = Inspector::calibrate(small_model(), good_images_of(good()));
  EXPECT_EQ(again.threshold(0.1), inspector().threshold(0.1));
}

TEST_F(CalibratedInspector, RefusesImagesOfOtherTypes) {
  const torch::Tensor part = good_part(30);
  const double score = inspector().score(part).score;
  EXPECT_NEAR(inspector().score(part.to(torch::kFloat) / 255).score, score, 1e-4);
  EXPECT_NEAR(inspector().score((part.to(torch::kInt) * 257).to(torch::kUInt16)).score, score,
              1e-4);
  EXPECT_THROW(inspector().score(part.to(torch::kInt) * 257), std::invalid_argument);
}

/// (1, 233, 270): rows of parts, of which one has a hole, without the last pixels.
torch::Tensor sheet_of_parts() {
  std::vector<torch::Tensor> rows;
  for (std::uint64_t row = 0; row < 6; ++row) {
    std::vector<torch::Tensor> parts;
    for (std::uint64_t i = 0; i < 7; ++i) parts.push_back(good_part(2 * (10 * row + i)));
    if (row == 3) parts[2] = with_hole(parts[2]);
    rows.push_back(torch::cat(parts, 2));
  }
  return torch::cat(rows, 1).slice(1, 0, 233).slice(2, 0, 270).contiguous();
}

void expect_same_scores(const Inspector& inspector, const fs::path& folder) {
  ScoreOptions whole = images_of(folder, folder / "whole"), tiled = images_of(folder, folder / "t");
  whole.report = false;
  tiled.images.tile = 64;
  tiled.images.data.exclude = whole.images.data.exclude = {"whole/**", "t/**"};
  const ScoreResult a = inspector.score(whole), b = inspector.score(tiled);
  ASSERT_EQ(a.images.size(), b.images.size());
  for (std::size_t i = 0; i < a.images.size(); ++i) {
    for (const Way way : {kNetwork, kMeanError, kArea}) {
      EXPECT_NEAR(a.images[i].scores[way], b.images[i].scores[way],
                  1e-4 * std::max(1.0, std::abs(a.images[i].scores[way])))
          << way;
    }
    const std::string name = a.images[i].name;
    for (const char* kind : {"heat", "overlay"}) {
      const auto picture_of = [&](const fs::path& results) {
        return decode_image(read_file(results / kind / name), 3).to(torch::kDouble);
      };
      const torch::Tensor x = picture_of(whole.output), y = picture_of(tiled.output);
      ASSERT_EQ(x.sizes(), y.sizes());
      const double steps = kind == std::string("heat") ? 65535 : 255;
      EXPECT_LT((x - y).abs().max().item<double>() / steps, 0.01) << kind;
      EXPECT_GT(x.max().item<double>(), 0) << kind;
    }
  }
  EXPECT_TRUE(fs::exists(tiled.output / "report.html"));
}

TEST_F(CalibratedInspector, APictureInTilesIsScoredAsAWhole) {
  const TemporaryFolder folder;
  test::write_image(folder / "sheet.png", sheet_of_parts());
  test::write_image(folder / "small.png", good_part(3));
  expect_same_scores(inspector(), folder.path());
}

TEST_F(CalibratedInspector, APictureInTilesIsScoredAsAWholeByADetectorToo) {
  torch::manual_seed(4);
  ModelOptions options;
  options.channels = 1;
  options.levels = parse_levels("4,8", {});
  options.detector = {4, 4};
  const Inspector detecting =
      Inspector::calibrate(Model(Autoencoder(options), {}), good_images_of(good()));
  const TemporaryFolder folder;
  test::write_image(folder / "sheet.png", sheet_of_parts());
  expect_same_scores(detecting, folder.path());
}

TEST(SmallCopies, OfAPictureInTilesAreSmallWhateverTheTiles) {
  for (const std::int64_t side : {1000, 1016, 1024}) {
    const SmallCopies copies({40'000, 20'000}, side);
    EXPECT_LT(copies.picture().size(1), 2048) << side;
    EXPECT_GT(copies.picture().size(1), 256) << side;
  }
  EXPECT_EQ(SmallCopies({10'000, 5'000}, 1016).picture().size(1), 1250);
}

TEST_F(CalibratedInspector, MasksOfSkippedPicturesInTilesAreNotMissing) {
  const TemporaryFolder folder;
  write_test_set(folder.path());
  const fs::path damaged = folder / "test/hole/part72.png";
  std::string content = test::contents(damaged);
  content[content.size() / 2] ^= 1;  // within the pixels
  test::write_text(damaged, content);
  ScoreOptions options = images_of(folder.path());
  options.images.tile = 32;
  const ScoreResult result = inspector().score(options);
  EXPECT_EQ(result.skipped.size(), 1U);
  EXPECT_EQ(result.masks.images, 2);
}

TEST_F(CalibratedInspector, ThresholdsAreExceededByAtMostTheirShareOfGoodImages) {
  const Calibration& calibration = inspector().calibration();
  ASSERT_EQ(calibration.images(), 12U);
  EXPECT_EQ(calibration.groups, 12);
  EXPECT_EQ(calibration.training_images, 0);
  std::vector<double> scores = calibration.scores[kNetwork];
  std::sort(scores.rbegin(), scores.rend());
  // Of 12 scores, the k-th largest, k = floor(rate * 13).
  EXPECT_DOUBLE_EQ(inspector().threshold(0.01), scores[0]);
  EXPECT_DOUBLE_EQ(inspector().threshold(0.1), scores[0]);
  EXPECT_DOUBLE_EQ(inspector().threshold(0.25), scores[2]);
  EXPECT_EQ(calibration.thresholds(0.1)[kArea], 44 * 44);
}

TEST_F(CalibratedInspector, KnowsKindsAndMasksOfTheLayout) {
  const ScoreResult result = inspector().score(images_of(set()));
  const std::vector<ScoredImage>& images = result.images;
  ASSERT_EQ(images.size(), 9U);
  EXPECT_EQ(images[0].name, "test/good/part150.png");
  EXPECT_EQ(images[0].label, "good");
  EXPECT_EQ(images[0].group, images[0].name) << "no group-regex: each is alone";
  EXPECT_EQ(images[8].name, "test/hole/part73.png");
  EXPECT_EQ(images[8].label, "hole");
  EXPECT_TRUE(result.labelled);
  ASSERT_EQ(result.kinds.size(), 1U);
  const Measures& holes = result.kinds.at("hole");
  EXPECT_EQ(holes.good, 6);
  EXPECT_EQ(holes.anomalous, 3);
  EXPECT_EQ(holes.regions, 3);
  EXPECT_EQ(holes.auroc.value, 1);
  EXPECT_EQ(holes.at_threshold.true_positives, 3);
  EXPECT_GT(holes.pixel_auroc, 0.9);
}

TEST_F(CalibratedInspector, GivesTheSameScoresAgain) {
  ScoreOptions options = images_of(set());
  const ScoreResult once = inspector().score(options);
  options.images.data.workers = 0;
  const ScoreResult again = inspector().score(options);
  EXPECT_EQ(to_csv(once), to_csv(again));
  EXPECT_EQ(to_json(once), to_json(again));
  const ScoreResult afresh = score_folder(small_model(), good_images_of(good()), options);
  EXPECT_EQ(to_csv(once), to_csv(afresh));
  const double alone = inspector().score(with_hole(good_part(73))).score;
  EXPECT_NEAR(once.images[8].scores[kNetwork], alone, 1e-4);
}

TEST_F(CalibratedInspector, WritesWhereItIsToldAndNowhereElse) {
  const TemporaryFolder folder;
  const ScoreResult result = inspector().score(images_of(set(), folder / "out"));
  EXPECT_EQ(test::contents(folder / "out/scores.csv"), to_csv(result));
  EXPECT_EQ(test::contents(folder / "out/summary.json"), to_json(result, 2) + "\n");
  EXPECT_EQ(result.heat_full_scale, HeatMap::kMost);
  for (const ScoredImage& image : result.images) {
    EXPECT_TRUE(fs::is_regular_file(folder / "out/overlay" / image.name)) << image.name;
    EXPECT_TRUE(fs::is_regular_file(folder / "out/heat" / image.name)) << image.name;
  }
  ScoreOptions options = images_of(set(), folder / "plain");
  options.heat_maps = false;
  EXPECT_EQ(inspector().score(options).heat_full_scale, 0);
}

TEST_F(CalibratedInspector, OwnImagesAmongNamedOnesMayBeLinks) {
  std::string warned;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& line) { warned = line; };
  ScoreOptions options = images_of(good().parent_path());
  inspector().score(options, callbacks);
  EXPECT_TRUE(contains(warned, "12 of 12 good images are among those")) << warned;
  EXPECT_TRUE(contains(warned, "judge with --folds")) << warned;
  options.images.data.images = {"good/part100.png", "good/part101.png"};  // as --folds does
  inspector().score(options, callbacks);
  EXPECT_TRUE(contains(warned, "2 of 2 good images are among those")) << warned;
  EXPECT_TRUE(contains(warned, "keep one of each")) << warned;
}

TEST_F(CalibratedInspector, AFolderThatCannotBeWrittenIsNamedBeforeItLooksAtImages) {
  std::int64_t seen = 0;
  Callbacks callbacks;
  callbacks.progress = [&](const std::string&, std::int64_t, std::int64_t) { ++seen; };
  ScoreOptions options = images_of(set(), "/proc/none");
  options.heat_maps = false;
  const std::string message =
      message_of<std::runtime_error>([&] { inspector().score(options, callbacks); });
  EXPECT_TRUE(contains(message, "cannot write /proc/none")) << message;
  EXPECT_EQ(seen, 0);
}

TEST_F(CalibratedInspector, SaysThatMapsOfAnEarlierCallAreOfOtherScores) {
  const TemporaryFolder folder;
  std::string warned;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& line) { warned += line + "\n"; };
  const std::string said = "out/overlay' and the maps in 'heat' are of an earlier call";
  ScoreOptions options = images_of(set(), folder / "out");
  options.overwrite = true;
  for (const bool draws : {false, true, true}) {
    options.heat_maps = draws;
    inspector().score(options, callbacks);
    EXPECT_FALSE(contains(warned, said)) << warned;
  }
  options.heat_maps = false;
  inspector().score(options, callbacks);
  EXPECT_TRUE(contains(warned, said)) << warned;
}

TEST_F(CalibratedInspector, RefusesNamesThatAreTakenBeforeItLooksAtImages) {
  const TemporaryFolder folder;
  test::write_text(folder / "out/summary.json", "mine");
  std::int64_t seen = 0;
  Callbacks callbacks;
  callbacks.progress = [&](const std::string&, std::int64_t, std::int64_t) { ++seen; };
  const std::string message = message_of<std::runtime_error>([&] {
    score_folder(small_model(), good_images_of(good()), images_of(set(), folder / "out"),
                 callbacks);
  });
  EXPECT_TRUE(contains(message, "summary.json")) << message;
  EXPECT_TRUE(contains(message, "--overwrite")) << message;
  EXPECT_EQ(seen, 0);
  EXPECT_EQ(test::contents(folder / "out/summary.json"), "mine");
}

TEST_F(CalibratedInspector, StopsInTheMiddleAndSaysWhere) {
  const TemporaryFolder folder;
  std::int64_t asked = 0;
  Callbacks callbacks;
  callbacks.should_stop = [&] { return ++asked > 5; };
  EXPECT_EQ(message_of<Interrupted>(
                [&] { Inspector::calibrate(small_model(), good_images_of(good()), callbacks); }),
            "stopped while looking at the good images");
  asked = 0;
  EXPECT_EQ(message_of<Interrupted>(
                [&] { inspector().score(images_of(set(), folder / "out"), callbacks); }),
            "stopped while looking at the images; no scores.csv was written");
  EXPECT_FALSE(fs::exists(folder / "out/scores.csv"));
  EXPECT_FALSE(fs::exists(folder / "out/summary.json"));
}

TEST_F(CalibratedInspector, RefusesSharesThatCannotBe) {
  for (const double share : {0.0, 1.0, -0.5, std::numeric_limits<double>::quiet_NaN()}) {
    ScoreOptions options = images_of(set());
    options.fpr = share;
    EXPECT_TRUE(contains(message_of<OptionError>([&] { inspector().score(options); }), "--fpr"));
    EXPECT_THROW(inspector().threshold(share), OptionError);
  }
}

TEST_F(CalibratedInspector, SavedAndLoadedItScoresTheSame) {
  const TemporaryFolder folder;
  inspector().save(folder / "a.safetensors");
  const std::optional<Inspector> loaded = Inspector::load(small_model(), folder / "a.safetensors");
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->size(), inspector().size());
  EXPECT_EQ(loaded->group_regex(), inspector().group_regex());
  for (const double rate : {0.01, 0.1, 0.3}) {
    EXPECT_EQ(loaded->threshold(rate), inspector().threshold(rate));
  }
  EXPECT_EQ(to_json(loaded->score(images_of(set()))), to_json(inspector().score(images_of(set()))));
  const ImageScore ours = inspector().score(good_part(40)), theirs = loaded->score(good_part(40));
  EXPECT_EQ(ours.score, theirs.score);
  EXPECT_TRUE(torch::equal(ours.map, theirs.map));
}

TEST_F(CalibratedInspector, ForOtherWeightsItIsNotLoaded) {
  const TemporaryFolder folder;
  inspector().save(folder / "a.safetensors");
  Model other = small_model();
  {
    const torch::NoGradGuard no_grad;
    other.net()->parameters()[0].flatten()[0] += 1e-3;
  }
  EXPECT_FALSE(Inspector::load(other, folder / "a.safetensors"));
  const std::string before = small_model().weights_digest();
  EXPECT_NE(other.weights_digest(), before);
  EXPECT_EQ(small_model().weights_digest(), before);
}

TEST_F(CalibratedInspector, OfAVersionThatLookedAtOtherThingsItIsNotLoaded) {
  const TemporaryFolder folder;
  inspector().save(folder / "a.safetensors");
  Safetensors saved = read_safetensors(folder / "a.safetensors");
  auto about = nlohmann::ordered_json::parse(saved.metadata.at(kMetadataKey));
  about.erase("features");  // what files had before there was a second version
  about[kDigestKey] = kDigestPlaceholder;
  write_safetensors(folder / "b.safetensors", saved.tensors, {{kMetadataKey, about.dump()}});
  EXPECT_TRUE(Inspector::load(small_model(), folder / "a.safetensors"));
  EXPECT_FALSE(Inspector::load(small_model(), folder / "b.safetensors"));
}

TEST_F(CalibratedInspector, WithSettingsThatOnlyAnotherVersionKnowsItIsNamed) {
  const TemporaryFolder folder;
  const fs::path file = folder / "inspector.safetensors";
  inspector().save(file);
  Safetensors saved = read_safetensors(file);
  auto about = nlohmann::ordered_json::parse(saved.metadata.at(kMetadataKey));
  about["precision"] = "fp8";
  about[kDigestKey] = kDigestPlaceholder;
  write_safetensors(file, saved.tensors, {{kMetadataKey, about.dump()}});
  Model model(small_model().net(), {}, {}, folder.path());
  for (const std::string& message :
       {message_of<SafetensorsError>([&] { kept_inspector(model); }),
        message_of<SafetensorsError>([&] { as_calibrated_before(model, {}); })}) {
    EXPECT_TRUE(contains(message, "(its precision is 'fp8'); remove it, or calibrate again"))
        << message;
  }
}

TEST_F(CalibratedInspector, ADamagedOrStrangeFileIsNamed) {
  const TemporaryFolder folder;
  const fs::path file = folder / "a.safetensors";
  inspector().save(file);
  const std::string whole = test::contents(file);
  const auto load = [&] { Inspector::load(small_model(), file); };
  std::string flipped = whole;
  flipped.back() ^= 1;
  for (const std::string& text : {whole.substr(0, whole.size() / 2), flipped, std::string()}) {
    test::write_text(file, text);
    const std::string message = message_of<SafetensorsError>(load);
    EXPECT_TRUE(contains(message, "a.safetensors' is damaged")) << message;
    EXPECT_TRUE(contains(message, "remove it, or calibrate again")) << message;
  }
  write_safetensors(file, {{"weight", torch::ones({2})}}, {});
  EXPECT_TRUE(contains(message_of<SafetensorsError>(load), "convae calibrate"));
  write_safetensors(file, {{"weight", torch::ones({2})}},
                    {{"convae", R"({"xxh3":"0000000000000000"})"}});
  EXPECT_TRUE(contains(message_of<SafetensorsError>(load), "convae calibrate"));
}

TEST(Inspector, ARunsOwnImagesAreFoundGroupedAndSplitAsInTraining) {
  const TemporaryFolder folder;
  for (std::uint64_t part = 0; part < 12; ++part) {
    for (const char* photo : {"_a.png", "_b.png"}) {
      test::write_image(folder / ("train/good/part" + std::to_string(part) + photo),
                        good_part(part));
    }
  }
  fs::create_directories(folder / "test");
  const std::string config = "[data]\ndata = '" + folder.path().string() +
                             "'\nval-split = 0.5\ngroup-regex = 'part(\\d+)'\nsize = '32x40'\n";
  const Inspector inspector = Inspector::calibrate(small_model(config));
  EXPECT_EQ(inspector.size(), (Size{32, 40}));
  EXPECT_EQ(inspector.group_regex(), "part(\\d+)");
  const Calibration& calibration = inspector.calibration();
  EXPECT_GT(calibration.groups, 1);
  EXPECT_EQ(static_cast<std::int64_t>(calibration.images()), 2 * calibration.groups);
  EXPECT_EQ(static_cast<std::int64_t>(calibration.images()) + calibration.training_images, 24);
  EXPECT_EQ(inspector.score(good_part(40)).map.sizes(), good_part(40)[0].sizes());
}

}  // namespace
}  // namespace convae::test_inspector
