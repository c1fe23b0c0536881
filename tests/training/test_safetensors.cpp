#include "convae/tests/support.h"
#include "convae/training/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>

namespace convae::test_safetensors {
namespace {

namespace fs = std::filesystem;

using Tensors = std::map<std::string, at::Tensor>;
using Metadata = std::map<std::string, std::string>;

constexpr const char* kPlaceholderJson = R"({"epoch":3,"lr":1e-3,"xxh3":"0000000000000000"})";

/// A file's bytes, put together by hand.
std::string file_of(const std::string& header, const std::string& data = "") {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

Safetensors parse(std::string_view bytes) {
  return parse_safetensors({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()},
                           "a\n.safetensors");
}

/// The message without the file's name, which every message must begin with; "" if the file was
/// taken.
std::string refusal(std::string_view bytes) {
  try {
    parse(bytes);
  } catch (const SafetensorsError& error) {
    const std::string message = error.what();
    const std::string name = "a\\n.safetensors";
    EXPECT_TRUE(message.starts_with(name)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message.substr(name.size());
  }
  return "";
}

std::string refusal_of_header(const std::string& header, const std::string& data = "") {
  return refusal(file_of(header, data));
}

class SafetensorsFiles : public testing::Test {
protected:
  fs::path path() const { return folder_ / "a.safetensors"; }

  std::string written(const Tensors& tensors, const Metadata& metadata = {}) const {
    write_safetensors(path(), tensors, metadata);
    return test::contents(path());
  }

  std::string write_error(const Tensors& tensors, const Metadata& metadata = {}) const {
    const std::string message =
        test::message_of<SafetensorsError>([&] { write_safetensors(path(), tensors, metadata); });
    EXPECT_FALSE(fs::exists(path()));
    return message.substr(path().string().size());
  }

  std::string small_checkpoint() const {
    return written(
        {{"w", at::arange(4, at::kFloat).view({2, 2})}, {"on", at::ones({3}, at::kBool)}},
        {{"convae", kPlaceholderJson}});
  }

private:
  test::TemporaryFolder folder_;
};

// --- reading what others wrote

// safetensors.torch.save({"f32": torch.tensor([[1.5, -2.0]]), "i64": torch.tensor(-7),
//     "bf16": torch.tensor([1.0, -0.5], dtype=torch.bfloat16),
//     "empty": torch.zeros(0, 3, dtype=torch.float16),
//     "bool": torch.tensor([True, False, True])}, metadata={"format": "pt"})
// with safetensors 0.8.0
TEST(Safetensors, ReadsWhatPythonWrote) {
  const std::string file = file_of(
      R"({"__metadata__":{"format":"pt"},"i64":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("f32":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},)"
      R"("bf16":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},)"
      R"("empty":{"dtype":"F16","shape":[0,3],"data_offsets":[20,20]},)"
      R"("bool":{"dtype":"BOOL","shape":[3],"data_offsets":[20,23]}}     )",
      std::string("\xf9\xff\xff\xff\xff\xff\xff\xff\x00\x00\xc0?\x00\x00\x00\xc0\x80?\x00\xbf"
                  "\x01\x00\x01",
                  23));
  const Safetensors read = parse(file);
  EXPECT_EQ(read.metadata, (Metadata{{"format", "pt"}}));
  ASSERT_EQ(read.tensors.size(), 5u);
  EXPECT_TRUE(at::equal(read.tensors.at("i64"), at::scalar_tensor(-7, at::kLong)));
  EXPECT_TRUE(at::equal(read.tensors.at("f32"), at::tensor({1.5F, -2.0F}).view({1, 2})));
  EXPECT_TRUE(at::equal(read.tensors.at("bf16"), at::tensor({1.0F, -0.5F}).to(at::kBFloat16)));
  EXPECT_EQ(read.tensors.at("empty").sizes(), (at::IntArrayRef{0, 3}));
  EXPECT_EQ(read.tensors.at("empty").scalar_type(), at::kHalf);
  EXPECT_TRUE(at::equal(read.tensors.at("bool"), at::tensor({1, 0, 1}).to(at::kBool)));
}

// def make(digits):
//     inner = json.dumps({"version": 1, "xxh3": digits})
//     head = json.dumps({"__metadata__": {"convae": inner},
//                        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
//     return struct.pack("<Q", len(head)) + head.encode() + struct.pack("<2f", 1, -2)
// make(xxhash.xxh3_64(make("0" * 16)).hexdigest())
TEST(Safetensors, AcceptsTheDigestThatPythonsXxhashComputes) {
  const std::string header =
      R"({"__metadata__": {"convae": "{\"version\": 1, \"xxh3\": \"01f0985710769671\"}"}, )"
      R"("w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})";
  const std::string data("\x00\x00\x80?\x00\x00\x00\xc0", 8);
  EXPECT_EQ(refusal_of_header(header, data), "");
  EXPECT_TRUE(at::equal(parse(file_of(header, data)).tensors.at("w"), at::tensor({1.0F, -2.0F})));
  EXPECT_EQ(refusal_of_header(header, zeros(8)).substr(0, 77),
            " is damaged: its checksum does not match (expected 01f0985710769671, computed");
}

TEST(Safetensors, TensorsOwnTheirMemory) {
  std::string file =
      file_of(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "\x07\x08");
  const at::Tensor tensor = parse(file).tensors.at("w");
  std::fill(file.begin(), file.end(), 'x');
  EXPECT_TRUE(at::equal(tensor, at::tensor({7, 8}, at::kByte)));
}

TEST(Safetensors, AcceptsAnyOrderOfDataAndEmptyTensorsAnywhere) {
  const Safetensors read =
      parse(file_of(R"({"b":{"data_offsets":[0,1],"shape":[1],"dtype":"I8"},)"
                    R"("a":{"dtype":"I8","shape":[],"data_offsets":[1,2]},)"
                    R"("e":{"dtype":"F64","shape":[5,0],"data_offsets":[1,1]}} )",
                    "\x05\xff"));
  EXPECT_EQ(read.tensors.at("a").item<int>(), -1);
  EXPECT_EQ(read.tensors.at("b")[0].item<int>(), 5);
  EXPECT_EQ(read.tensors.at("e").sizes(), (at::IntArrayRef{5, 0}));
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  EXPECT_TRUE(parse(file_of("{}")).tensors.empty());
  EXPECT_TRUE(parse(file_of("{\"__metadata__\":{}}  ")).metadata.empty());
}

// --- writing, and reading it back

TEST_F(SafetensorsFiles, RoundTripKeepsEveryDtype) {
  Tensors tensors;
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
        at::kChar, at::kByte, at::kBool, at::kUInt16, at::kUInt32, at::kUInt64}) {
    tensors[c10::toString(type)] = at::arange(6, at::kLong).view({2, 3}).to(type);
  }
  written(tensors);
  const Safetensors read = read_safetensors(path());
  ASSERT_EQ(read.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& got = read.tensors.at(name);
    EXPECT_EQ(got.scalar_type(), tensor.scalar_type()) << name;
    ASSERT_EQ(got.sizes(), tensor.sizes()) << name;
    EXPECT_EQ(std::memcmp(got.data_ptr(), tensor.data_ptr(), tensor.nbytes()), 0) << name;
  }
}

