#include "convae/core/csv.h"
#include "convae/core/errors.h"
#include "convae/evaluation/evaluate.h"
#include "convae/evaluation/filters.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/corruption.h"

#include <nlohmann/json.hpp>

namespace convae::test_evaluate {
namespace {

using test::contains;

constexpr Size kSize{16, 20};
constexpr std::int64_t kLatent = 5;

Model dense_model(const std::string& config = "") {
  torch::manual_seed(1);
  ModelOptions options;
  options.channels = 3;
  options.levels = parse_levels("4,8");
  options.latent = kLatent;
  options.size = kSize;
  CheckpointInfo info;
  info.config = config;
  return Model(Autoencoder(options), info, "weights.safetensors");
}

Model model_of_all_sizes() {
  torch::manual_seed(1);
  ModelOptions options;
  options.channels = 3;
  options.levels = parse_levels("4,8");
  return Model(Autoencoder(options));
}

torch::Tensor mse(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kDouble) - b.to(torch::kDouble)).square().flatten(1).mean(1);
}

double mean_mse(const Evaluation& evaluation, Coder coder) {
  const Contender* contender = evaluation.find(coder);
  return contender == nullptr ? -1 : contender->measures.mean(Measure::mse).mean;
}

/// The reason why a coder was left out; empty: it was not.
std::string reason(const Evaluation& evaluation, Coder coder) {
  for (const LeftOut& other : evaluation.left_out) {
    if (other.coder == coder) return other.reason;
  }
  return "";
}

/// Seven images to evaluate, and twenty to fit references to.
class EvaluateTest : public testing::Test {
protected:
  EvaluateTest() {
    tested_ = draw("tested", 7, 100);
    trained_ = draw("trained", 20, 0);
  }

  /// (N, C, H, W) float in [0,1]: what was written.
  torch::Tensor draw(const std::string& name, std::int64_t count, std::int64_t phase) {
    std::vector<torch::Tensor> images;
    for (std::int64_t i = 0; i < count; ++i) {
      images.push_back(test::wave(3, kSize.h, kSize.w, phase + i) / 2 +
                       test::noise(3, kSize.h, kSize.w, static_cast<std::uint64_t>(phase + i)) / 3);
      images.back() = images.back().to(torch::kByte);
      test::write_image(folder_ / name / (std::to_string(100 + i) + ".png"), images.back());
    }
    return torch::stack(images).to(torch::kFloat) / 255;
  }

  EvaluateOptions options(const std::string& train_data = "") const {
    EvaluateOptions options;
    options.images.data.data = (folder_ / "tested").string();
    options.images.data.workers = 1;
    if (!train_data.empty()) options.train_data = (folder_ / train_data).string();
    return options;
  }

  /// The config.toml of a run that was trained on that folder.
  std::string trained_on(const std::string& name, const std::string& more = "") const {
    return "[data]\ndata = '" + (folder_ / name).string() + "'\n" + more;
  }

  test::TemporaryFolder folder_;
  torch::Tensor tested_, trained_;
};

TEST_F(EvaluateTest, ErrorsAreThoseThatTorchFinds) {
  const Model model = dense_model();
  const Evaluation evaluation = evaluate(model, options("trained"));
  ASSERT_EQ(evaluation.images.size(), 7U);
  EXPECT_EQ(evaluation.size, kSize);
  EXPECT_EQ(evaluation.numbers_in, 7 * 3 * 16 * 20);
  EXPECT_EQ(evaluation.numbers_latent, 7 * kLatent);
  EXPECT_EQ(evaluation.training_images, 20);
  EXPECT_TRUE(evaluation.left_out.empty());
  const auto expect = [&](Coder coder, const torch::Tensor& found) {
    const torch::Tensor errors = mse(found, tested_);
    const std::vector<double>& measured = evaluation.find(coder)->measures.values(Measure::mse);
    for (std::int64_t i = 0; i < errors.numel(); ++i) {
      const auto expected = errors[i].item<double>();
      EXPECT_NEAR(measured[static_cast<std::size_t>(i)], expected, 1e-4 * expected)
          << to_string(coder) << " " << i;
    }
    EXPECT_NEAR(mean_mse(evaluation, coder), errors.mean().item<double>(), 1e-6);
  };
  expect(Coder::network, model.reconstruct(tested_));
  const torch::Tensor mean = trained_.mean(0, /*keepdim=*/true);
  expect(Coder::mean_image, mean.expand_as(tested_));
  const auto directions =
      std::get<2>(torch::linalg_svd((trained_ - mean).flatten(1), /*full_matrices=*/false))
          .narrow(0, 0, kLatent);
  const torch::Tensor codes = (tested_ - mean).flatten(1).mm(directions.t());
  expect(Coder::pca, (mean + codes.mm(directions).view_as(tested_)).clamp(0, 1));
  const torch::Tensor seen = model.encode(trained_);
  const torch::Tensor low = std::get<0>(seen.min(0));
  const torch::Tensor step = (std::get<0>(seen.max(0)) - low) / 255;
  const torch::Tensor rounded =
      ((model.encode(tested_) - low) / step).round().clamp(0, 255) * step + low;
  expect(Coder::network_8_bit, model.decode(rounded, kSize));
}

