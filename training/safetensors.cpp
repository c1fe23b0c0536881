#include "convae/training/safetensors.h"

#include "convae/core/files.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
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
/// Far more than our own JSON needs; it keeps the parser's memory and time small.
constexpr std::size_t kMaxMetadataDepth = 64;
constexpr const char* kMetadataName = "__metadata__";

struct Dtype {
  const char* name;
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
  std::string names;
  for (const Dtype& dtype : kDtypes) names += (names.empty() ? "" : ", ") + std::string(dtype.name);
  return names;
}

[[noreturn]] void fail(const std::string& file, const std::string& reason) {
  throw SafetensorsError(file + ": " + reason);
}

[[noreturn]] void fail_damaged(const std::string& file, const std::string& reason) {
  throw SafetensorsError(file + " is damaged: " + reason + "; use another checkpoint of the run");
}

/// A name out of the file, quoted and fit for a one-line message however long it is.
std::string shortened(std::string_view name) {
  constexpr std::size_t kLongest = 100;
  if (name.size() <= kLongest) return '"' + printable(name) + '"';
  std::size_t cut = kLongest;
  const auto continues_character = [&] { return (name[cut] & 0xC0) == 0x80; };
  while (cut > 0 && continues_character()) --cut;
  return '"' + printable(name.substr(0, cut)) + "...\"";
}

std::string list(const std::vector<std::int64_t>& numbers) {
  std::string text = "[";
  for (const std::int64_t number : numbers) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(number);
  }
  return text + "]";
}

/// What the header says about one tensor.
struct Entry {
  const Dtype* dtype = nullptr;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::int64_t>> offsets;  // begin and end, in bytes

  std::int64_t begin() const { return (*offsets)[0]; }
  std::int64_t end() const { return (*offsets)[1]; }
};

/// A JSON document read event by event: what does not belong is refused where it stands, before
/// anything is built from it. The parser calls the overrides and stops at the first false.
class StrictHandler : public nlohmann::json_sax<Json> {
public:
  explicit StrictHandler(std::string subject) : subject_(std::move(subject)) {}

  const std::string& error() const { return error_; }

  bool binary(binary_t& /*value*/) override { return refuse("JSON has no binary values"); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return invalid(position);
  }

