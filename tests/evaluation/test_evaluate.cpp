#include "convae/core/errors.h"
#include "convae/evaluation/evaluate.h"
#include "convae/evaluation/filters.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/corruption.h"

namespace convae::test_evaluate {
namespace {

using test::contains;

constexpr Size kSize{16, 20};

Model dense_model(const std::string& config = "") {
  torch::manual_seed(1);
  ModelOptions options = test::small_network("4,8");
  options.latent = 5;
  options.size = kSize;
  CheckpointInfo info;
  info.config = config;
  return Model(Autoencoder(options), info, "weights.safetensors");
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

TEST_F(EvaluateTest, ImagesThatWereTrainedOnAreCounted) {
  draw("tested/deeper", 2, 70);
  const std::string config = trained_on("tested", "val-split = 0\n");
  EXPECT_EQ(evaluate(dense_model(config), options()).trained_on, 9);
  EXPECT_EQ(evaluate(dense_model(), options("tested/deeper")).trained_on, 2);
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
