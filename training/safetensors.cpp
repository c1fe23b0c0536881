#include "convae/training/safetensors.h"

#include "convae/core/files.h"

#include <ATen/ops/empty.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

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
  std::vector<std::string_view> names;
  for (const Dtype& dtype : kDtypes) names.push_back(dtype.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

template <typename... Values>
[[noreturn]] void fail(const std::string& file, fmt::format_string<Values...> reason,
                       Values&&... values) {
  throw SafetensorsError(file + ": " + fmt::format(reason, std::forward<Values>(values)...));
}

[[noreturn]] void fail_damaged(const std::string& file, const std::string& reason) {
  throw SafetensorsError(file + " is damaged: " + reason + "; use another checkpoint of the run");
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
  const Dtype* dtype = nullptr;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;  ///< of its bytes in the data

  std::int64_t size() const { return end - begin; }
  std::string offsets() const { return fmt::format("[{}, {}]", begin, end); }
};

/// Parses JSON without duplicate names, at most `max_depth` deep and with lists of at most
/// kMaxListLength values, so that memory stays in proportion to the text.
Json parse_strictly(std::string_view text, std::size_t max_depth, const std::string& subject,
                    const std::string& file) {
  // nlohmann-json takes a NUL for the end of its input: what follows one would go unread.
  const auto invalid = [&](std::size_t byte) {
    fail(file, "{} is not valid JSON (near its byte {})", subject, byte);
  };
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) invalid(nul);
  struct Level {
    std::set<std::string> names;  // an object's
    std::size_t length = 0;       // a list's
  };
  std::vector<Level> levels;
  const auto count_value = [&] {
    if (!levels.empty() && ++levels.back().length > kMaxListLength) {
      fail(file, "{} has a list of more than {} values", subject, kMaxListLength);
    }
  };
  const auto check = [&](int /*depth*/, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (levels.size() == max_depth) {
        fail(file, "{} is nested more than {} deep", subject, max_depth);
      }
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
        fail(file, "{} has the name {} twice", subject, shortened(name));
      }
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    invalid(error.byte);
  } catch (const Json::exception&) {
    fail(file, "{} is not valid JSON (a number is too large)", subject);
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

[[noreturn]] void fail_kind(const std::string& file, const std::string& where, const char* expected,
                            const Json& got) {
  fail(file, "{} must be {}, but is or holds {}", where, expected, kind_of(got));
}

std::string string_of(const Json& value, const std::string& where, const std::string& file) {
  if (!value.is_string()) fail_kind(file, where, "a string", value);
  return value.get<std::string>();
}

std::vector<std::int64_t> numbers_of(const Json& list, const std::string& where,
                                     const std::string& file) {
  constexpr const char* kExpected = "a list of whole numbers from 0 to 2^63 - 1";
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (!list.is_array()) fail_kind(file, where, kExpected, list);
  if (list.size() > kMaxDimensions) fail(file, "{} has too many numbers", where);
  std::vector<std::int64_t> numbers;
  for (const Json& number : list) {
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kMost) {
      fail_kind(file, where, kExpected, number);
    }
    numbers.push_back(number.get<std::int64_t>());
  }
  return numbers;
}

Entry read_entry(const std::string& name, const Json& fields, const std::string& file) {
  const std::string tensor = "tensor " + shortened(name);
  Entry entry;
  for (const auto& [key, value] : fields.items()) {
    const std::string where = tensor + ": the field " + shortened(key);
    if (key == "dtype") {
      const std::string dtype = string_of(value, where, file);
      const auto known = std::ranges::find(kDtypes, std::string_view(dtype), &Dtype::name);
      if (known == kDtypes.end()) {
        fail(file, "{} has the dtype {}, which is not supported (expected one of {})", tensor,
             shortened(dtype), dtype_names());
      }
      entry.dtype = &*known;
    } else if (key == "shape") {
      entry.shape = numbers_of(value, where, file);
    } else if (key == "data_offsets") {
      const std::vector<std::int64_t> offsets = numbers_of(value, where, file);
      if (offsets.size() != 2) fail(file, "{} must be two numbers, begin and end", where);
      entry.begin = offsets[0];
      entry.end = offsets[1];
    } else {
      fail(file, "{} has the unknown field {}", tensor, shortened(key));
    }
  }
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!fields.contains(key)) fail(file, "{} has no field {}", tensor, shortened(key));
  }
  return entry;
}

struct Header {
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
};