  bool invalid(std::size_t position) {
    return refuse(subject_ + " is not valid JSON (near its byte " + std::to_string(position) + ")");
  }

protected:
  bool refuse(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

private:
  std::string subject_;
  std::string error_;
};

/// The file's header. Depth needs no counter: only the places below can be entered.
class HeaderHandler final : public StrictHandler {
public:
  HeaderHandler() : StrictHandler("the header") {}

  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override { return misplaced("null"); }
  bool boolean(bool /*value*/) override { return misplaced("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override {
    return misplaced("a negative number");
  }
  bool number_float(number_float_t /*value*/, const std::string& text) override {
    return misplaced("the number " + printable(text.substr(0, 40)));
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return misplaced("a number");
    if (value > std::numeric_limits<std::int64_t>::max()) {
      return misplaced("the number " + std::to_string(value));
    }
    std::vector<std::int64_t>& numbers =
        place_ == Place::kShape ? *entry_->shape : *entry_->offsets;
    if (numbers.size() == (place_ == Place::kShape ? kMaxDimensions : 2)) {
      return refuse(where() + " has too many numbers");
    }
    numbers.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return misplaced("a string");
    const auto dtype = std::find_if(kDtypes.begin(), kDtypes.end(),
                                    [&](const Dtype& known) { return value == known.name; });
    if (dtype == kDtypes.end()) {
      return refuse("tensor " + shortened(name_) + " has the dtype " + shortened(value) +
                    ", which is not supported (expected one of " + dtype_names() + ")");
    }
    entry_->dtype = &*dtype;
    return true;
  }

  bool start_object(std::size_t /*count*/) override {
    if (place_ == Place::kStart) {
      place_ = Place::kHeader;
    } else if (place_ == Place::kHeader) {
      place_ = name_ == kMetadataName ? Place::kMetadata : Place::kTensor;
    } else {
      return misplaced("an object");
    }
    return true;
  }

  bool key(std::string& key) override {
    if (place_ == Place::kHeader) return enter(key);
    key_ = std::move(key);
    if (place_ == Place::kMetadata) {
      if (!metadata.try_emplace(key_).second) {
        return refuse("the metadata has the name " + shortened(key_) + " twice");
      }
      return true;
    }
    if (key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
      return refuse("tensor " + shortened(name_) + " has the unknown field " + shortened(key_));
    }
    const bool seen = key_ == "dtype"   ? entry_->dtype != nullptr
                      : key_ == "shape" ? entry_->shape.has_value()
                                        : entry_->offsets.has_value();
    return !seen ||
           refuse("tensor " + shortened(name_) + " has the field " + shortened(key_) + " twice");
  }

  bool end_object() override {
    if (place_ == Place::kHeader) {
      place_ = Place::kEnd;
      return true;
    }
    if (place_ == Place::kTensor) {
      const char* missing = entry_->dtype == nullptr ? "dtype"
                            : !entry_->shape         ? "shape"
                            : !entry_->offsets       ? "data_offsets"
                                                     : nullptr;
      if (missing != nullptr) {
        return refuse("tensor " + shortened(name_) + " has no field " + shortened(missing));
      }
    }
    place_ = Place::kHeader;
    return true;
  }

  bool start_array(std::size_t /*count*/) override {
    if (place_ != Place::kTensor || key_ == "dtype") return misplaced("a list");
    if (key_ == "shape") {
      place_ = Place::kShape;
      entry_->shape.emplace();
    } else {
      place_ = Place::kOffsets;
      entry_->offsets.emplace();
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && entry_->offsets->size() != 2) {
      return refuse(where() + " must be two numbers, begin and end");
    }
    place_ = Place::kTensor;
    return true;
  }

private:
  enum class Place { kStart, kHeader, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool enter(std::string& name) {
    name_ = std::move(name);
    bool is_new = true;
    if (name_ == kMetadataName) {
      is_new = !std::exchange(has_metadata_, true);
    } else {
      const auto [entry, inserted] = entries.try_emplace(name_);
      entry_ = &entry->second;
      is_new = inserted;
    }
    return is_new || refuse("the header has the name " + shortened(name_) + " twice");
  }

  std::string where() const {
    if (place_ == Place::kHeader) return "the header's entry " + shortened(name_);
    if (place_ == Place::kMetadata) return "the metadata's entry " + shortened(key_);
    return "tensor " + shortened(name_) + ": the field " + shortened(key_);
  }

  bool misplaced(const std::string& got) {
    const char* expected = "a list of whole numbers from 0 to 2^63 - 1";
    if (place_ == Place::kHeader) expected = "an object";
    if (place_ == Place::kMetadata) expected = "a string";
    if (place_ == Place::kTensor && key_ == "dtype") expected = "a string";
    return refuse(where() + " must be " + expected + ", but is or holds " + got);
  }

  Place place_ = Place::kStart;
  std::string name_;  // the current entry of the header
  std::string key_;   // the current field of that entry
  Entry* entry_ = nullptr;
  bool has_metadata_ = false;
};

/// Any JSON document without duplicate names; keeps the digest of its outermost object.
class DigestHandler final : public StrictHandler {
public:
  DigestHandler() : StrictHandler("the metadata's entry " + shortened(kMetadataKey)) {}

  std::optional<std::string> digest;

  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const std::string& /*text*/) override { return true; }

  bool string(std::string& value) override {
    if (names_.size() == 1 && key_ == kDigestKey) digest = std::move(value);
    return true;
  }

  bool start_object(std::size_t /*count*/) override { return descend(); }
  bool start_array(std::size_t /*count*/) override { return descend(); }
  bool end_object() override { return ascend(); }
  bool end_array() override { return ascend(); }

  bool key(std::string& key) override {
    key_ = std::move(key);
    return names_.back().insert(key_).second ||
           refuse("the metadata's entry " + shortened(kMetadataKey) + " has the name " +
                  shortened(key_) + " twice");
  }

private:
  bool descend() {
    if (names_.size() == kMaxMetadataDepth) {
      return refuse("the metadata's entry " + shortened(kMetadataKey) + " is nested more than " +
                    std::to_string(kMaxMetadataDepth) + " deep");
    }
    names_.emplace_back();
    return true;
  }

  bool ascend() {
    names_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> names_;  // of each open object; a list's stays empty
  std::string key_;
};

void parse_json(std::string_view text, StrictHandler& handler, const std::string& file) {
  // nlohmann-json takes a NUL for the end of its input: what follows one would go unread.
  const auto nul = text.find('\0');
  const bool good = nul == std::string_view::npos
                        ? Json::sax_parse(text.begin(), text.end(), &handler)
                        : handler.invalid(nul);
  if (!good) fail(file, handler.error());
}

/// The header's text; `bytes` is the whole file.
std::string_view header_text(std::span<const std::uint8_t> bytes, const std::string& file) {
  constexpr std::size_t kSmallest = kLengthBytes + 2;  // an empty header is {}
  if (bytes.size() < kSmallest) {
    fail(file, "not a safetensors file: it has " + std::to_string(bytes.size()) +
                   " bytes, expected at least " + std::to_string(kSmallest));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > bytes.size() - kLengthBytes || length > kMaxHeaderBytes) {
    fail(file,
         "not a safetensors file, or cut short: its header would have " + std::to_string(length) +
             " bytes, expected at most " +
             std::to_string(std::min<std::uint64_t>(bytes.size() - kLengthBytes, kMaxHeaderBytes)));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  const auto last = text.find_last_not_of(' ');
  if (last == std::string_view::npos || text.front() != '{' || text[last] != '}') {
    fail(file, "not a safetensors file: its header does not begin with { and end with }");
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
  const std::string tensor = "tensor " + shortened(name) + ": ";
  const std::string offsets = "its data_offsets " + list(*entry.offsets);
  const auto expected = size_in_bytes(*entry.shape, *entry.dtype);
  if (!expected) fail(file, tensor + "its shape " + list(*entry.shape) + " is too large");
  if (entry.begin() > entry.end()) fail(file, tensor + offsets + " run backwards");
  if (entry.end() > data_size) {
    fail(file, tensor + offsets + " reach beyond the file's " + std::to_string(data_size) +
                   " bytes of data; the file may have been cut short");
  }
  if (entry.end() - entry.begin() != *expected) {
    fail(file, tensor + "its shape " + list(*entry.shape) + " of " + entry.dtype->name + " takes " +
                   std::to_string(*expected) + " bytes, but " + offsets + " give " +
                   std::to_string(entry.end() - entry.begin()));
  }
}

/// Every byte of the data belongs to exactly one tensor: files cannot smuggle anything, and no
/// two tensors share memory.
void check_coverage(const std::map<std::string, Entry>& entries, std::int64_t data_size,
                    const std::string& file) {
  using Item = std::pair<const std::string, Entry>;
  std::vector<const Item*> order;
  order.reserve(entries.size());
  for (const Item& item : entries) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    return std::tuple(a->second.begin(), a->second.end()) <
           std::tuple(b->second.begin(), b->second.end());
  });
  std::int64_t covered = 0;
  const Item* previous = nullptr;
  const auto fail_uncovered = [&](std::int64_t end) {
    fail(file, "bytes " + std::to_string(covered) + " to " + std::to_string(end) +
                   " of the data belong to no tensor");
  };
  for (const Item* item : order) {
    if (item->second.begin() > covered) fail_uncovered(item->second.begin());
    if (item->second.begin() < covered) {
      fail(file,
           "tensors " + shortened(previous->first) + " and " + shortened(item->first) + " overlap");
    }
    covered = item->second.end();
    previous = item;
  }
  if (covered < data_size) fail_uncovered(data_size);
}

void check_bools(const std::string& name, std::span<const std::uint8_t> data,
                 const std::string& file) {
  const auto wrong = std::find_if(data.begin(), data.end(), [](auto byte) { return byte > 1; });
  if (wrong != data.end()) {
    fail(file, "tensor " + shortened(name) + ": expected its BOOL values to be 0 or 1, but got " +
                   std::to_string(*wrong));
  }
}

at::Tensor make_tensor(const Entry& entry, std::span<const std::uint8_t> data) {
  at::Tensor tensor = at::empty(*entry.shape, at::TensorOptions().dtype(entry.dtype->type));
  // An empty tensor's pointer may be null, which memcpy does not allow.
  if (!data.empty()) std::memcpy(tensor.data_ptr(), data.data(), data.size());
  return tensor;
}

bool is_lower_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

/// Where the digits of `\"xxh3\":\"0123456789abcdef\"` stand in a header. The backslashes are
/// there because the digest is in a JSON text that is itself a JSON string.
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

/// Where the digits of the digest in metadata[kMetadataKey] stand in the header that holds it.
/// A missing digest is an error: otherwise one damaged letter of its name would switch it off.
std::size_t locate_digest(std::string_view header, const std::string& json,
                          const std::string& file) {
  DigestHandler handler;
  parse_json(json, handler, file);
  const std::string entry = "the metadata's entry " + shortened(kMetadataKey);
  if (!handler.digest) {
    fail(file,
         entry + " holds no checksum (expected a JSON object with " + shortened(kDigestKey) + ")");
  }
  const std::vector<std::size_t> found = find_digests(header);
  if (found.size() != 1 || header.substr(found[0], std::strlen(kDigestPlaceholder)) !=
                               std::string_view(*handler.digest)) {
    fail(file, "expected the header to hold one checksum of 16 lower-case hex digits (" +
                   shortened(kDigestKey) + " in " + entry + "), but found " +
                   (found.size() == 1 ? "another" : std::to_string(found.size())));
  }
  return found[0];
}

class Digest {
public:
  Digest() {
    if (!state_ || XXH3_64bits_reset(state_.get()) != XXH_OK) throw std::bad_alloc();
  }

  void add(const void* bytes, std::size_t count) {
    if (count > 0) XXH3_64bits_update(state_.get(), bytes, count);
  }
  void add(std::string_view text) { add(text.data(), text.size()); }

  /// 16 lower-case hex digits.
  std::string text() const {
    std::uint64_t value = XXH3_64bits_digest(state_.get());
    std::string digits(std::strlen(kDigestPlaceholder), '0');
    for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, value >>= 4) {
      *digit = "0123456789abcdef"[value & 15];
    }
    return digits;
  }

private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

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
  Digest digest;
  digest.add(text.substr(0, position));
  digest.add(placeholder);
  digest.add(text.substr(position + placeholder.size()));
  const std::string_view expected = text.substr(position, placeholder.size());
  if (digest.text() != expected) {
    fail_damaged(file, "its checksum does not match (expected " + std::string(expected) +
                           ", computed " + digest.text() + ")");
  }
}

/// A tensor as it goes into the file: on the CPU and contiguous.
struct Stored {
  std::string name;
  const Dtype* dtype;
  at::Tensor tensor;
};

Stored to_stored(const std::string& name, const at::Tensor& tensor, const std::string& file) {
  if (name == kMetadataName) fail(file, "no tensor can be named " + shortened(name));
  if (!tensor.defined()) fail(file, "tensor " + shortened(name) + " is undefined");
  const auto dtype = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& known) {
    return known.type == tensor.scalar_type();
  });
  if (dtype == kDtypes.end()) {
    fail(file, "tensor " + shortened(name) + " cannot be stored: expected one of " + dtype_names() +
                   ", but got " + c10::toString(tensor.scalar_type()));
  }
  if (tensor.layout() != at::kStrided) {
    fail(file,
         "tensor " + shortened(name) + " cannot be stored: expected a dense tensor (to_dense())");
  }
  return {name, &*dtype, tensor.detach().to(at::kCPU).resolve_neg().contiguous()};
}

