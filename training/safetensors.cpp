#include "convae/training/safetensors.h"

#include "convae/core/digest.h"
#include "convae/core/files.h"
#include "convae/core/text.h"

#include <ATen/ops/empty.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <ranges>
#include <set>
#include <string_view>

namespace convae {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian, and tensors are copied as they lie in memory");

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
/// The limit of the format's reference implementation.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
/// The data section starts at a multiple of the widest element, so that readers can map it.
constexpr std::size_t kAlignment = 8;
/// Torch's elementwise operators take no more (TensorIterator).
constexpr std::size_t kMaxDimensions = 64;
/// Far more than our own JSON needs; both keep the parser's memory and time small.
constexpr std::size_t kMaxMetadataDepth = 64;
constexpr std::size_t kMaxListLength = 1 << 20;
constexpr const char* kMetadataName = "__metadata__";
constexpr std::size_t kDigestDigits = std::string_view(kDigestPlaceholder).size();

struct Dtype {
  std::string_view name;
  at::ScalarType type;

  std::int64_t bytes() const { return static_cast<std::int64_t>(c10::elementSize(type)); }
};

constexpr std::array kDtypes{
    Dtype{"F64", at::kDouble},    Dtype{"F32", at::kFloat},  Dtype{"F16", at::kHalf},
    Dtype{"BF16", at::kBFloat16}, Dtype{"I64", at::kLong},   Dtype{"I32", at::kInt},
    Dtype{"I16", at::kShort},     Dtype{"I8", at::kChar},    Dtype{"U64", at::kUInt64},
    Dtype{"U32", at::kUInt32},    Dtype{"U16", at::kUInt16}, Dtype{"U8", at::kByte},
    Dtype{"BOOL", at::kBool},
};

std::string dtype_names() {
  return fmt::format("{}", fmt::join(kDtypes | std::views::transform(&Dtype::name), ", "));
}

/// Throws what goes behind the file's name, which naming() puts in front.
template <typename... Values>
[[noreturn]] void fail(fmt::format_string<Values...> reason, Values&&... values) {
  throw SafetensorsError(": " + fmt::format(reason, std::forward<Values>(values)...));
}

[[noreturn]] void fail_damaged(const std::string& reason) {
  throw SafetensorsError(" is damaged: " + reason + "; use another checkpoint of the run");
}

template <typename Work>
auto naming(const std::string& file, const Work& work) {
  try {
    return work();
  } catch (const SafetensorsError& error) {
    throw SafetensorsError(printable(file) + error.what());
  }
}

/// A name from the file in quotes, for a one-line message however long it is.
std::string shortened(std::string_view name) {
  constexpr std::size_t kLongest = 100;
  if (name.size() <= kLongest) return '"' + printable(name) + '"';
  std::size_t cut = kLongest;
  const auto continues_character = [&] { return (name[cut] & 0xC0) == 0x80; };
  while (cut > 0 && continues_character()) --cut;
  return '"' + printable(name.substr(0, cut)) + "...\"";
}

/// What the header says about one tensor.
struct Entry {
  std::string name;
  const Dtype* dtype = nullptr;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;  ///< of its bytes in the data

  std::int64_t size() const { return end - begin; }
  std::string offsets() const { return fmt::format("[{}, {}]", begin, end); }
};

/// Parses JSON without duplicate names, at most `max_depth` deep and with lists of at most
/// kMaxListLength values, so that memory stays in proportion to the text.
Json parse_strictly(std::string_view text, std::size_t max_depth, const std::string& subject) {
  const auto invalid = [&](std::size_t byte) {
    fail("{} is not valid JSON (near its byte {})", subject, byte);
  };
  // nlohmann-json takes a NUL for the end of its input: what follows one would go unread.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) invalid(nul);
  struct Level {
    std::set<std::string> names;  // an object's
    std::size_t length = 0;       // a list's
  };
  std::vector<Level> levels;
  const auto count_value = [&] {
    if (!levels.empty() && ++levels.back().length > kMaxListLength) {
      fail("{} has a list of more than {} values", subject, kMaxListLength);
    }
  };
  const auto check = [&](int /*depth*/, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (levels.size() == max_depth) fail("{} is nested more than {} deep", subject, max_depth);
      count_value();
      levels.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      levels.pop_back();
    } else if (event == Event::value) {
      count_value();
    } else {
      levels.back().length = 0;
      const auto name = value.get<std::string>();
      if (!levels.back().names.insert(name).second) {
        fail("{} has the name {} twice", subject, shortened(name));
      }
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    invalid(error.byte);
  } catch (const Json::exception&) {
    fail("{} is not valid JSON (a number is too large)", subject);
  }
  return {};
}

std::string kind_of(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer() && !value.is_number_unsigned()) return "a negative number";
  return value.is_null() ? "null" : "the number " + value.dump();
}