Header read_header(std::string_view text, const std::string& file) {
  constexpr std::size_t kDepth = 3;  // {"name": {"shape": […]}}
  Header header;
  const Json document = parse_strictly(text, kDepth, "the header", file);
  for (const auto& [name, fields] : document.items()) {
    if (!fields.is_object()) {
      fail_kind(file, "the header's entry " + shortened(name), "an object", fields);
    }
    if (name != kMetadataName) {
      header.entries[name] = read_entry(name, fields, file);
      continue;
    }
    for (const auto& [key, value] : fields.items()) {
      header.metadata[key] = string_of(value, "the metadata's entry " + shortened(key), file);
    }
  }
  return header;
}

/// The header's text; `bytes` is the whole file.
std::string_view header_text(std::span<const std::uint8_t> bytes, const std::string& file) {
  constexpr std::size_t kSmallest = kLengthBytes + 2;  // an empty header is {}
  if (bytes.size() < kSmallest) {
    fail(file, "not a safetensors file: it has {} bytes, expected at least {}", bytes.size(),
         kSmallest);
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > bytes.size() - kLengthBytes || length > kMaxHeaderBytes) {
    fail(
        file,
        "not a safetensors file, or cut short: its header would have {} bytes, expected at most {}",
        length, std::min<std::uint64_t>(bytes.size() - kLengthBytes, kMaxHeaderBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  const auto last = text.find_last_not_of(' ');
  if (last == std::string_view::npos || text.front() != '{' || text[last] != '}') {
    fail(file, "not a safetensors file: its header does not begin with {{ and end with }}");
  }
  return text;
}

/// Bytes of a tensor of this shape. Nothing if they, or the strides torch would work out (for
/// which a 0 counts as 1), are beyond 63 bits.
std::optional<std::int64_t> size_in_bytes(const std::vector<std::int64_t>& shape,
                                          const Dtype& dtype) {
  std::int64_t bytes = dtype.bytes();
  bool empty = false;
  for (const std::int64_t length : shape) {
    empty = empty || length == 0;
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(length, 1), &bytes)) return {};
  }
  return empty ? 0 : bytes;
}

void check_entry(const std::string& name, const Entry& entry, std::int64_t data_size,
                 const std::string& file) {
  const std::string tensor = shortened(name);
  const std::string shape = fmt::format("[{}]", fmt::join(entry.shape, ", "));
  const auto expected = size_in_bytes(entry.shape, *entry.dtype);
  if (!expected) fail(file, "tensor {}: its shape {} is too large", tensor, shape);
  if (entry.begin > entry.end) {
    fail(file, "tensor {}: its data_offsets {} run backwards", tensor, entry.offsets());
  }
  if (entry.end > data_size) {
    fail(file,
         "tensor {}: its data_offsets {} reach beyond the file's {} bytes of data; the file may "
         "have been cut short",
         tensor, entry.offsets(), data_size);
  }
  if (entry.size() != *expected) {
    fail(file, "tensor {}: its shape {} of {} takes {} bytes, but its data_offsets {} give {}",
         tensor, shape, entry.dtype->name, *expected, entry.offsets(), entry.size());
  }
}

/// Every byte of the data belongs to exactly one tensor: nothing hides in a file, and no two
/// tensors share memory.
void check_coverage(const std::map<std::string, Entry>& entries, std::int64_t data_size,
                    const std::string& file) {
  using Item = std::pair<const std::string, Entry>;
  std::vector<const Item*> order;
  for (const Item& item : entries) order.push_back(&item);
  std::ranges::sort(
      order, {}, [](const Item* item) { return std::pair(item->second.begin, item->second.end); });
  std::int64_t covered = 0;
  const Item* previous = nullptr;
  const auto fail_uncovered = [&](std::int64_t end) {
    fail(file, "bytes {} to {} of the data belong to no tensor", covered, end);
  };
  for (const Item* item : order) {
    if (item->second.begin > covered) fail_uncovered(item->second.begin);
    if (item->second.begin < covered) {
      fail(file, "tensors {} and {} overlap", shortened(previous->first), shortened(item->first));
    }
    covered = item->second.end;
    previous = item;
  }
  if (covered < data_size) fail_uncovered(data_size);
}

void check_bools(const std::string& name, std::span<const std::uint8_t> data,
                 const std::string& file) {
  const auto wrong = std::ranges::find_if(data, [](auto byte) { return byte > 1; });
  if (wrong == data.end()) return;
  fail(file, "tensor {}: expected its BOOL values to be 0 or 1, but got {}", shortened(name),
       *wrong);
}

at::Tensor make_tensor(const Entry& entry, std::span<const std::uint8_t> data) {
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype->type));
  // An empty tensor's pointer may be null, which memcpy does not allow.
  if (!data.empty()) std::memcpy(tensor.data_ptr(), data.data(), data.size());
  return tensor;
}