TEST_F(SafetensorsFiles, RoundTripKeepsEveryBitOfSpecialValues) {
  const at::Tensor bits = at::tensor({0x7fc00001, 0x7f800000, static_cast<int>(0x80000000u), 1},
                                     at::kInt);  // a NaN with payload, infinity, -0, a denormal
  written({{"w", bits.view(at::kFloat)}});
  EXPECT_TRUE(at::equal(read_safetensors(path()).tensors.at("w").view(at::kInt), bits));
}

TEST_F(SafetensorsFiles, StoresEveryStrideRowMajor) {
  const at::Tensor image = at::arange(120, at::kFloat).view({2, 3, 4, 5});
  const Tensors tensors{
      {"channels_last", image.contiguous(at::MemoryFormat::ChannelsLast)},
      {"expanded", at::arange(3, at::kFloat).view({3, 1}).expand({3, 4})},
      {"gradient", image.clone().requires_grad_()},
      {"negated", at::imag(at::complex(image, image).conj())},
      {"slice", image.slice(/*dim=*/3, /*start=*/1, /*end=*/5, /*step=*/2)},
      {"transposed", image.transpose(0, 3)},
  };
  ASSERT_FALSE(tensors.at("channels_last").is_contiguous());
  ASSERT_TRUE(tensors.at("negated").is_neg());
  const std::string file = written(tensors);
  const Safetensors read = read_safetensors(path());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(at::equal(read.tensors.at(name), tensor)) << name;
    EXPECT_TRUE(read.tensors.at(name).is_contiguous()) << name;
  }
  // The first tensor's bytes, where the format says they are.
  const std::size_t data =
      8 + static_cast<std::size_t>(file[0] & 0xff) + 256 * static_cast<std::size_t>(file[1] & 0xff);
  EXPECT_EQ(std::memcmp(file.data() + data, image.data_ptr(), image.nbytes()), 0);
}

