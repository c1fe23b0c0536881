#include "convae/core/csv.h"
#include "convae/core/version.h"
#include "convae/inference/model.h"
#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"

#include <torch/torch.h>
#include <torch/version.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace convae::test_checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::contains;
using test::contents;
using test::message_of;
using test::TemporaryFolder;
using test::uniform;
using test::write_text;
using Tensors = std::map<std::string, torch::Tensor>;

ModelOptions small() { return test::small_network("4,6"); }

/// A model that has seen a step, with an optimizer that has taken one.
struct Trained {
  explicit Trained(const ModelOptions& options, OptimizerKind kind = OptimizerKind::adam)
      : net(options), optimizer(*net, with(kind)) {
    const Size size = options.latent > 0 ? options.size : Size{9, 14};
    net->forward(uniform({2, options.channels, size.h, size.w}, 1)).square().sum().backward();
    optimizer.step(0.1);
  }
  static TrainOptions with(OptimizerKind kind) {
    TrainOptions options;
    options.optimizer = kind;
    return options;
  }
  Autoencoder net;
  Optimizer optimizer;
};

class CheckpointTest : public testing::Test {
protected:
  fs::path path() const { return folder_ / "a.safetensors"; }
  std::string source() const { return "'" + path().string() + "'"; }

  Trained save(const ModelOptions& options = small(), const CheckpointInfo& info = {}) {
    Trained trained(options);
    save_checkpoint(path(), trained.net, &trained.optimizer, info);
    return trained;
  }

  /// Rewrites the file with another description or other tensors, and with a checksum that fits.
  void forge(const std::function<void(json&, Tensors&)>& change) {
    Safetensors file = read_safetensors(path());
    json description = json::parse(file.metadata.at(kMetadataKey));
    description[kDigestKey] = kDigestPlaceholder;
    change(description, file.tensors);
    write_safetensors(path(), file.tensors, {{kMetadataKey, description.dump()}});
  }

  /// The message without the file's name, which it must begin with.
  std::string refusal() {
    const std::string message = message_of<CheckpointError>([&] { load(path()); });
    EXPECT_TRUE(message.starts_with(source() + ": ")) << message;
    return message.substr(std::min(message.size(), source().size() + 2));
  }

  std::string refusal_of(const std::function<void(json&, Tensors&)>& change) {
    save();
    forge(change);
    return refusal();
  }

  TemporaryFolder folder_;
};

TEST_F(CheckpointTest, GivesWeightsStatisticsAndMomentsBack) {
  for (const auto kind : {OptimizerKind::adam, OptimizerKind::sgd}) {
    Trained trained(small(), kind);
    save_checkpoint(path(), trained.net, &trained.optimizer, {});
    const Checkpoint checkpoint = read_checkpoint(path());
    Tensors expected = weights_of(*trained.net);
    expected.merge(trained.optimizer.state());
    ASSERT_EQ(checkpoint.tensors.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      ASSERT_EQ(checkpoint.tensors.count(name), 1U) << name;
      EXPECT_TRUE(test::identical(checkpoint.tensors.at(name), tensor)) << name;
    }
    EXPECT_EQ(checkpoint.info.progress.optimizer_steps, 1);
  }
}

TEST_F(CheckpointTest, NeedsNoOptimizer) {
  Trained trained(small());
  save_checkpoint(path(), trained.net, nullptr, {});
  EXPECT_EQ(read_checkpoint(path()).tensors.size(), weights_of(*trained.net).size());
}

void expect_same_model(const ModelOptions& a, const ModelOptions& b) {
  EXPECT_EQ(a.channels, b.channels);
  EXPECT_EQ(a.levels, b.levels);
  EXPECT_EQ(a.order, b.order);
  EXPECT_EQ(a.activation, b.activation);
  EXPECT_EQ(a.norm, b.norm);
  EXPECT_EQ(a.latent_channels, b.latent_channels);
  EXPECT_EQ(a.latent, b.latent);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.output, b.output);
  EXPECT_EQ(a.shortcut, b.shortcut);
  EXPECT_EQ(a.linear, b.linear);
  EXPECT_EQ(a.skip, b.skip);
  EXPECT_EQ(a.residual, b.residual);
}

