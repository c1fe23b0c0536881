#include "convae/data/npy.h"

#include <ATen/ops/empty.h>
#include <c10/util/accumulate.h>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

// Debian's one library for this (cnpy) trusts the sizes in its input.

namespace convae {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are copied as they are in memory");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kPreamble = 8;  // the magic, and a byte each for major and minor version
/// NumPy's own alignment of the data, so that files can be mapped.
constexpr std::size_t kNpyAlignment = 64;
/// NumPy's limit is 64 since 2.0; torch's operators have the same.
constexpr std::size_t kMaxNpyDimensions = 64;
constexpr const char kTooManyDimensions[] = "the .npy array has too many dimensions";

template <typename... Values>
[[noreturn]] void refuse_npy(const std::string& file, fmt::format_string<Values...> reason,
                             Values&&... values) {
  throw std::runtime_error(file + ": " + fmt::format(reason, std::forward<Values>(values)...));
}

std::string cut(std::string_view text) { return printable(text.substr(0, 40)); }

/// A shape as Python writes a tuple: (), (3,), (3, 4).
std::string tuple(at::IntArrayRef shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

struct NpyType {
  std::string_view name;
  at::ScalarType type;
};
constexpr NpyType kNpyTypes[] = {{"<f2", at::kHalf}, {"<f4", at::kFloat}, {"<f8", at::kDouble}};
constexpr const char kReadable[] = "'<f2', '<f4' or '<f8'";

struct Header {
  std::optional<std::string> dtype;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

/// The header is a Python dict as repr() writes it. Only what NumPy can write there is accepted;
/// nothing nests, so there is no recursion.
class HeaderParser {
public:
  HeaderParser(std::string_view text, const std::string& file) : rest_(text), file_(file) {}

  Header parse() {
    Header header;
    expect("{");
    while (!accept("}")) {
      field(header);
      if (!accept(",")) {
        expect("}");
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) malformed("the end of the header");
    if (!header.dtype || !header.fortran_order || !header.shape) {
      refuse_npy(file_, "expected 'descr', 'fortran_order' and 'shape' in the .npy header");
    }
    return header;
  }

private:
  void field(Header& header) {
    const std::string key = string();
    expect(":");
    if (key == "descr") {
      set(header.dtype, dtype(), key);
    } else if (key == "fortran_order") {
      set(header.fortran_order, boolean(), key);
    } else if (key == "shape") {
      set(header.shape, shape(), key);
    } else {
      refuse_npy(file_, "unknown field '{}' in the .npy header", cut(key));
    }
  }

  template <typename Value>
  void set(std::optional<Value>& field, Value value, const std::string& key) {
    if (field) refuse_npy(file_, "the .npy header has the field '{}' twice", key);
    field = std::move(value);
  }

  std::string string() {
    skip_space();
    const char quote = rest_.empty() ? '\0' : rest_.front();
    if (quote != '\'' && quote != '"') malformed("a quoted name");
    const auto end = rest_.find(quote, 1);
    if (end == std::string_view::npos) malformed("a quoted name");
    std::string value(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return value;
  }

  std::string dtype() {
    skip_space();
    if (rest_.starts_with('[')) {
      refuse_npy(file_, "expected an array of {}, but got a structured one", kReadable);
    }
    return string();
  }

  bool boolean() {
    const bool value = accept("True");
    if (!value && !accept("False")) malformed("True or False");
    return value;
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> lengths;
    expect("(");
    while (!accept(")")) {
      if (lengths.size() == kMaxNpyDimensions) refuse_npy(file_, kTooManyDimensions);
      lengths.push_back(length());
      if (accept(",")) continue;
      // Without its comma, (3) is a number in Python, not a tuple.
      if (lengths.size() == 1) malformed("','");
      expect(")");
      break;
    }
    return lengths;
  }

  std::int64_t length() {
    skip_space();
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc() || value < 0) malformed("a length from 0 to 2^63 - 1");
    rest_.remove_prefix(end - rest_.data());
    return value;
  }

  bool accept(std::string_view token) {
    skip_space();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

  void expect(std::string_view token) {
    if (!accept(token)) malformed(fmt::format("'{}'", token));
  }

  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }

  [[noreturn]] void malformed(const std::string& expected) const {
    refuse_npy(file_, "the .npy header is malformed: expected {}, but got '{}'", expected,
               cut(rest_));
  }

  std::string_view rest_;
  const std::string& file_;
};

/// The header's text and the data after it.
std::pair<std::string_view, std::string_view> split(std::string_view bytes,
                                                    const std::string& file) {
  if (!bytes.starts_with(kMagic) || bytes.size() < kPreamble) {
    refuse_npy(file, "not a .npy file: expected it to begin with \\x93NUMPY and a version");
  }
  const int major = static_cast<unsigned char>(bytes[6]);
  const int minor = static_cast<unsigned char>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    refuse_npy(file, "expected .npy version 1.0, 2.0 or 3.0, but got {}.{}", major, minor);
  }
  bytes.remove_prefix(kPreamble);
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  if (bytes.size() >= length_bytes) std::memcpy(&length, bytes.data(), length_bytes);
  if (bytes.size() < length_bytes || length > bytes.size() - length_bytes) {
    refuse_npy(file, "the file ends within its .npy header; it may have been cut short");
  }
  bytes.remove_prefix(length_bytes);
  return {bytes.substr(0, length), bytes.substr(length)};
}

/// The type of the numbers.
at::ScalarType check(const Header& header, std::size_t data_size, const std::string& file) {
  const auto type = std::ranges::find(kNpyTypes, *header.dtype, &NpyType::name);
  if (type == std::end(kNpyTypes)) {
    refuse_npy(file, "expected an array of {}, but got '{}'; save it with array.astype('<f4')",
               kReadable, cut(*header.dtype));
  }
  // Zeros count as one: torch works out strides that way, and they must not overflow either.
  auto bytes = static_cast<std::int64_t>(c10::elementSize(type->type));
  bool empty = false;
  for (const std::int64_t length : *header.shape) {
    empty = empty || length == 0;
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(length, 1), &bytes)) {
      refuse_npy(file, "the shape {} is too large", tuple(*header.shape));
    }
  }
  const std::size_t expected = empty ? 0 : static_cast<std::size_t>(bytes);
  if (data_size != expected) {
    refuse_npy(file, "expected {} bytes of data for the shape {} of '{}', but got {}", expected,
               tuple(*header.shape), *header.dtype, data_size);
  }
  return type->type;
}

/// Of an array of shape (rows, *row_shape); at least `least` bytes.
std::string make_header(std::int64_t rows, at::IntArrayRef row_shape, std::size_t least = 0) {
  std::vector<std::int64_t> shape{rows};
  shape.insert(shape.end(), row_shape.begin(), row_shape.end());
  std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': " + tuple(shape) + ", }";
  const std::size_t used = kPreamble + sizeof(std::uint16_t) + dict.size() + 1;
  const std::size_t aligned = (used + kNpyAlignment - 1) / kNpyAlignment * kNpyAlignment;
  dict.append(std::max(aligned, least) - used, ' ');
  dict += '\n';
  const auto length = static_cast<std::uint16_t>(dict.size());
  std::string header(kMagic);
  header.append("\x01\x00", 2);  // the version
  header.append(reinterpret_cast<const char*>(&length), sizeof length);
  return header + dict;
}

}  // namespace