std::vector<Stored> in_file_order(const std::map<std::string, at::Tensor>& tensors,
                                  const std::string& file) {
  std::vector<Stored> stored;
  stored.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) stored.push_back(to_stored(name, tensor, file));
  // Widest first keeps every tensor aligned to its elements; the map has sorted the names.
  std::stable_sort(stored.begin(), stored.end(), [](const Stored& a, const Stored& b) {
    return a.dtype->bytes() > b.dtype->bytes();
  });
  return stored;
}

std::string shortened(const std::string& text, const std::string& file) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail(file, "expected names and metadata in UTF-8, but got " + shortened(text));
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
    json += shortened(kMetadataName, file) + ":{";
    for (const auto& [key, value] : metadata) {
      separate();
      json += shortened(key, file) + ":" + shortened(value, file);
    }
    json += '}';
  }
  std::int64_t begin = 0;
  for (const auto& [name, dtype, tensor] : stored) {
    const std::int64_t end = begin + static_cast<std::int64_t>(tensor.nbytes());
    separate();
    json += shortened(name, file) + ":{\"dtype\":\"" + dtype->name +
            "\",\"shape\":" + Json(tensor.sizes().vec()).dump() +
            ",\"data_offsets\":" + Json({begin, end}).dump() + "}";
    begin = end;
  }
  json += '}';
  json.append((kAlignment - (kLengthBytes + json.size()) % kAlignment) % kAlignment, ' ');
  if (json.size() > kMaxHeaderBytes) {
    fail(file, "names and metadata take " + std::to_string(json.size()) +
                   " bytes, expected at most " + std::to_string(kMaxHeaderBytes));
  }
  return json;
}

}  // namespace