TEST_F(CheckpointTest, GivesEveryOptionOfTheModelBack) {
  std::vector<ModelOptions> all(6, small());
  all[1].channels = 1;
  all[1].levels = parse_levels("3,5:k5p2,4:k3x5s2x1p1x2d1", {0, {4, 3}, {1, 2}, {2, 1}, {1, 2}});
  all[1].order = Order::conv_act_bn;
  all[1].activation = Activation::relu;
  all[1].norm = Norm::group;
  all[1].latent_channels = 2;
  all[1].output = Output::tanh;
  all[2].activation = Activation::leaky_relu;
  all[2].norm = Norm::none;
  all[2].latent = 7;
  all[2].size = {12, 17};
  all[2].output = Output::linear;
  all[2].linear = Linear::pca;
  all[3].activation = Activation::gelu;
  all[4].shortcut = Shortcut::shuffle;
  all[4].skip = Skip::add;
  all[5].levels = parse_levels("4,6:r2");
  all[5].residual = true;
  all[5].output = Output::linear;
  for (const ModelOptions& options : all) {
    save(options);
    expect_same_model(read_checkpoint(path()).info.model, options);
  }
}

TEST_F(CheckpointTest, GivesProgressSeedAndConfigBack) {
  CheckpointInfo info;
  info.seed = std::numeric_limits<std::uint64_t>::max();
  info.config = "[run]\nname = \"\xC3\xA4\\\"\"\n";
  info.images = "0123456789abcdef";
  Progress& progress = info.progress;
  progress.epoch = 3;
  progress.epoch_position = 44;
  progress.step = 55;
  progress.epoch_loss_sum = 0.1 + 0.2;
  progress.epoch_images = 66;
  progress.epoch_train_seconds = 1.5;
  progress.epoch_lr = 1e-3 / 3;
  progress.best_value = 1.0 / 7;
  progress.best_epoch = 2;
  progress.stopped_early = true;
  save(small(), info);
  const CheckpointInfo read = read_checkpoint(path()).info;
  EXPECT_EQ(read.seed, info.seed);
  EXPECT_EQ(read.config, info.config);
  EXPECT_EQ(read.images, info.images);
  EXPECT_EQ(read.progress.epoch, 3);
  EXPECT_EQ(read.progress.epoch_position, 44);
  EXPECT_EQ(read.progress.step, 55);
  EXPECT_EQ(read.progress.optimizer_steps, 1);  // the optimizer's own count
  EXPECT_EQ(read.progress.epoch_loss_sum, progress.epoch_loss_sum);
  EXPECT_EQ(read.progress.epoch_images, 66);
  EXPECT_EQ(read.progress.epoch_train_seconds, 1.5);
  EXPECT_EQ(read.progress.epoch_lr, progress.epoch_lr);
  EXPECT_EQ(read.progress.best_value, progress.best_value);
  EXPECT_EQ(read.progress.best_epoch, 2);
  EXPECT_TRUE(read.progress.stopped_early);
}

TEST_F(CheckpointTest, ABestValueThatIsNotFiniteIsNone) {
  CheckpointInfo info;
  EXPECT_EQ(info.progress.best_epoch, 0);  // none yet
  save(small(), info);
  EXPECT_TRUE(std::isnan(read_checkpoint(path()).info.progress.best_value));
  info.progress.best_epoch = 1;
  info.progress.best_value = std::numeric_limits<double>::infinity();
  save(small(), info);
  EXPECT_TRUE(std::isnan(read_checkpoint(path()).info.progress.best_value));
}

TEST_F(CheckpointTest, NamesTheVersionsItWasWrittenWith) {
  save();
  const CheckpointInfo info = read_checkpoint(path()).info;
  EXPECT_EQ(info.convae_version, kVersion);
  EXPECT_EQ(info.libtorch_version, TORCH_VERSION);
}

TEST_F(CheckpointTest, HasTheOldFormatUnlessItHoldsWhatTheOldVersionDoesNotKnow) {
  CheckpointInfo info;
  save(small(), info);
  EXPECT_EQ(read_checkpoint(path()).info.format, 1);
  info.config = "[model]\noutput-activation = 'tanh'\n";
  save(small(), info);
  EXPECT_EQ(read_checkpoint(path()).info.format, 2);

  std::vector<ModelOptions> of_0_2(5, small());
  of_0_2[0].shortcut = Shortcut::shuffle;
  of_0_2[1].skip = Skip::add;
  of_0_2[2].residual = true;
  of_0_2[2].output = Output::linear;
  of_0_2[3].levels = parse_levels("4:r1");
  of_0_2[4].latent = 3;
  of_0_2[4].size = {12, 17};
  of_0_2[4].linear = Linear::pca;
  of_0_2[4].output = Output::linear;
  for (const ModelOptions& options : of_0_2) {
    save(options);
    EXPECT_EQ(read_checkpoint(path()).info.format, 2);
  }
}

