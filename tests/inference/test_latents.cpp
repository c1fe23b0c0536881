#include "convae/core/errors.h"
#include "convae/core/machine.h"
#include "convae/data/npy.h"
#include "convae/inference/decode.h"
#include "convae/inference/encode.h"
#include "convae/inference/reconstruct.h"
#include "convae/tests/inference/support.h"

namespace convae::test_latents {
namespace {

using test::contains;
using test::files_in;
using test::message_of;
using Names = std::vector<std::string>;

class LatentsTest : public test::JobTest {
protected:
  EncodeOptions encoding(const std::string& output) const {
    EncodeOptions options;
    options.images.data = data();
    options.output = folder_ / output;
    return options;
  }

  DecodeOptions decoding(const std::string& latents) const {
    DecodeOptions options;
    options.latents = folder_ / latents;
    options.output = folder_ / "decoded";
    options.workers = 0;
    return options;
  }
};

TEST_F(LatentsTest, ThatAreNotFiniteAreNotWritten) {
  Autoencoder net(test::small_options());
  {
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& weight : net->parameters()) weight.fill_(3e38);
  }
  const Model diverged(net);
  for (const char* output : {"latents/", "latents.npy"}) {
    EncodeOptions options = encoding(output);
    options.pool = Pooling::mean;  // one shape
    EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { encode_folder(diverged, options); }),
                         "not finite"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "latents.npy"));
  }
}

TEST_F(LatentsTest, OfDoublePrecisionAreDecodedAsTheyAre) {
  const torch::Tensor latents = test::uniform({2, 6, 4, 5}, 3);
  EXPECT_TRUE(torch::equal(model_.decode(latents.to(torch::kDouble), {15, 20}),
                           model_.decode(latents, {15, 20})));
}

TEST_F(LatentsTest, AFolderOfLatentsDecodesToTheReconstructions) {
  const EncodeResult result = encode_folder(model_, encoding("latents/"));
  EXPECT_EQ(files_in(folder_ / "latents"),
            (Names{"a.npy", "b.npy", "c/d.npy", "e.npy", "latents.csv"}));
  ASSERT_EQ(result.rows.size(), 4U);
  EXPECT_EQ(result.rows[2].name, "c/d.png");
  EXPECT_EQ(result.rows[2].file, "c/d.npy");
  EXPECT_EQ(result.rows[2].own, (Size{17, 21}));
  EXPECT_EQ(result.rows[2].index, 2);
  EXPECT_EQ(read_npy(folder_ / "latents/c/d.npy").sizes(), torch::IntArrayRef({1, 6, 5, 6}));
  decode_latents(model_, decoding("latents"));
  ReconstructOptions options;
  options.images.data = data();
  options.output = output();
  reconstruct_folder(model_, options);
  for (const auto& [name, own] : kImages) {
    const torch::Tensor decoded = test::image_in(folder_ / "decoded" / name);
    EXPECT_EQ(decoded.sizes(), torch::IntArrayRef({3, own.h, own.w}));
    EXPECT_LE(test::difference(decoded, test::image_in(output() / name)), 1) << name;
  }
}

TEST_F(LatentsTest, LatentsThatTheTableDoesNotListAreCounted) {
  EncodeOptions options = encoding("latents.npy");
  options.images.data.size = {15, 20};
  encode_folder(model_, options);
  DecodeOptions decode = decoding("latents.npy");
  decode.overwrite = true;
  Names warnings;
  Callbacks callbacks;
  callbacks.warning = [&](const std::string& line) { warnings.push_back(line); };
  decode_latents(model_, decode, callbacks);
  EXPECT_TRUE(warnings.empty());
  const std::string table = test::contents(folder_ / "latents.csv");
  test::write_text(folder_ / "latents.csv", table.substr(0, table.find("c/d.png")));
  EXPECT_EQ(decode_latents(model_, decode, callbacks).images.size(), 2U);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_TRUE(contains(warnings[0], "latents.npy' has 4 latents, but its table '") &&
              contains(warnings[0], "latents.csv' lists 2 of them; the other 2 are not decoded"))
      << warnings[0];
}