void require_kind(bool is_right, const std::string& where, const char* expected, const Json& got) {
  if (!is_right) fail("{} must be {}, but is or holds {}", where, expected, kind_of(got));
}

std::string string_of(const Json& value, const std::string& where) {
  require_kind(value.is_string(), where, "a string", value);
  return value.get<std::string>();
}

std::vector<std::int64_t> numbers_of(const Json& list, const std::string& where) {
  constexpr const char* kExpected = "a list of whole numbers from 0 to 2^63 - 1";
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  require_kind(list.is_array(), where, kExpected, list);
  if (list.size() > kMaxDimensions) fail("{} has too many numbers", where);
  for (const Json& number : list) {
    const bool fits = number.is_number_unsigned() && number.get<std::uint64_t>() <= kMost;
    require_kind(fits, where, kExpected, number);
  }
  return list.get<std::vector<std::int64_t>>();
}

Entry read_entry(const std::string& name, const Json& fields) {
  const std::string tensor = "tensor " + shortened(name);
  Entry entry;
  entry.name = name;
  for (const auto& [key, value] : fields.items()) {
    const std::string where = tensor + ": the field " + shortened(key);
    if (key == "dtype") {
      const std::string dtype = string_of(value, where);
      entry.dtype = std::ranges::find(kDtypes, std::string_view(dtype), &Dtype::name);
      if (entry.dtype == kDtypes.end()) {
        fail("{} has the dtype {}, which is not supported (expected one of {})", tensor,
             shortened(dtype), dtype_names());
      }
    } else if (key == "shape") {
      entry.shape = numbers_of(value, where);
    } else if (key == "data_offsets") {
      const std::vector<std::int64_t> offsets = numbers_of(value, where);
      if (offsets.size() != 2) fail("{} must be two numbers, begin and end", where);
      entry.begin = offsets[0];
      entry.end = offsets[1];
    } else {
      fail("{} has the unknown field {}", tensor, shortened(key));
    }
  }
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!fields.contains(key)) fail("{} has no field {}", tensor, shortened(key));
  }
  return entry;
}

/// The tensors by name; fills `metadata`.
std::vector<Entry> read_header(std::string_view text,
                               std::map<std::string, std::string>& metadata) {
  constexpr std::size_t kDepth = 3;  // {"name": {"shape": […]}}
  std::vector<Entry> entries;
  const Json document = parse_strictly(text, kDepth, "the header");
  for (const auto& [name, fields] : document.items()) {
    require_kind(fields.is_object(), "the header's entry " + shortened(name), "an object", fields);
    if (name != kMetadataName) {
      entries.push_back(read_entry(name, fields));
      continue;
    }
    for (const auto& [key, value] : fields.items()) {
      metadata[key] = string_of(value, "the metadata's entry " + shortened(key));
    }
  }
  return entries;
}

std::string_view as_text(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The header's text; `bytes` is the whole file.
std::string_view header_text(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kSmallest = kLengthBytes + 2;  // an empty header is {}
  if (bytes.size() < kSmallest) {
    fail("not a safetensors file: it has {} bytes, expected at least {}", bytes.size(), kSmallest);
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const auto most = std::min<std::uint64_t>(bytes.size() - kLengthBytes, kMaxHeaderBytes);
  if (length > most) {
    fail(
        "not a safetensors file, or cut short: its header would have {} bytes, expected at most "
        "{}",
        length, most);
  }
  const std::string_view text = as_text(bytes).substr(kLengthBytes, length);
  const auto last = text.find_last_not_of(' ');
  if (last == std::string_view::npos || text.front() != '{' || text[last] != '}') {
    fail("not a safetensors file: its header does not begin with {{ and end with }}");
  }
  return text;
}

/// Bytes of a tensor of this shape. Nothing if they, or the strides torch would work out (for
/// which a 0 counts as 1), are beyond 63 bits.
std::optional<std::int64_t> size_in_bytes(const Entry& entry) {
  std::int64_t bytes = entry.dtype->bytes();
  for (const std::int64_t length : entry.shape) {
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(length, 1), &bytes)) return {};
  }
  return std::ranges::count(entry.shape, 0) > 0 ? 0 : bytes;
}

