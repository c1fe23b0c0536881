#include "convae/data/npy.h"
#include "convae/tests/support.h"

#include <random>

namespace convae::test_npy {
namespace {

namespace fs = std::filesystem;

/// A .npy file's bytes, put together by hand.
std::string file_of(const std::string& header, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  const auto length = static_cast<std::uint32_t>(header.size());
  file.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return file + header + data;
}

std::string header_of(const std::string& dtype, const std::string& order,
                      const std::string& shape) {
  return "{'descr': " + dtype + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

template <typename Number>
std::string bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

class Npy : public testing::Test {
protected:
  fs::path path() const { return folder_ / "a.npy"; }

  at::Tensor read(const std::string& bytes) const {
    test::write_text(path(), bytes);
    return read_npy(path());
  }

  /// The message without the file's name, which every message must begin with; "" if the file was
  /// taken.
  std::string refusal(const std::string& bytes) const {
    try {
      read(bytes);
    } catch (const std::runtime_error& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with(path().string())) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      return message.substr(path().string().size());
    }
    return "";
  }

  std::string refusal_of_header(const std::string& dtype, const std::string& order,
                                const std::string& shape, std::size_t data_size = 4) const {
    return refusal(file_of(header_of(dtype, order, shape), std::string(data_size, '\0')));
  }

private:
  test::TemporaryFolder folder_;
};

// numpy.save("a.npy", numpy.arange(6, dtype="<f4").reshape(2, 3)), with NumPy 2.4
std::string what_numpy_saves() {
  return file_of(
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + std::string(58, ' ') + "\n",
      bytes_of<float>({0, 1, 2, 3, 4, 5}));
}

TEST_F(Npy, WritesTheBytesThatNumpyWrites) {
  const at::Tensor array = at::arange(6, at::kFloat).view({2, 3});
  write_npy(path(), {array[0], array[1]}, {3});
  EXPECT_EQ(test::contents(path()), what_numpy_saves());
}

TEST_F(Npy, ReadsWhatNumpyWrites) {
  EXPECT_TRUE(at::equal(read(what_numpy_saves()), at::arange(6, at::kFloat).view({2, 3})));
}

TEST_F(Npy, ReadsEveryVersionAndFloat64AsFloat32) {
  for (const int version : {1, 2, 3}) {
    const at::Tensor array =
        read(file_of(header_of("'<f8'", "False", "(2,)"), bytes_of<double>({1.5, -2}), version));
    EXPECT_EQ(array.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(array, at::tensor({1.5F, -2.0F}))) << version;
  }
}

TEST_F(Npy, ReadsScalarsAndEmptyArrays) {
  const at::Tensor scalar = read(file_of(header_of("'<f4'", "False", "()"), bytes_of<float>({7})));
  EXPECT_EQ(scalar.dim(), 0);
  EXPECT_EQ(scalar.item<float>(), 7);
  EXPECT_EQ(read(file_of(header_of("'<f4'", "False", "(0, 3)"), "")).sizes(),
            (at::IntArrayRef{0, 3}));
}

TEST_F(Npy, RoundTripOfRowsOfAnyStride) {
  const at::Tensor images =
      at::arange(120, at::kFloat).view({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast);
  ASSERT_FALSE(images[0].is_contiguous());
  write_npy(path(), {images[0], images[1].clone().requires_grad_()}, {3, 4, 5});
  EXPECT_TRUE(at::equal(read_npy(path()), images));
}

TEST_F(Npy, RowsMayComeInAnyOrderAndSomeNever) {
  const at::Tensor rows = at::arange(33, at::kFloat).view({11, 3});
  NpyFile file(path(), 11, {3});
  for (const std::int64_t row : {7, 2, 10, 3}) file.write(row, rows[row]);
  EXPECT_FALSE(std::filesystem::exists(path()));
  file.commit();
  EXPECT_TRUE(at::equal(read_npy(path()), at::stack({rows[2], rows[3], rows[7], rows[10]})));
}

TEST_F(Npy, RoundTripOfScalarRowsAndOfNoRows) {
  write_npy(path(), {at::scalar_tensor(1.0F), at::scalar_tensor(2.0F)}, {});
  EXPECT_TRUE(at::equal(read_npy(path()), at::tensor({1.0F, 2.0F})));
  write_npy(path(), {}, {3, 4});
  EXPECT_EQ(read_npy(path()).sizes(), (at::IntArrayRef{0, 3, 4}));
}

TEST_F(Npy, DataStartAtAMultipleOf64) {
  for (std::int64_t dimensions = 0; dimensions < 30; ++dimensions) {
    write_npy(path(), {}, std::vector<std::int64_t>(static_cast<std::size_t>(dimensions), 1));
    EXPECT_EQ(fs::file_size(path()) % 64, 0u) << dimensions;
    EXPECT_EQ(test::contents(path()).back(), '\n');
  }
}

TEST_F(Npy, ARowOfAnotherShapeIsRefusedAndLeavesNoFile) {
  EXPECT_EQ(test::message_of<std::runtime_error>([&] {
              write_npy(path(), {at::zeros({3}), at::zeros({2, 2})}, {3});
            }),
            path().string() + ": expected row 1 to have the shape (3,), but got (2, 2)");
  EXPECT_TRUE(fs::is_empty(path().parent_path()));
}

TEST_F(Npy, FortranOrderHasTheFirstAxisFastest) {
  // numpy.asfortranarray(numpy.arange(6).reshape(1, 2, 3)) in memory: 0 3 1 4 2 5.
  const at::Tensor array =
      read(file_of(header_of("'<f4'", "True", "(1, 2, 3)"), bytes_of<float>({0, 3, 1, 4, 2, 5})));
  EXPECT_TRUE(at::equal(array, at::arange(6, at::kFloat).view({1, 2, 3})));
  EXPECT_TRUE(array.is_contiguous());
}

TEST_F(Npy, ReadsHalfFloats) {
  // 1, -2 and 65504, the greatest.
  const at::Tensor array = read(file_of(header_of("'<f2'", "False", "(3,)"),
                                        bytes_of<std::uint16_t>({0x3c00, 0xc000, 0x7bff})));
  EXPECT_TRUE(at::equal(array, at::tensor({1.0F, -2.0F, 65504.0F})));
}

TEST_F(Npy, RefusesOtherDtypesByName) {
  for (const std::string dtype : {"|u1", ">f4", "<i8", "|O", "<c8", "|b1"}) {
    EXPECT_EQ(refusal_of_header("'" + dtype + "'", "False", "(1,)"),
              ": expected an array of '<f2', '<f4' or '<f8', but got '" + dtype +
                  "'; save it with array.astype('<f4')");
  }
  EXPECT_EQ(refusal_of_header("[('x', '<f4')]", "False", "(1,)"),
            ": expected an array of '<f2', '<f4' or '<f8', but got a structured one");
}

TEST_F(Npy, RefusesDataOfAnotherSize) {
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(2, 3)", 23),
            ": expected 24 bytes of data for the shape (2, 3) of '<f4', but got 23");
  EXPECT_EQ(refusal_of_header("'<f8'", "False", "(1,)", 9),
            ": expected 8 bytes of data for the shape (1,) of '<f8', but got 9");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(1000000000000,)"),
            ": expected 4000000000000 bytes of data for the shape (1000000000000,) of '<f4', but "
            "got 4");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(4294967296, 4294967296)"),
            ": the shape (4294967296, 4294967296) is too large");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(0, 4294967296, 4294967296)", 0),
            ": the shape (0, 4294967296, 4294967296) is too large");
}