TEST_F(SafetensorsFiles, RoundTripKeepsScalarsAndEmptyTensors) {
  written({{"scalar", at::scalar_tensor(2.5, at::kDouble)},
           {"empty", at::empty({0})},
           {"hollow", at::empty({2, 0, 3}, at::kLong)}});
  const Safetensors read = read_safetensors(path());
  EXPECT_EQ(read.tensors.at("scalar").dim(), 0);
  EXPECT_EQ(read.tensors.at("scalar").item<double>(), 2.5);
  EXPECT_EQ(read.tensors.at("empty").sizes(), (at::IntArrayRef{0}));
  EXPECT_EQ(read.tensors.at("hollow").sizes(), (at::IntArrayRef{2, 0, 3}));
}

TEST_F(SafetensorsFiles, RoundTripKeepsNamesAndMetadata) {
  const Metadata metadata{{"quotes", R"({"a": "\"b\"", "c\\": '}'})"},
                          {"lines", "one\ntwo\r\n\tthree"},
                          {"Größe 大きさ", "naïve 🙂"},
                          {"nul", std::string("a\0b", 3)},
                          {"", ""}};
  written({{"a \"b\"\n\\é", at::ones({1})}, {"", at::ones({1})}}, metadata);
  const Safetensors read = read_safetensors(path());
  EXPECT_EQ(read.metadata, metadata);
  EXPECT_TRUE(read.tensors.contains("a \"b\"\n\\é"));
  EXPECT_TRUE(read.tensors.contains(""));
}

TEST_F(SafetensorsFiles, WidestDtypeComesFirstThenTheName) {
  const std::string file = written({{"a", at::zeros({1}, at::kByte)},
                                    {"b", at::zeros({1}, at::kFloat)},
                                    {"c", at::zeros({1}, at::kLong)},
                                    {"d", at::zeros({1}, at::kHalf)},
                                    {"e", at::zeros({1}, at::kInt)}},
                                   {{"k", "v"}});
  const std::string expected =
      R"({"__metadata__":{"k":"v"},"c":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
      R"("e":{"dtype":"I32","shape":[1],"data_offsets":[12,16]},)"
      R"("d":{"dtype":"F16","shape":[1],"data_offsets":[16,18]},)"
      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[18,19]}})";
  EXPECT_EQ(file.substr(8, expected.size()), expected);
}

TEST_F(SafetensorsFiles, DataStartAtAMultipleOfEight) {
  for (std::size_t length = 1; length <= 16; ++length) {
    const std::string file = written({{std::string(length, 'n'), at::ones({1}, at::kByte)}});
    EXPECT_EQ((file.size() - 1) % 8, 0u) << length;
  }
}