void check_entry(const Entry& entry, std::int64_t data_size) {
  const std::string tensor = shortened(entry.name);
  const std::string shape = fmt::format("[{}]", fmt::join(entry.shape, ", "));
  const auto expected = size_in_bytes(entry);
  if (!expected) fail("tensor {}: its shape {} is too large", tensor, shape);
  if (entry.begin > entry.end) {
    fail("tensor {}: its data_offsets {} run backwards", tensor, entry.offsets());
  }
  if (entry.end > data_size) {
    fail(
        "tensor {}: its data_offsets {} reach beyond the file's {} bytes of data; the file may "
        "have been cut short",
        tensor, entry.offsets(), data_size);
  }
  if (entry.size() != *expected) {
    fail("tensor {}: its shape {} of {} takes {} bytes, but its data_offsets {} give {}", tensor,
         shape, entry.dtype->name, *expected, entry.offsets(), entry.size());
  }
}

/// Every byte of the data belongs to exactly one tensor: nothing hides in a file, and no two
/// tensors share memory. Sorts the entries by their place in the data.
void check_coverage(std::vector<Entry>& entries, std::int64_t data_size) {
  std::ranges::stable_sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  std::int64_t covered = 0;
  const auto require_covered = [&](std::int64_t end) {
    if (covered < end) fail("bytes {} to {} of the data belong to no tensor", covered, end);
  };
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    require_covered(entry.begin);
    if (entry.begin < covered) {
      fail("tensors {} and {} overlap", shortened(previous->name), shortened(entry.name));
    }
    covered = entry.end;
    previous = &entry;
  }
  require_covered(data_size);
}

at::Tensor make_tensor(const Entry& entry, std::span<const std::uint8_t> data) {
  if (entry.dtype->type == at::kBool) {
    const auto wrong = std::ranges::find_if(data, [](auto byte) { return byte > 1; });
    if (wrong != data.end()) {
      fail("tensor {}: expected its BOOL values to be 0 or 1, but got {}", shortened(entry.name),
           *wrong);
    }
  }
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype->type));
  // An empty tensor's pointer may be null, which memcpy does not allow.
  if (!data.empty()) std::memcpy(tensor.data_ptr(), data.data(), data.size());
  return tensor;
}

/// Where the digits of `\"xxh3\":\"0123456789abcdef\"` are in a header. They have backslashes
/// because the digest is in a JSON text that is itself a JSON string.
std::vector<std::size_t> find_digests(std::string_view header) {
  constexpr std::string_view kQuote = "\\\"";
  const std::string key = fmt::format("{}{}{}:", kQuote, kDigestKey, kQuote);
  std::vector<std::size_t> found;
  for (auto at = header.find(key); at != std::string_view::npos; at = header.find(key, at + 1)) {
    std::size_t digits = header.find_first_not_of(' ', at + key.size());
    if (digits == std::string_view::npos || !header.substr(digits).starts_with(kQuote)) continue;
    digits += kQuote.size();
    const std::size_t count = header.substr(digits).find_first_not_of("0123456789abcdef");
    if (count == kDigestDigits && header.substr(digits + count).starts_with(kQuote)) {
      found.push_back(digits);
    }
  }
  return found;
}

/// Where the digits of the digest in metadata[kMetadataKey] are in the header that holds it.
/// A missing digest is an error: otherwise one damaged letter of its name would switch it off.
std::size_t locate_digest(std::string_view header, const std::string& json) {
  const std::string entry = "the metadata's entry " + shortened(kMetadataKey);
  const Json object = parse_strictly(json, kMaxMetadataDepth, entry);
  const auto digest = object.find(kDigestKey);
  if (digest == object.end() || !digest->is_string()) {
    fail("{} holds no checksum (expected a JSON object with {})", entry, shortened(kDigestKey));
  }
  const std::vector<std::size_t> found = find_digests(header);
  if (found.size() != 1 || header.substr(found[0], kDigestDigits) != digest->get<std::string>()) {
    fail(
        "expected the header to hold one checksum of 16 lower-case hex digits ({} in {}), but "
        "found {}",
        shortened(kDigestKey), entry, found.size() == 1 ? "another" : std::to_string(found.size()));
  }
  return found[0];
}

/// XXH3-64 of the parts together, in 16 lower-case hex digits.
std::string digest_of(const std::vector<std::string_view>& parts) {
  return digest_of_all([&](const auto& add) {
    for (const std::string_view part : parts) add(part);
  });
}

void check_digest(std::string_view file, std::string_view header,
                  const std::map<std::string, std::string>& metadata) {
  const auto json = metadata.find(kMetadataKey);
  if (json == metadata.end()) {
    if (find_digests(header).empty()) return;
    fail_damaged("it holds a checksum, but no metadata " + shortened(kMetadataKey));
  }
  const std::size_t position = kLengthBytes + locate_digest(header, json->second);
  const std::string_view expected = file.substr(position, kDigestDigits);
  const std::string digest = digest_of(
      {file.substr(0, position), kDigestPlaceholder, file.substr(position + kDigestDigits)});
  if (digest != expected) {
    fail_damaged(
        fmt::format("its checksum does not match (expected {}, computed {})", expected, digest));
  }
}