TEST_F(Npy, RefusesMalformedHeaders) {
  const std::string malformed = ": the .npy header is malformed: expected ";
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(1)"), malformed + "',', but got '), }\\n'");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(-1,)"),
            malformed + "a length from 0 to 2^63 - 1, but got '-1,), }\\n'");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(9223372036854775808,)"),
            malformed + "a length from 0 to 2^63 - 1, but got '9223372036854775808,), }\\n'");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(1.0,)"), malformed + "',', but got '.0,), }\\n'");
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "((1,),)"),
            malformed + "a length from 0 to 2^63 - 1, but got '(1,),), }\\n'");
  EXPECT_EQ(refusal_of_header("'<f4'", "0", "(1,)"),
            malformed + "True or False, but got '0, 'shape': (1,), }\\n'");
  EXPECT_EQ(refusal_of_header("<f4", "False", "(1,)"),
            malformed + "a quoted name, but got '<f4, 'fortran_order': False, 'shape': (1'");
  EXPECT_EQ(refusal(file_of("{'descr': '<f4'} x", "")),
            malformed + "the end of the header, but got 'x'");
  EXPECT_EQ(refusal(file_of("", "")), malformed + "'{', but got ''");
  EXPECT_EQ(refusal(file_of("{}", "")),
            ": expected 'descr', 'fortran_order' and 'shape' in the .npy header");
  EXPECT_EQ(refusal(file_of("{'a': 1}", "")), ": unknown field 'a' in the .npy header");
  EXPECT_EQ(refusal(file_of("{'shape': (), 'shape': ()}", "")),
            ": the .npy header has the field 'shape' twice");
  std::string many;
  for (int i = 0; i < 65; ++i) many += "1,";
  EXPECT_EQ(refusal_of_header("'<f4'", "False", "(" + many + ")"),
            ": the .npy array has too many dimensions");
}

TEST_F(Npy, RefusesFilesThatAreSomethingElse) {
  const std::string other = ": not a .npy file: expected it to begin with \\x93NUMPY and a version";
  EXPECT_EQ(refusal(""), other);
  EXPECT_EQ(refusal("\x93NUMPY"), other);
  EXPECT_EQ(refusal("PK\x03\x04........"), other);
  EXPECT_EQ(refusal(file_of("{}", "", 4)), ": expected .npy version 1.0, 2.0 or 3.0, but got 4.0");
  EXPECT_EQ(refusal(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14)),
            ": the file ends within its .npy header; it may have been cut short");
}

TEST_F(Npy, EveryTruncationIsRefused) {
  const std::string whole = what_numpy_saves();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(refusal(whole.substr(0, size)), "") << size << " bytes";
  }
}

TEST_F(Npy, SurvivesRandomMutations) {
  std::mt19937 random(7);
  int taken = 0;
  for (int round = 0; round < 3'000; ++round) {
    std::string bytes = what_numpy_saves();
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % (random() % 2 == 0 ? bytes.size() : 72);
      bytes[at] = static_cast<char>(random() % 2 == 0 ? random() : "0123(),' "[random() % 9]);
    }
    taken += refusal(bytes).empty() ? 1 : 0;  // anything but std::runtime_error fails the test
  }
  EXPECT_GT(taken, 30);
}

}  // namespace
}  // namespace convae::test_npy