NpyFile::NpyFile(const std::filesystem::path& path, std::int64_t rows,
                 std::vector<std::int64_t> row_shape)
    : file_(printable(path.string())),
      row_shape_(std::move(row_shape)),
      written_(static_cast<std::size_t>(rows), false),
      output_(path),
      row_bytes_(sizeof(float) * c10::multiply_integers(row_shape_)) {
  if (row_shape_.size() + 1 > kMaxNpyDimensions) refuse_npy(file_, kTooManyDimensions);
  const std::string header = make_header(rows, row_shape_);
  header_bytes_ = header.size();
  output_.write(header);
}

void NpyFile::expect_shape(std::int64_t row, at::IntArrayRef shape,
                           at::IntArrayRef expected) const {
  if (shape == expected) return;
  refuse_npy(file_, "expected row {} to have the shape {}, but got {}", row, tuple(expected),
             tuple(shape));
}

void NpyFile::write_lines(std::int64_t row, std::int64_t first, const torch::Tensor& values) {
  const std::int64_t channels = row_shape_.at(0), height = row_shape_.at(1);
  const std::int64_t lines = std::min(values.size(1), height - first);
  expect_shape(row, values.sizes(), {channels, lines, row_shape_.at(2)});
  const at::Tensor floats = values.detach().to(at::kCPU, at::kFloat).contiguous();
  const std::uint64_t line_bytes = sizeof(float) * row_shape_[2];
  for (std::int64_t c = 0; c < channels; ++c) {
    output_.write_at(place_of(row) + (c * height + first) * line_bytes, floats[c].const_data_ptr(),
                     lines * line_bytes);
  }
  if (first + lines == height) written_[static_cast<std::size_t>(row)] = true;
}

void NpyFile::write(std::int64_t row, const torch::Tensor& values) {
  expect_shape(row, values.sizes(), row_shape_);
  const at::Tensor floats = values.detach().to(at::kCPU, at::kFloat).resolve_neg().contiguous();
  if (row_bytes_ > 0) output_.write_at(place_of(row), floats.const_data_ptr(), row_bytes_);
  written_[static_cast<std::size_t>(row)] = true;
}

void NpyFile::commit() {
  std::vector<char> moved(row_bytes_);
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < std::ssize(written_); ++row) {
    if (!written_[static_cast<std::size_t>(row)]) continue;
    if (count < row && row_bytes_ > 0) {
      output_.read_at(place_of(row), moved.data(), row_bytes_);
      output_.write_at(place_of(count), moved.data(), row_bytes_);
    }
    ++count;
  }
  if (count < std::ssize(written_)) {
    const std::string header = make_header(count, row_shape_, header_bytes_);
    output_.write_at(0, header.data(), header.size());
    output_.cut(place_of(count));
  }
  output_.commit();
}

void write_npy(const std::filesystem::path& path, const std::vector<torch::Tensor>& rows,
               const std::vector<std::int64_t>& row_shape) {
  NpyFile file(path, std::ssize(rows), row_shape);
  for (std::int64_t i = 0; i < std::ssize(rows); ++i) {
    file.write(i, rows[static_cast<std::size_t>(i)]);
  }
  file.commit();
}

torch::Tensor read_npy(const std::filesystem::path& path) {
  const std::string file = printable(path.string());
  const std::vector<std::uint8_t> bytes = read_file(path);
  const auto [text, data] =
      split({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
  const Header header = HeaderParser(text, file).parse();
  const at::ScalarType type = check(header, data.size(), file);
  std::vector<std::int64_t> shape = *header.shape;
  // In Fortran order the first axis is the fastest: the array in memory with its axes turned round.
  if (*header.fortran_order) std::ranges::reverse(shape);
  at::Tensor array = at::empty(shape, at::TensorOptions().dtype(type));
  if (!data.empty()) std::memcpy(array.data_ptr(), data.data(), data.size());
  std::vector<std::int64_t> axes(shape.size());
  std::iota(axes.rbegin(), axes.rend(), 0);
  if (*header.fortran_order) array = array.permute(axes).contiguous();
  return array.to(at::kFloat);
}

}  // namespace convae
