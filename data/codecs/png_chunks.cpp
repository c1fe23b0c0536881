#include "convae/data/codecs/png_parts.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>

namespace convae::codec {
namespace {

void check_sum(const PngChunk& chunk) {
  const Bytes summed = chunk.whole.subspan(4, chunk.whole.size() - 8);  // type and data
  if (crc32_z(0, summed.data(), summed.size()) != big_endian_32(chunk.whole, 4 + summed.size())) {
    check_spng(SPNG_ECHUNK_CRC);
  }
}

}  // namespace

Spng new_spng(int flags) {
  Spng context(spng_ctx_new(flags));
  if (!context) throw ImageError("PNG: out of memory");
  return context;
}

void check_spng(int code) {
  switch (code) {
    case SPNG_OK: return;
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT: throw ImageError("truncated PNG: the data ends early");
    case SPNG_EWIDTH:
    case SPNG_EHEIGHT: throw ImageError("damaged PNG: a side of 0 or above 2^31 pixels");
    default: throw ImageError(std::string("damaged PNG: ") + spng_strerror(code));
  }
}

std::uint32_t big_endian_32(Bytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(number_at(bytes, at, 4, std::endian::big));
}

Bytes data_of(const std::vector<PngChunk>& chunks, std::string_view type) {
  const auto chunk = std::ranges::find(chunks, type, &PngChunk::type);
  return chunk == chunks.end() ? Bytes{} : chunk->data;
}

bool is_note(const PngChunk& chunk) {
  const bool is_optional = (chunk.type[0] & 0x20) != 0;  // a small letter
  return is_optional && chunk.type != "tRNS";
}

std::vector<PngChunk> chunks_of(Bytes bytes) {
  constexpr std::size_t kSignature = 8, kFrame = 12;  // length, type and checksum
  std::vector<PngChunk> chunks;
  for (std::size_t at = kSignature; bytes.size() >= at + kFrame;) {
    const std::size_t length = big_endian_32(bytes, at);
    if (length > bytes.size() - at - kFrame) break;
    const auto* type = reinterpret_cast<const char*>(&bytes[at + 4]);
    // Zeros, which disks leave of a file that was not written to its end, are millions of chunks.
    if (std::isalpha(bytes[at + 4]) == 0) check_spng(SPNG_ECHUNK_TYPE);
    chunks.push_back(
        {{type, 4}, bytes.subspan(at + 8, length), bytes.subspan(at, length + kFrame)});
    if (is_note(chunks.back())) check_sum(chunks.back());
    if (chunks.back().type == "IEND") return chunks;
    at += kFrame + length;
  }
  check_spng(SPNG_IO_EOF);
  return {};
}

}  // namespace convae::codec