/// Models of version 0.1 and the errors that it measured of images in data/samples.
TEST(CheckpointOfVersion01, GivesTheSameImages) {
  std::map<std::string, fs::path> samples;
  const fs::path root = CONVAE_SOURCE_DIR;
  for (const auto& file : fs::recursive_directory_iterator(root / "data/samples")) {
    samples[file.path().filename().string()] = file.path();
  }
  for (const std::string name : {"plain", "dense"}) {
    const fs::path file = root / "tests/fixtures/version_0_1" / name;
    const Model model = load(file.string() + ".safetensors", "cpu");
    EXPECT_EQ(model.info().format, 1);
    EXPECT_EQ(model.info().convae_version, "0.1.0");
    CsvReader table(file.string() + ".csv");
    std::int64_t images = 0;
    for (; table.next(); ++images) {
      const torch::Tensor image =
          decode_image(read_file(samples.at(table.text("path"))), /*channels=*/1).unsqueeze(0);
      const torch::Tensor x = image.to(torch::kFloat) / 255;
      EXPECT_NEAR(torch::mse_loss(model.reconstruct(x), x).item<double>(), table.number("mse"),
                  1e-6)
          << table.text("path");
    }
    EXPECT_GE(images, 10);
  }
}

TEST_F(CheckpointTest, DescribesItsDataForOtherPrograms) {
  for (const Output output : {Output::sigmoid, Output::tanh}) {
    ModelOptions options = small();
    options.output = output;
    save(options);
    const json description = json::parse(read_safetensors(path()).metadata.at("convae"));
    EXPECT_EQ(description.at("data").at("channels"), 3);
    EXPECT_EQ(description.at("data").at("range"),
              output == Output::tanh ? json({-1, 1}) : json({0, 1}));
    EXPECT_EQ(description.at("xxh3").get<std::string>().size(), 16U);
  }
}

TEST_F(CheckpointTest, LoadsAModelThatGivesTheSameImages) {
  Trained trained = save();
  Model loaded = load(path());
  EXPECT_FALSE(loaded.net()->is_training());
  EXPECT_EQ(loaded.path(), path());
  trained.net->eval();
  const torch::Tensor x = uniform({1, 3, 13, 8}, 5);
  EXPECT_TRUE(torch::equal(loaded.net()->forward(x), trained.net->forward(x)));
  for (const auto& item : loaded.net()->named_parameters()) {
    if (item.value().dim() == 4) {
      EXPECT_TRUE(item.value().is_contiguous(torch::MemoryFormat::ChannelsLast)) << item.key();
    }
  }
}

TEST_F(CheckpointTest, RefusesAnotherFormatAndSaysWhoWroteIt) {
  EXPECT_EQ(refusal_of([](json& description, Tensors&) {
              description["format"] = 3;
              description["convae"] = "9.8.7";
              description.erase("model");  // may be anything in a later format
            }),
            "checkpoint format 3, but this version of convae reads formats 1 and 2; use the convae "
            "that wrote it (9.8.7)");
}

TEST_F(CheckpointTest, RefusesAMissingWeight) {
  EXPECT_EQ(refusal_of([](json&, Tensors& tensors) {
              auto weight = tensors.extract("encoder.0.conv.bias");
              tensors["ema.encoder.0.conv.bias"] = weight.mapped();
              tensors["encoder.1.conv.bias"] = tensors.at("encoder.1.conv.bias");
              tensors["decoder.0.norm.running_mean"] = tensors.at("decoder.0.norm.running_mean");
            }),
            "'encoder.0.conv.bias' is missing, which this architecture needs");
}

TEST_F(CheckpointTest, RefusesAWeightTooMany) {
  EXPECT_EQ(
      refusal_of([](json&, Tensors& tensors) { tensors["encoder.7\n.bias"] = torch::zeros({2}); }),
      "it holds 'encoder.7\\n.bias', which this architecture does not have");
}

TEST_F(CheckpointTest, RefusesAnotherShape) {
  EXPECT_EQ(refusal_of([](json&, Tensors& tensors) {
              tensors["encoder.0.conv.weight"] = torch::zeros({4, 3, 3, 5});
            }),
            "'encoder.0.conv.weight' has shape [4, 3, 3, 5], but this architecture expects "
            "[4, 3, 3, 3]");
}