TEST_F(LatentsTest, WithoutATableTheSizeIsAsked) {
  EncodeOptions options = encoding("own.npy");
  options.images.data.size = {15, 20};
  encode_folder(model_, options);
  decode_latents(model_, decoding("own.npy"));
  std::filesystem::remove(folder_ / "own.csv");
  DecodeOptions bare = decoding("own.npy");
  bare.output = folder_ / "bare";
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { decode_latents(model_, bare); }),
                       "own.csv', so the images' size is not known; say it with --size HxW"));
  bare.size = {15, 20};
  const DecodeResult result = decode_latents(model_, bare);
  EXPECT_EQ(result.images, (Names{"latent_00000.png", "latent_00001.png", "latent_00002.png",
                                  "latent_00003.png"}));
  const torch::Tensor image = test::image_in(folder_ / "bare/latent_00002.png");
  EXPECT_EQ(image.sizes(), torch::IntArrayRef({3, 15, 20}));
  const torch::Tensor expected =
      model_.decode(read_npy(folder_ / "own.npy").narrow(0, 2, 1), {15, 20})[0];
  EXPECT_LE(test::difference(image, expected.mul(255).round()), 1);
}

TEST_F(LatentsTest, WithoutATableEachFileOfAFolderIsALatent) {
  std::filesystem::create_directories(folder_ / "made");
  const torch::Tensor latents = test::uniform({2, 6, 4, 5}, 3);
  write_npy(folder_ / "made/b.x.npy", {latents[0]}, {6, 4, 5});
  DecodeOptions options = decoding("made");
  options.size = {15, 20};
  EXPECT_EQ(decode_latents(model_, options).images, (Names{"b.x.png"}));
  write_npy(folder_ / "made/two.npy", {latents[0], latents[1]}, {6, 4, 5});
  options.overwrite = true;
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { decode_latents(model_, options); }),
                       "holds 2 latents"));
  write_npy(folder_ / "made/two.npy", {torch::full({6, 4, 5}, NAN)}, {6, 4, 5});
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] { decode_latents(model_, options); }),
                       "'two.npy' has values that are not finite"));
}

TEST_F(LatentsTest, ImagesThatMemoryCannotHoldAtTheirOwnSizeAreRefused) {
  write_npy(folder_ / "latents.npy", {torch::zeros({6, 2, 2})}, {6, 2, 2});
  test::write_text(folder_ / "latents.csv",
                   "path,height,width,index,encoded_height,encoded_width\na.png,9999,9999,0,8,8\n");
  limit_memory(std::int64_t{1} << 30);
  const std::string message =
      message_of<std::runtime_error>([&] { decode_latents(model_, decoding("latents.npy")); });
  limit_memory(0);
  EXPECT_TRUE(contains(message, "an image of 9999x9999 takes") && contains(message, "--size"))
      << message;
}

TEST_F(LatentsTest, StoppedEncodingLeavesNoTable) {
  const std::string array = (folder_ / "latents.npy").string();
  EncodeOptions options = encoding("latents.npy");
  options.pool = Pooling::mean;
  EXPECT_EQ(
      message_of<Interrupted>([&] { encode_folder(model_, options, test::stopping_after(1)); }),
      "stopped after 2 of 4 images; no " + array + " was written");
  EXPECT_EQ(message_of<Interrupted>(
                [&] { encode_folder(model_, encoding("maps/"), test::stopping_after(1)); }),
            "stopped after 2 of 4 images; no latents.csv was written");
  EXPECT_EQ(files_in(folder_ / "maps"), (Names{"b.npy", "e.npy"}));
  EXPECT_FALSE(std::filesystem::exists(array));
}

}  // namespace
}  // namespace convae::test_latents
