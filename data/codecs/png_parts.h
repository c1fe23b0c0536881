#pragma once

// What reading and writing PNG share.

#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/pixel_rows.h"

#include <spng.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace convae::codec {

using Spng = Handle<spng_ctx, spng_ctx_free>;
Spng new_spng(int flags);

/// Throws ImageError unless a call of spng's decoder went well.
void check_spng(int code);

struct PngChunk {
  std::string_view type;
  Bytes data;
  Bytes whole;  ///< with its length, type and checksum
};

/// Notes beside the picture, which spng reads and may refuse: damage there harms no pixel.
bool is_note(const PngChunk& chunk);

/// All chunks, to the last. Throws where the file does not have all of that, on which spng does not
/// insist, or where the checksum of one that spng will not see is wrong.
std::vector<PngChunk> chunks_of(Bytes bytes);

/// What the first chunk of that type holds; empty where there is none.
Bytes data_of(const std::vector<PngChunk>& chunks, std::string_view type);

std::uint32_t big_endian_32(Bytes bytes, std::size_t at);

/// How a PNG stores its pixels, for one made after it.
struct StoredPng {
  int bit_depth = 0;
  bool has_key = false;  ///< a colour that is transparent
  Palette palette;
  spng_trns transparency{};
};
StoredPng stored_png(Bytes png);

/// See Codec::encode.
std::vector<std::uint8_t> encode_png(const torch::Tensor& pixels, const Original* original);

}  // namespace convae::codec