TEST_F(EvaluateTest, CodesTakeWhatTheLatentTakes) {
  const Evaluation evaluation = evaluate(dense_model(), options("trained"));
  EXPECT_EQ(evaluation.find(Coder::network)->numbers, kLatent);
  EXPECT_EQ(evaluation.find(Coder::pca)->numbers, kLatent);
  EXPECT_EQ(evaluation.find(Coder::mean_image)->numbers, 0);
  EXPECT_EQ(evaluation.find(Coder::network_8_bit)->bytes, kLatent);
  double bytes = 0;
  for (const double image : evaluation.jpeg_bytes) bytes += image / 7;
  EXPECT_NEAR(*evaluation.find(Coder::jpeg)->bytes, bytes, 1e-9);
}

TEST_F(EvaluateTest, DuelsCompareImageByImage) {
  const Evaluation evaluation = evaluate(dense_model(), options("trained"));
  const std::vector<Duel> duels = evaluation.duels();
  ASSERT_EQ(duels.size(), 3U);
  for (const Duel& duel : duels) {
    const double difference = mean_mse(evaluation, duel.network) - mean_mse(evaluation, duel.rival);
    EXPECT_NEAR(duel.difference.mean, difference, 1e-12);
    EXPECT_EQ(duel.wins(), difference < 0);
  }
}

TEST_F(EvaluateTest, ModelWithoutARunHasNoFittedReferences) {
  const Evaluation evaluation = evaluate(dense_model(), options());
  for (const Coder coder : {Coder::pca, Coder::mean_image}) {
    EXPECT_EQ(evaluation.find(coder), nullptr);
    EXPECT_EQ(reason(evaluation, coder),
              "the checkpoint does not say what it was trained on; name a folder with "
              "--train-data DIR");
  }
  EXPECT_NE(evaluation.find(Coder::network_8_bit), nullptr);
  EXPECT_NE(evaluation.find(Coder::jpeg), nullptr);
  EXPECT_TRUE(contains(evaluation.ranges_from, "these images"));
  EXPECT_EQ(evaluation.training_images, 0);
}

TEST_F(EvaluateTest, RunsOwnImagesComeWithoutItsValidationShare) {
  const auto count = [&](const std::string& config) {
    return evaluate(dense_model(config), options()).training_images;
  };
  EXPECT_EQ(count(trained_on("trained", "val-split = 0\n")), 20);
  const std::int64_t rest = count(trained_on("trained", "val-split = 0.5\n"));
  EXPECT_GT(rest, 0);
  EXPECT_LT(rest, 20);
  // With validation images elsewhere, the run trained on all.
  EXPECT_EQ(count(trained_on("trained", "val-split = 0.5\nval = '/somewhere'\n")), 20);
}

TEST_F(EvaluateTest, RunsOwnImagesMayBeGoneButNotNamedOnes) {
  const Evaluation evaluation = evaluate(dense_model(trained_on("gone")), options());
  EXPECT_TRUE(contains(reason(evaluation, Coder::mean_image), "training images cannot be used"));
  EXPECT_TRUE(contains(reason(evaluation, Coder::mean_image), "gone"));
  const std::string message =
      test::message_of<std::runtime_error>([&] { evaluate(dense_model(), options("gone")); });
  EXPECT_TRUE(contains(message, "gone")) << message;
}

TEST_F(EvaluateTest, RunsOwnImagesMayBeDamagedButNotNamedOnes) {
  draw("damaged", 3, 30);
  for (const char* name : {"100.png", "101.png", "102.png"}) {
    std::string bytes = test::contents(folder_ / "damaged" / name);
    bytes[bytes.size() / 2] ^= 1;  // the header stays whole
    test::write_text(folder_ / "damaged" / name, bytes);
  }
  const Model model = dense_model(trained_on("damaged", "val-split = 0\n"));
  const Evaluation evaluation = evaluate(model, options());
  for (const Coder coder : {Coder::pca, Coder::mean_image}) {
    EXPECT_TRUE(contains(reason(evaluation, coder), "none of the images in '"));
    EXPECT_TRUE(contains(reason(evaluation, coder), "--train-data DIR"));
  }
  EXPECT_NE(evaluation.find(Coder::network_8_bit), nullptr);
  EXPECT_TRUE(contains(evaluation.ranges_from, "these images"));
  EXPECT_EQ(evaluation.training_images, 0);
  EXPECT_THROW(evaluate(dense_model(), options("damaged")), std::runtime_error);
}