bool is_lower_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/// Where the digits of `\"xxh3\":\"0123456789abcdef\"` are in a header. They have backslashes
/// because the digest is in a JSON text that is itself a JSON string.
std::vector<std::size_t> find_digests(std::string_view header) {
  constexpr std::string_view kQuote = "\\\"";
  const std::size_t digit_count = std::string_view(kDigestPlaceholder).size();
  const std::string key = std::string(kQuote) + kDigestKey + std::string(kQuote) + ":";
  std::vector<std::size_t> found;
  for (auto at = header.find(key); at != std::string_view::npos; at = header.find(key, at + 1)) {
    std::size_t digits = header.find_first_not_of(' ', at + key.size());
    if (digits == std::string_view::npos || !header.substr(digits).starts_with(kQuote)) continue;
    digits += kQuote.size();
    const std::string_view rest = header.substr(digits);
    if (rest.size() > digit_count && rest.substr(digit_count).starts_with(kQuote) &&
        std::all_of(rest.begin(), rest.begin() + digit_count, is_lower_hex)) {
      found.push_back(digits);
    }
  }
  return found;
}

/// Where the digits of the digest in metadata[kMetadataKey] are in the header that holds it.
/// A missing digest is an error: otherwise one damaged letter of its name would switch it off.
std::size_t locate_digest(std::string_view header, const std::string& json,
                          const std::string& file) {
  const std::string entry = "the metadata's entry " + shortened(kMetadataKey);
  const Json object = parse_strictly(json, kMaxMetadataDepth, entry, file);
  const auto digest = object.find(kDigestKey);
  if (digest == object.end() || !digest->is_string()) {
    fail(file, "{} holds no checksum (expected a JSON object with {})", entry,
         shortened(kDigestKey));
  }
  const std::vector<std::size_t> found = find_digests(header);
  if (found.size() != 1 ||
      header.substr(found[0], std::strlen(kDigestPlaceholder)) != digest->get<std::string>()) {
    fail(file,
         "expected the header to hold one checksum of 16 lower-case hex digits ({} in {}), but "
         "found "
         "{}",
         shortened(kDigestKey), entry,
         found.size() == 1 ? "another" : std::to_string(found.size()));
  }
  return found[0];
}

/// XXH3-64 of the parts together, in 16 lower-case hex digits.
std::string digest_of(const std::vector<std::string_view>& parts) {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state(XXH3_createState());
  if (!state || XXH3_64bits_reset(state.get()) != XXH_OK) throw std::bad_alloc();
  for (const std::string_view part : parts) {
    if (!part.empty()) XXH3_64bits_update(state.get(), part.data(), part.size());
  }
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

void check_digest(std::span<const std::uint8_t> bytes, std::string_view header,
                  const std::map<std::string, std::string>& metadata, const std::string& file) {
  const auto json = metadata.find(kMetadataKey);
  if (json == metadata.end()) {
    if (find_digests(header).empty()) return;
    fail_damaged(file, "it holds a checksum, but no metadata " + shortened(kMetadataKey));
  }
  const std::size_t position = kLengthBytes + locate_digest(header, json->second, file);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string_view placeholder = kDigestPlaceholder;
  const std::string_view expected = text.substr(position, placeholder.size());
  const std::string digest = digest_of(
      {text.substr(0, position), placeholder, text.substr(position + placeholder.size())});
  if (digest != expected) {
    fail_damaged(file, fmt::format("its checksum does not match (expected {}, computed {})",
                                   expected, digest));
  }
}

/// A tensor as it goes into the file: on the CPU and contiguous.
struct Stored {
  std::string name;
  const Dtype* dtype;
  at::Tensor tensor;
};

Stored to_stored(const std::string& name, const at::Tensor& tensor, const std::string& file) {
  if (name == kMetadataName) fail(file, "no tensor can be named {}", shortened(name));
  if (!tensor.defined()) fail(file, "tensor {} is undefined", shortened(name));
  const auto dtype = std::ranges::find(kDtypes, tensor.scalar_type(), &Dtype::type);
  if (dtype == kDtypes.end()) {
    fail(file, "tensor {} cannot be stored: expected one of {}, but got {}", shortened(name),
         dtype_names(), c10::toString(tensor.scalar_type()));
  }
  if (tensor.layout() != at::kStrided) {
    fail(file, "tensor {} cannot be stored: expected a dense tensor (to_dense())", shortened(name));
  }
  return {name, &*dtype, tensor.detach().to(at::kCPU).resolve_neg().contiguous()};
}

std::vector<Stored> in_file_order(const std::map<std::string, at::Tensor>& tensors,
                                  const std::string& file) {
  std::vector<Stored> stored;
  stored.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) stored.push_back(to_stored(name, tensor, file));
  // Widest first keeps every tensor aligned to its elements; the map has sorted the names.
  std::ranges::stable_sort(stored, std::greater<>(),
                           [](const Stored& item) { return item.dtype->bytes(); });
  return stored;
}