Safetensors parse_safetensors(std::span<const std::uint8_t> bytes, const std::string& name) {
  const std::string file = printable(name);
  const std::string_view text = header_text(bytes, file);
  const auto data = bytes.subspan(kLengthBytes + text.size());
  HeaderHandler header;
  parse_json(text, header, file);
  const auto data_size = static_cast<std::int64_t>(data.size());
  for (const auto& [key, entry] : header.entries) check_entry(key, entry, data_size, file);
  check_coverage(header.entries, data_size, file);
  check_digest(bytes, text, header.metadata, file);

  const auto bytes_of = [&](const Entry& entry) {
    return data.subspan(static_cast<std::size_t>(entry.begin()),
                        static_cast<std::size_t>(entry.end() - entry.begin()));
  };
  for (const auto& [key, entry] : header.entries) {
    if (entry.dtype->type == at::kBool) check_bools(key, bytes_of(entry), file);
  }
  Safetensors result;
  result.metadata = std::move(header.metadata);
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

  if (const auto json = metadata.find(kMetadataKey); json != metadata.end()) {
    const std::size_t position = locate_digest(header, json->second, file);
    const std::size_t digit_count = std::strlen(kDigestPlaceholder);
    header.replace(position, digit_count, kDigestPlaceholder);
    Digest digest;
    digest.add(&length, sizeof length);
    digest.add(header);
    for (const Stored& item : stored)
      digest.add(item.tensor.const_data_ptr(), item.tensor.nbytes());
    header.replace(position, digit_count, digest.text());
  }

  AtomicFile output(path);
  output.write(&length, sizeof length);
  output.write(header);
  for (const Stored& item : stored) {
    if (item.tensor.nbytes() > 0) output.write(item.tensor.const_data_ptr(), item.tensor.nbytes());
  }
  output.commit();
}

}  // namespace convae