TEST_F(EvaluateTest, TooFewTrainingImagesLeaveOnlyPcaOut) {
  draw("few", 4, 50);
  const Evaluation evaluation = evaluate(dense_model(), options("few"));
  EXPECT_TRUE(contains(reason(evaluation, Coder::pca), "more than 5 training images"));
  EXPECT_EQ(evaluation.left_out.size(), 1U);
}

TEST_F(EvaluateTest, SeveralSizesHaveNoPcaUntilOneIsChosen) {
  test::write_image(folder_ / "tested/larger.png", test::wave(3, 24, 24, 1));
  EvaluateOptions wanted = options("trained");
  const Evaluation several = evaluate(model_of_all_sizes(), wanted);
  EXPECT_FALSE(several.size);
  EXPECT_EQ(several.images.size(), 8U);
  ASSERT_NE(several.find(Coder::network_8_bit), nullptr);
  EXPECT_DOUBLE_EQ(*several.find(Coder::network_8_bit)->bytes,
                   static_cast<double>(several.numbers_latent) / 8);
  ASSERT_EQ(several.jpeg_bytes.size(), 8U);
  ASSERT_EQ(several.left_out.size(), 2U);
  for (const LeftOut& other : several.left_out) EXPECT_TRUE(contains(other.reason, "--size"));
  wanted.images.data.size = {8, 8};
  const Evaluation one = evaluate(model_of_all_sizes(), wanted);
  EXPECT_EQ(one.size, (Size{8, 8}));
  EXPECT_NE(one.find(Coder::mean_image), nullptr);
}

TEST_F(EvaluateTest, ImagesThatWereTrainedOnAreCounted) {
  draw("tested/deeper", 2, 70);
  const std::string config = trained_on("tested", "val-split = 0\n");
  EXPECT_EQ(evaluate(dense_model(config), options()).trained_on, 9);
  EXPECT_EQ(evaluate(dense_model(), options("tested/deeper")).trained_on, 2);
}

TEST_F(EvaluateTest, JsonSaysWhatWasFound) {
  test::write_text(folder_ / "tested/text.png", "no image");
  const Evaluation evaluation = evaluate(dense_model(), options("trained"));
  const auto json = nlohmann::json::parse(to_json(evaluation));
  EXPECT_EQ(json["images"], 7);
  EXPECT_EQ(json["size"], "16x20");
  EXPECT_EQ(json["compression"], 192);
  ASSERT_EQ(json["skipped"].size(), 1U);
  EXPECT_EQ(json["skipped"][0]["path"], "text.png");
  EXPECT_EQ(json["results"].size(), 5U);
  for (const Contender& contender : evaluation.contenders) {
    for (const Measure measure : kMeasures) {
      const MeanInterval value = contender.measures.mean(measure);
      const auto& found = json["results"][to_string(contender.coder)][to_string(measure)];
      EXPECT_EQ(found["mean"], value.mean);
      EXPECT_EQ(found["low"], value.interval.low);
    }
  }
  EXPECT_EQ(json["against"]["jpeg"]["contender"], "network_8_bit");
  EXPECT_EQ(json["against"]["pca"]["mse_difference"]["mean"],
            evaluation.duels()[0].difference.mean);
}

TEST_F(EvaluateTest, FilesHoldTheResultAndAreNeverReplacedUnasked) {
  EvaluateOptions wanted = options("trained");
  wanted.output = folder_ / "out";
  std::int64_t begun = 0;
  Callbacks callbacks;
  callbacks.before_writing = [&] { ++begun; };
  const Evaluation evaluation = evaluate(dense_model(), wanted, callbacks);
  EXPECT_EQ(begun, 1);
  EXPECT_EQ(test::contents(folder_ / "out/evaluate.json"), to_json(evaluation) + "\n");
  EXPECT_EQ(test::contents(folder_ / "out/evaluate.csv"), to_csv(evaluation));
  CsvReader table(folder_ / "out/evaluate.csv");
  for (std::size_t i = 0; i < evaluation.images.size(); ++i) {
    ASSERT_TRUE(table.next());
    EXPECT_EQ(table.text("path"), evaluation.images[i].name);
    EXPECT_EQ(table.integer("width", 1), 20);
    EXPECT_EQ(table.number("mse"),
              evaluation.find(Coder::network)->measures.values(Measure::mse)[i]);
    EXPECT_EQ(table.number("pca_psnr"),
              evaluation.find(Coder::pca)->measures.values(Measure::psnr)[i]);
    EXPECT_EQ(table.number("jpeg_bytes"), evaluation.jpeg_bytes[i]);
  }
  EXPECT_FALSE(table.next());
  const std::string message =
      test::message_of<std::runtime_error>([&] { evaluate(dense_model(), wanted, callbacks); });
  EXPECT_TRUE(contains(message, "exists")) << message;
  EXPECT_EQ(begun, 1);
}