TEST_F(CheckpointTest, RefusesValuesThatAreNotFinite) {
  for (const float value : {std::nanf(""), INFINITY}) {
    for (const char* name : {"decoder.1.conv.bias", "encoder.0.norm.running_var",
                             "optimizer.encoder.0.conv.weight.exp_avg"}) {
      EXPECT_EQ(refusal_of([&](json&, Tensors& tensors) { tensors[name].view({-1})[1] = value; }),
                "'" + std::string(name) + "' holds values that are not finite");
    }
  }
}

TEST_F(CheckpointTest, WritesNothingThatItWouldRefuseToRead) {
  Trained trained = save();
  const std::string before = contents(path());
  torch::NoGradGuard no_grad;
  trained.net->named_parameters()["encoder.1.conv.bias"][2] = INFINITY;
  EXPECT_EQ(message_of<CheckpointError>(
                [&] { save_checkpoint(path(), trained.net, &trained.optimizer, {}); }),
            source() +
                " is not written: 'encoder.1.conv.bias' holds values that are not finite; try a "
                "lower lr or clip-grad 1");
  EXPECT_EQ(contents(path()), before);
}

TEST_F(CheckpointTest, RefusesAnArchitectureThatTheFileHasNoWeightsFor) {
  // Building it would take 80 TB.
  const std::string huge = refusal_of([](json& description, Tensors&) {
    description["model"]["levels"] = {"1048576:k3s2p1", "1048576:k3s2p1"};
  });
  // Kernels 18·2^40 + 54·2^20, biases 3·2^20 + 3, norms 6·2^20
  EXPECT_TRUE(
      huge.starts_with("its architecture needs 19791275360259 weights, but the file holds "))
      << huge;
  EXPECT_TRUE(contains(refusal_of([](json& description, Tensors&) {
                         description["model"]["latent"] = 1 << 24;
                         description["model"]["size"] = "1073741824x1073741824";
                       }),
                       "its architecture needs 4611686018427387904 weights, but the file holds "));
}

TEST_F(CheckpointTest, DoesNotCountMomentsAsWeights) {
  // Moments outnumber the weights of a level more.
  EXPECT_TRUE(contains(refusal_of([](json& description, Tensors& tensors) {
                         description["model"]["levels"] = {"4:k3s2p1", "6:k3s2p1", "6:k3s2p1"};
                         tensors["optimizer.more"] = torch::zeros({100000});
                         tensors["ema.more"] = torch::zeros({100000});
                       }),
                       "its architecture needs "));
}

TEST_F(CheckpointTest, RefusesADescriptionThatDoesNotWork) {
  const auto with_model = [&](const char* key, const json& value) {
    return refusal_of([&](json& description, Tensors&) { description["model"][key] = value; });
  };
  EXPECT_EQ(with_model("activation", "si\nlu"),
            "its description does not work: unknown activation 'si\\nlu'");
  EXPECT_EQ(with_model("norm", "layer"), "its description does not work: unknown norm 'layer'");
  EXPECT_EQ(with_model("order", ""), "its description does not work: unknown order ''");
  EXPECT_EQ(with_model("output", "relu"), "its description does not work: unknown output 'relu'");
  EXPECT_EQ(with_model("size", "5x"), "its description does not work: size is not HxW");
  EXPECT_TRUE(
      contains(with_model("levels", json::array()), "its description does not work: level"));
  EXPECT_TRUE(contains(with_model("channels", 0), "channels must be at least 1, but is 0"));
  EXPECT_TRUE(contains(with_model("channels", "3"), "its description is damaged: "));
  EXPECT_TRUE(contains(with_model("levels", 5), "its description is damaged: "));
  EXPECT_EQ(refusal_of([](json& d, Tensors&) { d["progress"]["epoch-position"] = -1; }),
            "its description does not work: a negative count of epochs, steps or images");
  EXPECT_EQ(refusal_of([](json& d, Tensors&) { d["progress"]["seconds"] = -1; }),
            "its description does not work: a negative time");
}

TEST_F(CheckpointTest, RefusesADescriptionWithAPartMissing) {
  for (const char* key :
       {"format", "convae", "libtorch", "model", "epoch", "step", "seed", "progress", "config"}) {
    const std::string message =
        refusal_of([&](json& description, Tensors&) { description.erase(key); });
    EXPECT_TRUE(contains(message, "its description is damaged: ")) << message;
    EXPECT_TRUE(contains(message, std::string("'") + key + "'")) << message;
  }
}