TEST_F(SafetensorsFiles, WriterRefusesWhatTheFormatCannotHold) {
  EXPECT_EQ(write_error({{"z", at::zeros({1}, at::kComplexFloat)}}),
            ": tensor \"z\" cannot be stored: expected one of F64, F32, F16, BF16, I64, I32, I16, "
            "I8, U64, U32, U16, U8, BOOL, but got ComplexFloat");
  EXPECT_EQ(write_error({{"s", at::eye(3).to_sparse()}}),
            ": tensor \"s\" cannot be stored: expected a dense tensor (to_dense())");
  EXPECT_EQ(write_error({{"u", at::Tensor()}}), ": tensor \"u\" is undefined");
  EXPECT_EQ(write_error({{"__metadata__", at::ones({1})}}),
            ": no tensor can be named \"__metadata__\"");
  EXPECT_EQ(write_error({}, {{"k", "\xff"}}).substr(0, 46),
            ": expected names and metadata in UTF-8, but go");
}

// --- the digest

TEST_F(SafetensorsFiles, DigestIsTheHashOfTheFileWithItsDigitsZero) {
  std::string file = small_checkpoint();
  const std::string key = R"(\"xxh3\":\")";
  const std::size_t digits = file.find(key) + key.size();
  const std::string stored = file.substr(digits, 16);
  file.replace(digits, 16, kDigestPlaceholder);
  EXPECT_EQ(stored, fmt::format("{:016x}", XXH3_64bits(file.data(), file.size())));
  EXPECT_NE(read_safetensors(path()).metadata.at("convae").find(stored), std::string::npos);
}

TEST_F(SafetensorsFiles, WritingOnWithTheMetadataOfAReadFileRenewsTheDigest) {
  small_checkpoint();
  Safetensors read = read_safetensors(path());
  read.tensors.at("w") += 1;
  written(read.tensors, read.metadata);
  EXPECT_TRUE(at::equal(read_safetensors(path()).tensors.at("w"), read.tensors.at("w")));
}

TEST_F(SafetensorsFiles, EverySingleBitFlipIsRefused) {
  std::string file = small_checkpoint();
  ASSERT_EQ(refusal(file), "");
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    const auto flip = static_cast<char>(1 << (bit % 8));
    file[bit / 8] ^= flip;
    EXPECT_NE(refusal(file), "") << "bit " << bit % 8 << " of byte " << bit / 8;
    file[bit / 8] ^= flip;
  }
}

TEST_F(SafetensorsFiles, EveryTruncationIsRefused) {
  const std::string file = small_checkpoint();
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_NE(refusal(file.substr(0, size)), "") << size << " bytes";
  }
  EXPECT_NE(refusal(file + '\0'), "");
}

TEST_F(SafetensorsFiles, DamageSaysWhatToDo) {
  std::string file = small_checkpoint();
  file[file.size() - 4] ^= 1;  // in w, whose data are in the middle: 4 floats, then 3 bools
  const std::string message = refusal(file);
  EXPECT_TRUE(message.starts_with(" is damaged: its checksum does not match (expected "))
      << message;
  EXPECT_TRUE(message.ends_with("); use another checkpoint of the run")) << message;

  std::string renamed = small_checkpoint();
  renamed.replace(renamed.find("convae"), 6, "convex");
  EXPECT_EQ(refusal(renamed),
            " is damaged: it holds a checksum, but no metadata \"convae\"; use another checkpoint "
            "of the run");
}