TEST_F(EvaluateTest, RestoringIsMeasuredBesideWhatCostsNothing) {
  const Model model = dense_model();
  EvaluateOptions wanted = options();
  wanted.corruptions = parse_corruptions("noise:0.05-0.2");
  wanted.seed = 5;
  const Evaluation evaluation = evaluate(model, wanted);
  const torch::Tensor shown =
      corrupt(tested_, {wanted.corruptions, wanted.seed}, {0, 1, 2, 3, 4, 5, 6});
  const auto expect = [&](Coder coder, const torch::Tensor& found) {
    const double expected = mse(found, tested_).mean().item<double>();
    EXPECT_NEAR(mean_mse(evaluation, coder), expected, 1e-4 * expected) << to_string(coder);
  };
  expect(Coder::network, model.reconstruct(shown));
  expect(Coder::corrupted, shown.clamp(0, 1));
  const std::optional<double> sigma = evaluation.find(Coder::gaussian_blur)->strength;
  ASSERT_TRUE(sigma);
  expect(Coder::gaussian_blur, gaussian_blur(shown, *sigma));
  for (const double other : kBlurStrengths) {
    EXPECT_LE(mean_mse(evaluation, Coder::gaussian_blur),
              mse(gaussian_blur(shown, other), tested_).mean().item<double>() + 1e-7);
  }
  if (kHasNonLocalMeans) {
    expect(Coder::non_local_means,
           non_local_means(shown, *evaluation.find(Coder::non_local_means)->strength));
  } else {
    EXPECT_TRUE(contains(reason(evaluation, Coder::non_local_means), "module photo"));
  }
  for (const Coder coder : {Coder::pca, Coder::mean_image, Coder::network_8_bit, Coder::jpeg}) {
    EXPECT_TRUE(contains(reason(evaluation, coder), "--corrupt")) << to_string(coder);
  }
  EXPECT_EQ(evaluation.duels().size(), kHasNonLocalMeans ? 3U : 2U);
  EXPECT_EQ(to_json(evaluation), to_json(evaluate(model, wanted)));
}

TEST_F(EvaluateTest, RestoringTakesSeveralSizesAndNoTrainingImages) {
  test::write_image(folder_ / "tested/larger.png", test::wave(3, 25, 33, 1));
  EvaluateOptions wanted = options();
  wanted.corruptions = parse_corruptions("shrink");
  const Evaluation evaluation = evaluate(model_of_all_sizes(), wanted);
  EXPECT_EQ(evaluation.find(Coder::gaussian_blur)->measures.values(Measure::mse).size(), 8U);
  wanted.train_data = (folder_ / "trained").string();
  const std::string message =
      test::message_of<OptionError>([&] { evaluate(model_of_all_sizes(), wanted); });
  EXPECT_TRUE(contains(message, "--train-data '") && contains(message, "--corrupt")) << message;
}

TEST_F(EvaluateTest, CanBeStoppedAnywhereAndLeavesNothing) {
  EvaluateOptions wanted = options("trained");
  wanted.output = folder_ / "out";
  wanted.images.batch_size = 2;
  for (const std::int64_t enough : {1, 12, 25, 32}) {
    std::int64_t asked = 0;
    Callbacks callbacks;
    callbacks.should_stop = [&] { return ++asked >= enough; };
    EXPECT_THROW(evaluate(dense_model(), wanted, callbacks), Interrupted) << enough;
    EXPECT_EQ(asked, enough);
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST_F(EvaluateTest, NetworkThatGivesNoNumbersIsRefusedByTheImage) {
  const Model model = dense_model();
  const torch::NoGradGuard no_grad;
  model.net()->parameters().front().fill_(std::numeric_limits<float>::infinity());
  const std::string message =
      test::message_of<std::runtime_error>([&] { evaluate(model, options("trained")); });
  EXPECT_TRUE(contains(message, "'100.png': the network's output is not finite")) << message;
}

}  // namespace
}  // namespace convae::test_evaluate