TEST_F(CheckpointTest, TakesWeightsFromProgramsThatDoNotCountBatches) {
  save();
  const Safetensors before = read_safetensors(path());
  forge([](json&, Tensors& tensors) {
    std::erase_if(tensors,
                  [](const auto& item) { return item.first.ends_with("num_batches_tracked"); });
  });
  const Model loaded = load(path());
  const torch::Tensor weight = loaded.net()->named_parameters()["encoder.0.conv.weight"];
  EXPECT_TRUE(torch::equal(weight, before.tensors.at("encoder.0.conv.weight")));
}

TEST_F(CheckpointTest, RefusesATruncatedFile) {
  save();
  const std::string whole = contents(path());
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write_text(path(), whole.substr(0, length));
    const std::string message = message_of<SafetensorsError>([&] { read_checkpoint(path()); });
    EXPECT_TRUE(contains(message, path().string())) << message;
  }
}

TEST_F(CheckpointTest, RefusesPlainSafetensorsAndSaysWhatTheyAreGoodFor) {
  write_safetensors(path(), {{"encoder.0.conv.weight", torch::zeros({2})}}, {});
  EXPECT_EQ(
      refusal(),
      "not a convae checkpoint, as in a run's folder; weights alone, such as exported ones, can "
      "start a run with train --init");
}

TEST_F(CheckpointTest, LoadsPlainWeightsByName) {
  Trained trained(small());
  Tensors weights;
  for (const auto& [name, tensor] : weights_of(*trained.net)) weights[name] = tensor.clone();
  weights["optimizer.encoder.0.conv.weight.exp_avg"] = torch::zeros({1});  // passed over
  weights["ema.encoder.0.conv.weight"] = torch::zeros({1});
  Autoencoder net(small());
  load_weights(net, weights, "'w'");
  for (const auto& [name, tensor] : weights_of(*net)) {
    EXPECT_TRUE(torch::equal(tensor, weights.at(name))) << name;
  }
}

TEST_F(CheckpointTest, LeavesAModelAloneWhoseWeightsDoNotFit) {
  Trained trained(small());
  Tensors weights;
  for (const auto& [name, tensor] : weights_of(*trained.net)) weights[name] = tensor.clone() + 1;
  weights["decoder.1.conv.bias"] = torch::zeros({4});
  const torch::Tensor before = weights_of(*trained.net).at("encoder.0.conv.weight").clone();
  EXPECT_EQ(message_of<CheckpointError>([&] { load_weights(trained.net, weights, "'w'"); }),
            "'w': 'decoder.1.conv.bias' has shape [4], but this architecture expects [3]");
  EXPECT_TRUE(torch::equal(weights_of(*trained.net).at("encoder.0.conv.weight"), before));
  weights.erase("decoder.1.conv.bias");
  EXPECT_EQ(message_of<CheckpointError>([&] { load_weights(trained.net, weights, "'w'"); }),
            "'w': 'decoder.1.conv.bias' is missing, which this architecture needs");
}

TEST_F(CheckpointTest, FindsBestBeforeLastInARunFolder) {
  const fs::path run = folder_ / "run";
  fs::create_directories(run / "weights");
  EXPECT_EQ(message_of<CheckpointError>([&] { find_checkpoint(run); }),
            "'" + run.string() +
                "' is not a run folder: it has no weights/best.safetensors or "
                "weights/last.safetensors");
  write_text(run / "weights/last.safetensors", "");
  EXPECT_EQ(find_checkpoint(run), run / "weights/last.safetensors");
  write_text(run / "weights/best.safetensors", "");
  EXPECT_EQ(find_checkpoint(run), run / "weights/best.safetensors");
}

TEST_F(CheckpointTest, TakesAFileAsItIs) {
  write_text(folder_ / "any.name", "");
  EXPECT_EQ(find_checkpoint(folder_ / "any.name"), folder_ / "any.name");
  EXPECT_EQ(message_of<CheckpointError>([&] { find_checkpoint(folder_ / "gone"); }),
            "there is no checkpoint or run folder '" + folder_.path().string() + "/gone'");
  fs::create_symlink("moved", folder_ / "latest");
  EXPECT_EQ(message_of<CheckpointError>([&] { find_checkpoint(folder_ / "latest"); }),
            "there is no checkpoint or run folder '" + folder_.path().string() +
                "/latest'; it leads to 'moved'");
}

}  // namespace
}  // namespace convae::test_checkpoint