TEST(Safetensors, RefusesOwnMetadataWithoutOneClearDigest) {
  const auto refusal_of = [](const std::string& value, const std::string& more = "") {
    return refusal_of_header(R"({"__metadata__":{"convae":")" + value + '"' + more + "}}");
  };
  const std::string none =
      ": the metadata's entry \"convae\" holds no checksum (expected a JSON object with \"xxh3\")";
  EXPECT_EQ(refusal_of("{}"), none);
  EXPECT_EQ(refusal_of("3"), none);
  EXPECT_EQ(refusal_of(R"({\"xxh3\":7})"), none);
  EXPECT_EQ(refusal_of(R"({\"a\":{\"xxh3\":\"0123456789abcdef\"}})"), none);
  EXPECT_EQ(refusal_of(R"([{\"xxh3\":\"0123456789abcdef\"}])"), none);

  const std::string expected =
      ": expected the header to hold one checksum of 16 lower-case hex digits (\"xxh3\" in the "
      "metadata's entry \"convae\"), but found ";
  EXPECT_EQ(refusal_of(R"({\"xxh3\":\"0123\"})"), expected + "0");
  EXPECT_EQ(refusal_of(R"({\"xxh3\":\"0123456789ABCDEF\"})"), expected + "0");
  EXPECT_EQ(refusal_of(R"({\"xxh3\":\"0123456789abcdef0\"})"), expected + "0");
  EXPECT_EQ(refusal_of(R"({\u0022xxh3\":\"0123456789abcdef\"})"), expected + "0");
  EXPECT_EQ(refusal_of(R"({\"xxh3\":\"0123456789abcdef\"})",
                       R"(,"b":"{\"xxh3\": \"0123456789abcdef\"}")"),
            expected + "2");
  EXPECT_EQ(refusal_of(R"({\u0022xxh3\":\"0123456789abcdef\"})",
                       R"(,"b":"{\"xxh3\": \"fedcba9876543210\"}")"),
            expected + "another");
}

TEST(Safetensors, RefusesOwnMetadataThatIsNotSoundJson) {
  const auto refusal_of = [](const std::string& value) {
    return refusal_of_header(R"({"__metadata__":{"convae":")" + value + R"("}})");
  };
  const std::string entry = ": the metadata's entry \"convae\" ";
  EXPECT_EQ(refusal_of(""), entry + "is not valid JSON (near its byte 1)");
  EXPECT_EQ(refusal_of(R"({\"a\":1e999})"), entry + "is not valid JSON (a number is too large)");
  EXPECT_EQ(refusal_of(R"({}\u0000)"), entry + "is not valid JSON (near its byte 2)");
  EXPECT_EQ(refusal_of(R"({\"xxh3\":\"0123456789abcdef\",\"xxh3\":1})"),
            entry + "has the name \"xxh3\" twice");
  EXPECT_EQ(refusal_of(R"({\"a\":[{\"b\":1,\"b\":2}]})"), entry + "has the name \"b\" twice");
  EXPECT_EQ(refusal_of(std::string(100'000, '[')), entry + "is nested more than 64 deep");
}

TEST_F(SafetensorsFiles, WriterRefusesOwnMetadataWithoutDigest) {
  EXPECT_EQ(write_error({}, {{"convae", "{}"}}),
            ": the metadata's entry \"convae\" holds no checksum (expected a JSON object with "
            "\"xxh3\")");
}

// --- hostile and broken headers

TEST(Safetensors, RefusesFilesThatAreSomethingElse) {
  EXPECT_EQ(refusal(""), ": not a safetensors file: it has 0 bytes, expected at least 10");
  EXPECT_EQ(refusal(zeros(16)),
            ": not a safetensors file: its header does not begin with { and end with }");
  EXPECT_EQ(refusal("\x89PNG\r\n\x1a\n........"),
            ": not a safetensors file, or cut short: its header would have 727905341920923785 "
            "bytes, expected at most 8");
  for (const char* header : {"[1]", " {}", "{}\n", "{", "nul}", "        "}) {
    EXPECT_NE(refusal_of_header(header + std::string(8, ' ')), "") << header;
  }
}

TEST(Safetensors, RefusesHugeHeaders) {
  std::string file = file_of("{}");
  for (int byte = 0; byte < 8; ++byte) {
    file.replace(0, 8, zeros(8));
    file[static_cast<std::size_t>(byte)] = 0x10;  // the last is 2^60
    EXPECT_NE(refusal(file).find("expected at most 2"), std::string::npos) << byte;
  }
  const std::string big = file_of("{}" + std::string(100'000'000, ' '));
  EXPECT_EQ(refusal(big),
            ": not a safetensors file, or cut short: its header would have 100000002 bytes, "
            "expected at most 100000000");
}

TEST(Safetensors, RefusesDeepJson) {
  const std::size_t depth = 100'000;
  const auto nested = [&](const std::string& open) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) text += open;
    return text;
  };
  EXPECT_EQ(refusal_of_header(nested("{\"a\":") + "1" + std::string(depth, '}')),
            ": the header is nested more than 3 deep");
  EXPECT_EQ(refusal_of_header("{\"a\":{\"shape\":" + nested("[") + "}"),
            ": the header is nested more than 3 deep");
  EXPECT_EQ(refusal_of_header("{\"__metadata__\":{\"k\":" + nested("{\"a\":") + "}"),
            ": the header is nested more than 3 deep");
  std::string long_list = "0";
  for (int i = 0; i < 1 << 20; ++i) long_list += ",0";
  EXPECT_EQ(refusal_of_header("{\"a\":{\"shape\":[" + long_list + "]}}"),
            ": the header has a list of more than 1048576 values");
}

TEST(Safetensors, RefusesDuplicateNames) {
  const std::string tensor = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(refusal_of_header(R"({"a":)" + tensor + R"(,"\u0061":)" + tensor + "}"),
            ": the header has the name \"a\" twice");
  EXPECT_EQ(refusal_of_header(R"({"__metadata__":{},"__metadata__":{}})"),
            ": the header has the name \"__metadata__\" twice");
  EXPECT_EQ(refusal_of_header(R"({"__metadata__":{"k":"1","k":"1"}})"),
            ": the header has the name \"k\" twice");
  for (const std::string field : {R"("dtype":"U8")", R"("shape":[0])", R"("data_offsets":[0,0])"}) {
    const std::string message = refusal_of_header("{\"a\":{" + field + ',' + field + "}}");
    EXPECT_TRUE(message.starts_with(": the header has the name \"")) << message;
    EXPECT_TRUE(message.ends_with("\" twice")) << message;
  }
}

TEST(Safetensors, RefusesWrongTypes) {
  const std::string numbers =
      " must be a list of whole numbers from 0 to 2^63 - 1, but is or holds ";
  const auto refusal_of = [](const std::string& fields) {
    return refusal_of_header("{\"a\":{" + fields + "}}", zeros(1));
  };
  const std::string shape = ": tensor \"a\": the field \"shape\"" + numbers;
  const std::string offsets = ": tensor \"a\": the field \"data_offsets\"" + numbers;
  EXPECT_EQ(refusal_of(R"("shape":[-1])"), shape + "a negative number");
  EXPECT_EQ(refusal_of(R"("shape":[-0])"), shape + "a negative number");
  EXPECT_EQ(refusal_of(R"("shape":[1.0])"), shape + "the number 1.0");
  EXPECT_EQ(refusal_of(R"("shape":[1e0])"), shape + "the number 1.0");
  EXPECT_EQ(refusal_of(R"("shape":[9223372036854775808])"),
            shape + "the number 9223372036854775808");
  EXPECT_EQ(refusal_of(R"("shape":[99999999999999999999])"), shape + "the number 1e+20");
  EXPECT_EQ(refusal_of(R"("shape":["1"])"), shape + "a string");
  EXPECT_EQ(refusal_of(R"("shape":[true])"), shape + "a boolean");
  EXPECT_EQ(refusal_of(R"("shape":[null])"), shape + "null");
  EXPECT_EQ(refusal_of(R"("shape":{})"), shape + "an object");
  EXPECT_EQ(refusal_of(R"("shape":1)"), shape + "the number 1");
  EXPECT_EQ(refusal_of(R"("shape":[[1]])"), ": the header is nested more than 3 deep");
  EXPECT_EQ(refusal_of(R"("data_offsets":[0,1.5])"), offsets + "the number 1.5");
  EXPECT_EQ(refusal_of(R"("data_offsets":[-1,1])"), offsets + "a negative number");
  EXPECT_EQ(refusal_of(R"("data_offsets":"01")"), offsets + "a string");
  EXPECT_EQ(refusal_of(R"("dtype":1)"),
            ": tensor \"a\": the field \"dtype\" must be a string, but is or holds the number 1");
  EXPECT_EQ(refusal_of(R"("dtype":["F32"])"),
            ": tensor \"a\": the field \"dtype\" must be a string, but is or holds a list");
  EXPECT_EQ(refusal_of_header(R"({"a":[]})"),
            ": the header's entry \"a\" must be an object, but is or holds a list");
  EXPECT_EQ(refusal_of_header(R"({"__metadata__":null})"),
            ": the header's entry \"__metadata__\" must be an object, but is or holds null");
  EXPECT_EQ(refusal_of_header(R"({"__metadata__":{"k":1}})"),
            ": the metadata's entry \"k\" must be a string, but is or holds the number 1");
}

TEST(Safetensors, RefusesMissingAndUnknownFields) {
  EXPECT_EQ(refusal_of_header(R"({"a":{"shape":[],"data_offsets":[0,0]}})"),
            ": tensor \"a\" has no field \"dtype\"");
  EXPECT_EQ(refusal_of_header(R"({"a":{"dtype":"F32","data_offsets":[0,0]}})"),
            ": tensor \"a\" has no field \"shape\"");
  EXPECT_EQ(refusal_of_header(R"({"a":{"dtype":"F32","shape":[]}})"),
            ": tensor \"a\" has no field \"data_offsets\"");
  EXPECT_EQ(refusal_of_header(R"({"a":{"dtype":"F32","Shape":[]}})"),
            ": tensor \"a\" has the unknown field \"Shape\"");
}

TEST(Safetensors, RefusesUnsupportedDtypesByName) {
  const auto refusal_of = [](const std::string& dtype) {
    return refusal_of_header(
        R"({"a":{"dtype":")" + dtype + R"(","shape":[],"data_offsets":[0,1]}})", zeros(1));
  };
  EXPECT_EQ(refusal_of("F8_E4M3"),
            ": tensor \"a\" has the dtype \"F8_E4M3\", which is not supported (expected one of "
            "F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL)");
  EXPECT_NE(refusal_of("f32"), "");
  const std::string message = refusal_of(std::string(1'000'000, 'F'));
  EXPECT_NE(message.find("FFF...\", which"), std::string::npos);
  EXPECT_LT(message.size(), 400u);
}

TEST(Safetensors, RefusesOffsetsThatDoNotCoverTheDataExactlyOnce) {
  const auto refusal_of = [](const std::string& a, const std::string& b, std::size_t size = 8) {
    return refusal_of_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                                 R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}",
                             zeros(size));
  };
  EXPECT_EQ(refusal_of("[0,4]", "[4,8]"), "");
  EXPECT_EQ(refusal_of("[4,8]", "[0,4]"), "");
  EXPECT_EQ(refusal_of("[0,4]", "[3,7]"), ": tensors \"a\" and \"b\" overlap");
  EXPECT_EQ(refusal_of("[0,4]", "[0,4]", 4), ": tensors \"a\" and \"b\" overlap");
  EXPECT_EQ(refusal_of("[0,4]", "[5,9]", 9), ": bytes 4 to 5 of the data belong to no tensor");
  EXPECT_EQ(refusal_of("[1,5]", "[5,9]", 9), ": bytes 0 to 1 of the data belong to no tensor");
  EXPECT_EQ(refusal_of("[0,4]", "[4,8]", 9), ": bytes 8 to 9 of the data belong to no tensor");
  EXPECT_EQ(refusal_of("[0,4]", "[4,8]", 7),
            ": tensor \"b\": its data_offsets [4, 8] reach beyond the file's 7 bytes of data; the "
            "file may have been cut short");
  EXPECT_EQ(refusal_of("[4,0]", "[4,8]"), ": tensor \"a\": its data_offsets [4, 0] run backwards");
  EXPECT_EQ(
      refusal_of("[0,5]", "[5,8]"),
      ": tensor \"a\": its shape [4] of U8 takes 4 bytes, but its data_offsets [0, 5] give 5");
  EXPECT_EQ(refusal_of("[0]", "[4,8]"),
            ": tensor \"a\": the field \"data_offsets\" must be two numbers, begin and end");
  EXPECT_EQ(refusal_of("[0,4,8]", "[4,8]"),
            ": tensor \"a\": the field \"data_offsets\" must be two numbers, begin and end");
  EXPECT_EQ(refusal_of_header("{}", zeros(3)), ": bytes 0 to 3 of the data belong to no tensor");
  // An empty tensor in the middle of another.
  EXPECT_EQ(refusal_of_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                              R"("e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
                              zeros(4)),
            ": tensors \"a\" and \"e\" overlap");
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  const auto refusal_of = [](const std::string& shape) {
    return refusal_of_header(R"({"a":{"dtype":"F32","shape":)" + shape +
                             R"(,"data_offsets":[0,0]}})");
  };
  EXPECT_EQ(refusal_of("[1099511627776, 1099511627776]"),
            ": tensor \"a\": its shape [1099511627776, 1099511627776] is too large");
  EXPECT_EQ(refusal_of("[4294967296, 1073741824, 4]"),  // 2^66 bytes: 0 in 64 bits
            ": tensor \"a\": its shape [4294967296, 1073741824, 4] is too large");
  EXPECT_EQ(refusal_of("[9223372036854775807]"),
            ": tensor \"a\": its shape [9223372036854775807] is too large");
  EXPECT_EQ(refusal_of("[0, 1099511627776, 1099511627776]"),
            ": tensor \"a\": its shape [0, 1099511627776, 1099511627776] is too large");
  std::string ones = "[1";
  for (int i = 1; i < 65; ++i) ones += ",1";
  EXPECT_EQ(refusal_of(ones + "]"), ": tensor \"a\": the field \"shape\" has too many numbers");
}

TEST(Safetensors, RefusesBoolsThatAreNeither0Nor1) {
  EXPECT_EQ(refusal_of_header(R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})",
                              std::string("\x01\x00\x02", 3)),
            ": tensor \"a\": expected its BOOL values to be 0 or 1, but got 2");
}