std::string json_string(const std::string& text, const std::string& file) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail(file, "expected names and metadata in UTF-8, but got {}", shortened(text));
  }
}

/// The header's JSON, padded so that the data after it is aligned.
std::string make_header(const std::vector<Stored>& stored,
                        const std::map<std::string, std::string>& metadata,
                        const std::string& file) {
  std::string json = "{";
  const auto separate = [&json] {
    if (json.back() != '{') json += ',';
  };
  if (!metadata.empty()) {
    json += fmt::format("\"{}\":{{", kMetadataName);
    for (const auto& [key, value] : metadata) {
      separate();
      json += json_string(key, file) + ":" + json_string(value, file);
    }
    json += '}';
  }
  std::int64_t begin = 0;
  for (const auto& [name, dtype, tensor] : stored) {
    const std::int64_t end = begin + static_cast<std::int64_t>(tensor.nbytes());
    separate();
    json += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        json_string(name, file), dtype->name, fmt::join(tensor.sizes(), ","), begin,
                        end);
    begin = end;
  }
  json += '}';
  json.append((kAlignment - (kLengthBytes + json.size()) % kAlignment) % kAlignment, ' ');
  if (json.size() > kMaxHeaderBytes) {
    fail(file, "names and metadata take {} bytes, expected at most {}", json.size(),
         kMaxHeaderBytes);
  }
  return json;
}

}  // namespace

Safetensors parse_safetensors(std::span<const std::uint8_t> bytes, const std::string& name) {
  const std::string file = printable(name);
  const std::string_view text = header_text(bytes, file);
  const auto data = bytes.subspan(kLengthBytes + text.size());
  const Header header = read_header(text, file);
  const auto data_size = static_cast<std::int64_t>(data.size());
  for (const auto& [key, entry] : header.entries) check_entry(key, entry, data_size, file);
  check_coverage(header.entries, data_size, file);
  check_digest(bytes, text, header.metadata, file);

  const auto bytes_of = [&](const Entry& entry) { return data.subspan(entry.begin, entry.size()); };
  for (const auto& [key, entry] : header.entries) {
    if (entry.dtype->type == at::kBool) check_bools(key, bytes_of(entry), file);
  }
  Safetensors result{{}, header.metadata};
  for (const auto& [key, entry] : header.entries) {
    result.tensors.emplace(key, make_tensor(entry, bytes_of(entry)));
  }
  return result;
}

Safetensors read_safetensors(const std::filesystem::path& path) {
  return parse_safetensors(read_file(path), path.string());
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, torch::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string file = printable(path.string());
  const std::vector<Stored> stored = in_file_order(tensors, file);
  std::string header = make_header(stored, metadata, file);
  const std::uint64_t length = header.size();
  std::vector<std::string_view> parts = {{reinterpret_cast<const char*>(&length), sizeof length},
                                         header};
  for (const auto& [name, dtype, tensor] : stored) {
    parts.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  if (const auto json = metadata.find(kMetadataKey); json != metadata.end()) {
    const std::size_t position = locate_digest(header, json->second, file);
    const std::size_t digit_count = std::strlen(kDigestPlaceholder);
    header.replace(position, digit_count, kDigestPlaceholder);
    header.replace(position, digit_count, digest_of(parts));  // in place: `parts` sees it
  }
  AtomicFile output(path);
  for (const std::string_view part : parts) output.write(part);
  output.commit();
}

}  // namespace convae
