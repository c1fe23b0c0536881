#include "convae/app/commands/commands.h"
#include "convae/app/options/config_file.h"
#include "convae/app/options/option_table.h"
#include "convae/models/autoencoder.h"
#include "convae/tests/support.h"
#include "convae/training/checkpoint.h"
#include "convae/training/saved_data.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>

namespace convae::app::test_options {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;
using Words = std::vector<std::string>;

CommandLine read_words(const Words& words) { return read_command_line(words); }

std::string refusal_of_words(const Words& words) {
  return message_of<OptionError>([&] { read_command_line(words); });
}

std::string refusal_of_config(const std::string& text) {
  Options options;
  return message_of<OptionError>([&] { read_config(text, "recipe.toml", options); });
}

/// A valid value that is not the default.
std::string another_value(const OptionSpec& option) {
  static const std::map<std::string, std::string> own = {
      {"levels", "8:k5,16"},     {"kernel", "5x3"},
      {"stride", "3x2"},         {"padding", "2x1"},
      {"dilation", "1x2"},       {"size", "48x32"},
      {"crop", "24x16"},         {"value-range", "-5:12.5"},
      {"loss", "0.5*l1 + ssim"}, {"corrupt", "blur:2,noise:0.1"},
      {"detector", "4,8"},       {"augment", "flip:0.5"},
      {"time", "1h30m"},         {"shard-size", "64M"},
      {"tile", "512"},           {"memory", "4G"}};
  if (own.contains(option.name)) return own.at(option.name);
  const std::string usual = option.get(Options{});
  if (!option.value.choices.empty()) {
    const Words& choices = option.value.choices;
    return choices.back() == usual ? choices.front() : choices.back();
  }
  if (option.value.kind == ValueKind::integer) return "7";
  return option.value.kind == ValueKind::number ? "0.25" : "a \"b\"";
}

TEST(OptionsTest, EachFlagSetsAMemberOfItsOwn) {
  const Options defaults;
  for (const OptionSpec& option : option_table()) {
    const std::string value = another_value(option);
    const std::string command = option.commands.substr(0, option.commands.find(' '));
    const bool is_flag = option.name != "config" && !command.empty();
    const Options options =
        !is_flag
            ? [&] { Options o; option.value.set(o, value); return o; }()
            : read_words({command, "--" + option.name + "=" + value}).options;
    for (const OptionSpec& other : option_table()) {
      const bool is_implied = (option.name == "residual" || option.name == "linear") &&
                              other.name == "output-activation";
      if (other.name == option.name || is_implied) continue;
      EXPECT_EQ(other.get(options), other.get(defaults)) << option.name << " sets " << other.name;
    }
    EXPECT_EQ(option.get(options), value) << option.name;
    EXPECT_NE(value, option.get(defaults)) << option.name;
  }
}

TEST(OptionsTest, ConfigHoldsEveryOptionAndReadsBackTheSame) {
  Words words = {"train"};
  for (const OptionSpec* option : options_of("train")) {
    if (option->group != Group::call && option->name != "time") {
      words.insert(words.end(), {"--" + option->name, another_value(*option)});
    }
  }
  Options written = read_words(words).options;
  written.train.time = 5400;  // its flag excludes those of epochs and max-steps
  written.data.images = {"a.png", "b \"c\".png", "d\ne.png", "\nf.png"};  // a key without a flag
  written.data.group_regex = "\n(a|''')";
  Options read;
  const auto given = read_config(write_config(written), "config.toml", read);
  for (const OptionSpec& option : option_table()) {
    EXPECT_EQ(option.get(read), option.get(written)) << option.name;
    // precision is a key of training, and of calls of other commands.
    const bool is_key = option.group != Group::call || option.name == "precision";
    EXPECT_EQ(given.contains(option.name), is_key) << option.name;
  }
}

TEST(OptionsTest, AnElementOfAListMayHaveLineBreaks) {
  const Options options = read_words({"train", "--exclude", "a\nb", "--exclude", "c"}).options;
  EXPECT_EQ(options.data.exclude, (std::vector<std::string>{"a\nb", "c"}));
}

TEST(OptionsTest, ConfigHasEveryByteOfANameThatIsNotUtf8) {
  const std::string config = write_config(read_words({"train", "--name", "a\xffz"}).options);
  Options again;
  read_config(config, "config.toml", again);
  EXPECT_EQ(again.run.name, "a\\xffz");
}

TEST(OptionsTest, ConfigHasNumbersAsTheyWereGiven) {
  const std::string config =
      write_config(read_words({"train", "--lr", "0.1", "--min-lr", "1e-20", "--beta", "1",
                               "--save-minutes", "12345678901234567890"})
                       .options);
  for (const char* line : {"\nlr = 0.1\n", "\nmin-lr = 1e-20\n", "\nbeta = 1.0\n"}) {
    EXPECT_TRUE(contains(config, line)) << config;
  }
  Options again;
  read_config(config, "config.toml", again);
  EXPECT_EQ(again.run.save_minutes, 12345678901234567890.0);
}

TEST(OptionsTest, DefaultsAreValidValues) {
  for (const OptionSpec& option : option_table()) {
    Options options;
    const std::string usual = option.get(options);
    if (usual.empty()) continue;
    EXPECT_NO_THROW(option.value.set(options, usual)) << option.name;
    EXPECT_EQ(option.get(options), usual) << option.name;
  }
}

TEST(OptionsTest, ChoicesAreAllTakenAndShownByHelpAndErrors) {
  for (const OptionSpec& option : option_table()) {
    if (option.value.choices.empty()) continue;
    Options options;
    const std::string refusal =
        message_of<OptionError>([&] { option.value.set(options, "no-such-word"); });
    for (const std::string& choice : option.value.choices) {
      option.value.set(options, choice);
      EXPECT_EQ(option.get(options), choice) << option.name;
      EXPECT_TRUE(contains(refusal, choice)) << refusal;
      EXPECT_TRUE(option.is_switch() || contains(option.help, choice)) << option.help;
    }
  }
}

TEST(OptionsTest, NamesAreUniqueInACommandAndATable) {
  std::set<std::string> commands;
  for (const Command& command : command_list()) {
    commands.insert(command.name);
    const Words names = option_names(command.name);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  }
  for (const Group group : {Group::data, Group::model, Group::train, Group::run}) {
    const Words names = option_names(group);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  }
  for (const OptionSpec& option : option_table()) {
    std::istringstream words(option.commands);
    for (std::string word; words >> word;) EXPECT_TRUE(commands.contains(word)) << option.name;
  }
}

TEST(OptionsTest, SwitchesTakeAValueOrNone) {
  EXPECT_FALSE(read_words({"train", "--skip-bad", "false"}).options.data.skip_bad);
  EXPECT_FALSE(read_words({"train", "--skip-bad=false"}).options.data.skip_bad);
  EXPECT_TRUE(read_words({"train", "--quiet", "--epochs", "3"}).options.run.quiet);
  EXPECT_TRUE(read_words({"train", "--quiet"}).has("quiet"));
}

TEST(OptionsTest, AConfigMayListAHundredThousandImages) {
  Options folds;
  for (int i = 0; i < 100'000; ++i) folds.data.images.push_back(std::to_string(i) + "_good.png");
  const TemporaryFolder folder;
  write_text(folder / "config.toml", write_config(folds));
  const Options read = read_words({"train", "--config", folder / "config.toml"}).options;
  EXPECT_EQ(read.data.images, folds.data.images);
}

TEST(OptionsTest, FlagsOverrideTheConfigWhereverItStands) {
  TemporaryFolder folder;
  write_text(folder / "recipe.toml", "[train]\nepochs = 3\nlr = 0.5\n");
  const std::string path = (folder / "recipe.toml").string();
  for (const Words& words : {Words{"train", "--epochs", "1", "--config", path},
                             Words{"train", "--config", path, "--epochs", "1"}}) {
    const CommandLine line = read_words(words);
    EXPECT_EQ(line.options.train.epochs, 1);
    EXPECT_EQ(line.options.train.lr, 0.5);
    EXPECT_TRUE(line.has("lr"));
    EXPECT_FALSE(line.has("seed"));
  }
}

TEST(OptionsTest, OutputActivationHasItsOldNameInFilesOnly) {
  Options options;
  EXPECT_EQ(read_config("[model]\noutput = 'tanh'\n", "old.toml", options),
            std::set<std::string>{"output-activation"});
  EXPECT_EQ(options.model.output, Output::tanh);
  EXPECT_TRUE(contains(write_config(options), "output-activation = 'tanh'"));
  EXPECT_FALSE(contains(write_config(options), "output = 'tanh'"));
  const std::string both =
      refusal_of_config("[model]\noutput-activation = 'tanh'\noutput = 'tanh'\n");
  EXPECT_TRUE(both.starts_with("recipe.toml:3: output ")) << both;
  EXPECT_TRUE(contains(both, "output-activation")) << both;
  const Options folder = read_words({"train", "--output", "sigmoid"}).options;
  EXPECT_EQ(folder.run.output, "sigmoid");
}

TEST(OptionsTest, SeedsAboveTomlsIntegersReadBack) {
  Options options = read_words({"train", "--seed", "18446744073709551615"}).options;
  Options again;
  read_config(write_config(options), "config.toml", again);
  EXPECT_EQ(again.train.seed, options.train.seed);
}

TEST(OptionsTest, WordsBehindTwoDashesAreNoOptions) {
  EXPECT_EQ(read_words({"interpolate", "--steps", "3", "--", "-a.png", "--b.png"}).operands,
            (Words{"-a.png", "--b.png"}));
}

TEST(OptionsTest, TimeTakesThePlaceOfEpochsUnlessAFlagSaysOtherwise) {
  TemporaryFolder folder;
  const std::string file = folder / "recipe.toml";
  write_text(file, "[train]\nepochs = 5\nmax-steps = 7\ntime = \"1h30m\"\n");
  const auto time_of = [&](const Words& more) {
    Words words = {"train", "--config", file};
    words.insert(words.end(), more.begin(), more.end());
    return read_words(words).options.train.time;
  };
  EXPECT_EQ(time_of({}), 5400);
  EXPECT_EQ(time_of({"--time", "1.5m"}), 90);
  EXPECT_EQ(time_of({"--time", "none"}), 0);
  EXPECT_EQ(time_of({"--epochs", "3"}), 0);
  EXPECT_EQ(time_of({"--max-steps", "3"}), 0);
  EXPECT_EQ(read_words({"train", "--time", "2h5s"}).options.train.time, 7205);
}

TEST(OptionsTest, AutoIsReadFromFlagsAndFilesAndWrittenAsSuch) {
  Options flags = read_words({"train", "--lr", "auto", "--batch-size", "auto"}).options;
  EXPECT_EQ(flags.train.lr, TrainOptions::kAutoRate);
  EXPECT_EQ(flags.train.batch_size, 0);
  EXPECT_NO_THROW(flags.train.validate());
  Options read;
  read_config(write_config(flags), "config.toml", read);
  EXPECT_EQ(read.train.lr, TrainOptions::kAutoRate);
  EXPECT_EQ(read.train.batch_size, 0);
}

TEST(OptionsTest, BadWordsAreRefusedByName) {
  const std::pair<Words, Words> cases[] = {
      {{"trian"}, {"'trian'", "did you mean 'train'?"}},
      {{"xyzzy"}, {"'xyzzy'", "convae --help lists them"}},
      {{"train", "--epoch", "3"}, {"unknown option '--epoch'; did you mean '--epochs'?"}},
      {{"train", "--epoch=3"}, {"unknown option '--epoch'; did you mean '--epochs'?"}},
      {{"train", "-x"}, {"unknown option '-x' (convae train --help lists all)"}},
      {{"train", "--q"}, {"unknown option '--q'"}},
      {{"reconstruct", "--epochs", "3"}, {"unknown option '--epochs'"}},
      {{"train", "more"}, {"unexpected word 'more'"}},
      {{"info", "a", "b"}, {"unexpected word 'b'"}},
      {{"train", "--resume", ""}, {"--resume '': expected RUN"}},
      {{"train", "--init="}, {"--init '': expected FILE"}},
      {{"train", "--seed", "-5"}, {"--seed '-5': expected a whole number of at least 0"}},
      {{"train", "--epochs"}, {"epochs", "missing"}},
      {{"train", "--epochs", "three"}, {"--epochs 'three': expected a whole number"}},
      {{"train", "--epochs", "3.5"}, {"--epochs '3.5'"}},
      {{"train", "--lr", "nan"}, {"--lr 'nan': expected a number"}},
      {{"train", "--time", "10"}, {"--time '10'", "90s, 10m, 2h or 1h30m"}},
      {{"train", "--time", "30m1h"}, {"--time '30m1h'"}},
      {{"train", "--time", "0s"}, {"--time '0s'"}},
      {{"train", "--time", "-5m"}, {"--time '-5m'"}},
      {{"train", "--time", "5m", "--epochs", "2"}, {"--time and --epochs exclude each other"}},
      {{"train", "--max-steps", "9", "--time", "5m"}, {"--time and --max-steps exclude"}},
      {{"train", "--batch-size", "0"}, {"--batch-size '0': expected a whole number of at least 1"}},
      {{"train", "--batch-size", "many"}, {"--batch-size 'many'", "or auto"}},
      {{"train", "--lr", "-1"}, {"--lr '-1': expected a number of at least 0 or auto"}},
      {{"encode", "--batch-size", "auto"}, {"--batch-size 'auto': only training chooses it"}},
      {{"encode", "--batch-size", "0"}, {"of at least 1, or auto in training"}},
      {{"train", "--size", "0"}, {"--size '0'", "native"}},
      {{"train", "--size", "3x"}, {"--size '3x'"}},
      {{"train", "--kernel", "x3"}, {"--kernel 'x3'", "HxW"}},
      {{"train", "--activation", "sillu"}, {"--activation 'sillu'", "'silu'", "gelu"}},
      {{"train", "--skip-bad=maybe"}, {"--skip-bad 'maybe': expected true or false"}},
      {{"train", "--levels", "k3"}, {"--levels 'k3'", "CHANNELS"}},
      {{"train", "--levels", "8:q3"}, {"--levels '8:q3'", "'q'", "k, s, p, d"}},
      {{"train", "--config", "none.toml"}, {"--config", "none.toml", "No such file"}},
      {{"train", "--corrupt", "nois:0.1"}, {"--corrupt 'nois:0.1'", "did you mean 'noise'?"}},
      {{"train", "--corrupt", "noise:x"}, {"--corrupt 'noise:x'"}},
      {{"train", "--corrupt", "noise:-1"}, {"--corrupt 'noise:-1'"}},
      {{"train", "--corrupt", "flip"}, {"--corrupt 'flip'"}},
      {{"evaluate", "--corrupt", "noise:0.2-0.1"}, {"--corrupt 'noise:0.2-0.1'", "LOW-HIGH"}},
      {{"train", "--corrupt", "shrink:1.5"}, {"--corrupt 'shrink:1.5'", "whole number"}},
      {{"train", "--augment", "noise"}, {"--augment 'noise'"}},
      {{"train", "--augment", "flpi"}, {"--augment 'flpi'", "did you mean 'flip'?"}},
      {{"train", "--augment", "crop:0"}, {"--augment 'crop:0'"}},
      {{"train", "--loss", "mse + 0.2*sim"}, {"--loss 'mse + 0.2*sim'", "did you mean 'ssim'?"}},
      {{"train", "--loss", "-1*mse"}, {"--loss '-1*mse'"}},
      {{"train", "--loss", ""}, {"--loss ''"}},
      {{"train", "--best", "val_sim"}, {"--best 'val_sim'", "val_ssim"}},
      {{"train", "--schedule", "cosin"}, {"--schedule 'cosin'", "cosine"}},
      {{"reconstruct", "--format", "jpg"}, {"--format 'jpg'", "png or keep"}},
      {{"export", "--format", "png"}, {"--format 'png'", "onnx, torchscript or safetensors"}},
      {{"encode", "--pool", "max"}, {"--pool 'max'", "mean"}}};
  for (const auto& [words, parts] : cases) {
    const std::string refusal = refusal_of_words(words);
    for (const std::string& part : parts) EXPECT_TRUE(contains(refusal, part)) << refusal;
  }
}

TEST(OptionsTest, BadConfigsAreRefusedWithFileAndLine) {
  struct Case {
    std::string text;
    int line;
    Words parts;
  };
  const Case cases[] = {
      {"[train]\nseed = 1\nepoch = 3\n", 3, {"'epoch' in [train]", "did you mean 'epochs'?"}},
      {"[train]\naugment = 'flip'\n", 2, {"'augment' in [train]; it belongs in [data]"}},
      {"[train]\n\nepochs = 'many'\n", 3, {"epochs = 'many': expected a whole number"}},
      {"[model]\nlevels = [4, '8:k']\n", 2, {"levels = '4,8:k'"}},
      {"[model]\noutput = 'relu'\n", 2, {"output = 'relu': expected sigmoid, tanh or linear"}},
      {"[trian]\nepochs = 3\n", 1, {"'trian'", "did you mean 'train'?"}},
      {"[call]\njson = true\n", 1, {"unknown table 'call'"}},
      {"epochs = 3\n", 1, {"'epochs'", "[train]"}},
      {"[train]\nepochs = 3\nepochs = 4\n", 3, {}},
      {"[train]\nepochs = = 3\n", 2, {}},
      {"[train]\nlr = 2026-01-31\n", 2, {"lr: expected text in quotes, a number"}},
      {"[data]\ndata = 5\n", 2, {"data = '5': expected a string in quotes"}},
      {"[data]\nval = ['a', 'b']\n", 2, {"val = 'a,b': expected a string in quotes"}},
      {"[run]\nname = 'a'\noutput = \"b\\u0000c\"\n", 3, {"output", "NUL"}},
      {"[data]\nexclude = [\"b\\u0000c\"]\n", 2, {"exclude", "NUL"}},
      {"[data]\ninclude = \"b\\u0000c\"\n", 2, {"include = 'b\\x00c'", "NUL"}},
      {"[run]\nname = true\n", 2, {"name = 'true': expected a string in quotes"}},
      {"[run]\noutput.folder = 'runs'\n", 2, {"output: expected text in quotes"}}};
  for (const auto& [text, line, parts] : cases) {
    const std::string refusal = refusal_of_config(text);
    EXPECT_TRUE(refusal.starts_with("recipe.toml:" + std::to_string(line) + ": ")) << refusal;
    for (const std::string& part : parts) EXPECT_TRUE(contains(refusal, part)) << refusal;
  }
}

TEST(InfoTest, SaysNoTrainingOptionsOfARunOfTheLibrary) {
  CheckpointInfo info;
  info.config = data_config({});
  const Autoencoder net(test::small_network("4", 1));
  const TemporaryFolder folder;
  save_checkpoint(folder / "a.safetensors", net, nullptr, info);
  testing::internal::CaptureStdout();
  run_info(read_words({"info", (folder / "a.safetensors").string()}));
  std::fflush(stdout);
  const std::string said = testing::internal::GetCapturedStdout();
  EXPECT_TRUE(contains(said, "channels")) << said;
  EXPECT_FALSE(contains(said, "batch-size")) << said;
}

}  // namespace
}  // namespace convae::app::test_options