TEST(Safetensors, RefusesHeadersThatAreNotJson) {
  EXPECT_EQ(refusal_of_header(R"({"a" 1})"), ": the header is not valid JSON (near its byte 6)");
  EXPECT_EQ(refusal_of_header("{\"a\xff\":{}}"),
            ": the header is not valid JSON (near its byte 4)");
  EXPECT_NE(refusal_of_header("{}{}"), "");
  EXPECT_NE(refusal_of_header("{/**/}"), "");
  EXPECT_NE(refusal_of_header("{\"a\":{},}"), "");
  // A NUL ends the text for nlohmann-json: what follows must not be ignored.
  EXPECT_EQ(refusal_of_header(std::string("{}\0}", 4)),
            ": the header is not valid JSON (near its byte 2)");
}

TEST(Safetensors, MessagesShowNamesSafely) {
  EXPECT_EQ(refusal_of_header(R"({"\u001b[2J\n":1})"),
            ": the header's entry \"\\x1b[2J\\n\" must be an object, but is or holds the number 1");
}

TEST(Safetensors, SurvivesRandomMutations) {
  const std::string original = file_of(
      R"({"__metadata__":{"k":"{\"a\":1}"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("e":{"dtype":"F64","shape":[0,2],"data_offsets":[16,16]},)"
      R"("b":{"dtype":"BOOL","shape":[4],"data_offsets":[16,20]}}   )",
      zeros(20));
  constexpr std::string_view kTokens = "{}[]:,\"\\0123456789-.e ";
  std::mt19937 random(20240521);
  const auto below = [&](std::size_t bound) { return random() % bound; };
  int taken = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string file = original;
    for (std::size_t edits = 1 + below(3); edits > 0; --edits) {
      const std::size_t at = below(file.size());
      switch (below(5)) {
        case 0: file[at] = static_cast<char>(random()); break;
        case 1: file[at] = kTokens[below(kTokens.size())]; break;
        case 2: file.insert(at, 1, kTokens[below(kTokens.size())]); break;
        case 3: file.erase(at, 1 + below(8)); break;
        default: file.insert(at, file.substr(below(file.size()), below(40)));
      }
      if (file.empty()) file = original;
    }
    // Without this, changes of length would seldom get past the first check.
    if (below(2) == 0 && file.size() > 28) {
      const std::uint64_t length = file.size() - 28;
      std::memcpy(file.data(), &length, sizeof length);
    }
    taken += refusal(file).empty() ? 1 : 0;  // anything but SafetensorsError fails the test
  }
  EXPECT_GT(taken, 100);  // else the mutations would test one refusal only
  EXPECT_LT(taken, 9'900);
}

}  // namespace
}  // namespace convae::test_safetensors