/// A tensor as it goes into the file: on the CPU and contiguous.
struct Stored {
  std::string name;
  const Dtype* dtype;
  at::Tensor tensor;
};

Stored to_stored(const std::string& name, const at::Tensor& tensor) {
  if (name == kMetadataName) fail("no tensor can be named {}", shortened(name));
  if (!tensor.defined()) fail("tensor {} is undefined", shortened(name));
  const auto dtype = std::ranges::find(kDtypes, tensor.scalar_type(), &Dtype::type);
  if (dtype == kDtypes.end()) {
    fail("tensor {} cannot be stored: expected one of {}, but got {}", shortened(name),
         dtype_names(), c10::toString(tensor.scalar_type()));
  }
  if (tensor.layout() != at::kStrided) {
    fail("tensor {} cannot be stored: expected a dense tensor (to_dense())", shortened(name));
  }
  return {name, dtype, tensor.detach().to(at::kCPU).resolve_neg().contiguous()};
}

std::vector<Stored> in_file_order(const std::map<std::string, at::Tensor>& tensors) {
  std::vector<Stored> stored;
  for (const auto& [name, tensor] : tensors) stored.push_back(to_stored(name, tensor));
  // Widest first keeps every tensor aligned to its elements; the map has sorted the names.
  std::ranges::stable_sort(stored, std::greater<>(),
                           [](const Stored& item) { return item.dtype->bytes(); });
  return stored;
}

/// The text itself, if JSON can hold it.
const std::string& in_utf8(const std::string& text) {
  if (!is_utf8(text)) fail("expected names and metadata in UTF-8, but got {}", shortened(text));
  return text;
}

/// The header's JSON, padded so that the data after it is aligned.
std::string make_header(const std::vector<Stored>& stored,
                        const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::ordered_json::object();
  for (const auto& [key, value] : metadata) header[kMetadataName][in_utf8(key)] = in_utf8(value);
  std::int64_t begin = 0;
  for (const auto& [name, dtype, tensor] : stored) {
    const std::int64_t end = begin + static_cast<std::int64_t>(tensor.nbytes());
    header[in_utf8(name)] = {
        {"dtype", dtype->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string json = header.dump();
  json.append((kAlignment - (kLengthBytes + json.size()) % kAlignment) % kAlignment, ' ');
  if (json.size() > kMaxHeaderBytes) {
    fail("names and metadata take {} bytes, expected at most {}", json.size(), kMaxHeaderBytes);
  }
  return json;
}

Safetensors parse(std::span<const std::uint8_t> bytes) {
  const std::string_view header = header_text(bytes);
  const auto data = bytes.subspan(kLengthBytes + header.size());
  Safetensors result;
  std::vector<Entry> entries = read_header(header, result.metadata);
  for (const Entry& entry : entries) check_entry(entry, std::ssize(data));
  check_coverage(entries, std::ssize(data));
  check_digest(as_text(bytes), header, result.metadata);
  for (const Entry& entry : entries) {
    result.tensors[entry.name] = make_tensor(entry, data.subspan(entry.begin, entry.size()));
  }
  return result;
}

void write(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
           const std::map<std::string, std::string>& metadata) {
  const std::vector<Stored> stored = in_file_order(tensors);
  std::string header = make_header(stored, metadata);
  const std::uint64_t length = header.size();
  std::vector<std::string_view> parts = {{reinterpret_cast<const char*>(&length), sizeof length},
                                         header};
  for (const auto& [name, dtype, tensor] : stored) {
    parts.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  if (const auto json = metadata.find(kMetadataKey); json != metadata.end()) {
    const std::size_t position = locate_digest(header, json->second);
    header.replace(position, kDigestDigits, kDigestPlaceholder);
    header.replace(position, kDigestDigits, digest_of(parts));  // in place: `parts` sees it
  }
  AtomicFile output(path);
  for (const std::string_view part : parts) output.write(part);
  output.commit();
}

}  // namespace

Safetensors parse_safetensors(std::span<const std::uint8_t> bytes, const std::string& name) {
  return naming(name, [&] { return parse(bytes); });
}

Safetensors read_safetensors(const std::filesystem::path& path) {
  return parse_safetensors(read_file(path), path.string());
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, torch::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  naming(path.string(), [&] { write(path, tensors, metadata); });
}

std::string digest_of(const std::map<std::string, torch::Tensor>& tensors) {
  return digest_of_all([&](const auto& add) {
    for (const auto& [name, tensor] : tensors) {
      const torch::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
      add(name);
      add({static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()});
    }
  });
}

}  // namespace convae
