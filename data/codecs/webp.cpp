#include "convae/data/codecs/codecs.h"
#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/pixel_rows.h"

#include <ATen/ops/empty.h>

#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

namespace convae::codec {
namespace {

// Of 0 to 9. Photographs, one core: level 0 takes 27 MP/s to 0.41 of the raw bytes, level 1 takes
// 9 MP/s to 0.39, level 6 takes 1.3 MP/s to 0.37.
constexpr int kLosslessLevel = 0;

const char* reason(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA: return "truncated WebP: the data ends early";
    case VP8_STATUS_OUT_OF_MEMORY: return "WebP: out of memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "unsupported WebP: a feature that libwebp does not know";
    default: return "damaged WebP: the bit stream is not valid";
  }
}

void check(VP8StatusCode status) {
  if (status != VP8_STATUS_OK) throw ImageError(reason(status));
}

void expect_version(int initialised) {
  if (!initialised) throw ImageError("WebP: libwebp of another version than its headers");
}

/// libwebp accepts a file that is cut after its picture, but the EXIF chunk is there.
void check_length(Bytes bytes) {
  if (bytes.size() < 12) throw ImageError(reason(VP8_STATUS_NOT_ENOUGH_DATA));
  const std::uint64_t length = 8 + number_at(bytes, /*at=*/4, /*count=*/4);
  if (length > bytes.size()) {
    throw ImageError(fmt::format("truncated WebP: {} of {} bytes", bytes.size(), length));
  }
}

/// What the first chunk of that name in a file holds; empty where there is none.
Bytes chunk_of(Bytes file, const char* name) {
  const WebPData data{file.data(), file.size()};
  const Handle<WebPDemuxer, WebPDemuxDelete> demuxer(WebPDemux(&data));
  WebPChunkIterator chunk;
  if (!demuxer || !WebPDemuxGetChunk(demuxer.get(), name, /*chunk_number=*/1, &chunk)) return {};
  const Bytes found(chunk.chunk.bytes, chunk.chunk.size);  // a part of `file`
  WebPDemuxReleaseChunkIterator(&chunk);
  return found;
}

/// Into `to`, rows of pixels of 3 (RGB) or 4 (RGBA) bytes.
void decode_into(Bytes bytes, const ImageInfo& info, int samples, std::uint8_t* to) {
  WebPDecoderConfig config;
  expect_version(WebPInitDecoderConfig(&config));
  config.output.colorspace = samples == 4 ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = to;
  config.output.u.RGBA.stride = static_cast<int>(info.width * samples);
  config.output.u.RGBA.size = static_cast<std::size_t>(info.width) * info.height * samples;
  const auto status = WebPDecode(bytes.data(), bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  check(status);
}

ImageInfo probe_webp(Bytes bytes, std::int64_t max_pixels) {
  check_length(bytes);
  WebPBitstreamFeatures features;
  check(WebPGetFeatures(bytes.data(), bytes.size(), &features));
  check_size(features.height, features.width, max_pixels);
  if (features.has_animation) throw ImageError("animated WebP is not supported");
  ImageInfo info;
  info.format = ImageFormat::webp;
  info.height = features.height;
  info.width = features.width;
  info.alpha = features.has_alpha != 0;
  info.orientation = exif_orientation(chunk_of(bytes, "EXIF"));
  return info;
}

Decoded decode_webp(Bytes bytes, int channels, std::int64_t max_pixels, const ValueRange&) {
  const auto info = probe_webp(bytes, max_pixels);
  const int samples = info.alpha ? 4 : 3;
  auto pixels = empty_pixels(info, channels);
  if (samples == channels) {
    decode_into(bytes, info, samples, pixels.data_ptr<std::uint8_t>());
  } else {
    const auto colours = empty_pixels(info, samples);
    decode_into(bytes, info, samples, colours.data_ptr<std::uint8_t>());
    convert_pixels(colours.const_data_ptr<std::uint8_t>(), info.alpha ? kRgbaPixels : kRgbPixels,
                   info.height * info.width, pixels.data_ptr<std::uint8_t>(), channels);
  }
  return {info, pixels};
}

/// What the file has beside its picture goes over as it is, but for the EXIF orientation.
std::vector<std::uint8_t> with_notes(const WebPData& picture, const Original& original) {
  const Handle<WebPMux, WebPMuxDelete> mux(WebPMuxCreate(&picture, /*copy_data=*/0));
  for (const char* name : {"ICCP", "EXIF", "XMP "}) {
    const Bytes chunk = chunk_of(original.bytes, name);
    const auto data = *name == 'E' ? upright_exif(chunk) : std::vector(chunk.begin(), chunk.end());
    const WebPData note{data.data(), data.size()};
    if (mux && !data.empty()) WebPMuxSetChunk(mux.get(), name, &note, /*copy_data=*/1);
  }
  WebPData whole{nullptr, 0};
  const Handle<WebPData, WebPDataClear> frees(&whole);
  if (!mux || WebPMuxAssemble(mux.get(), &whole) != WEBP_MUX_OK) {
    throw ImageError("cannot encode WebP: its notes do not fit");
  }
  return {whole.bytes, whole.bytes + whole.size};
}

std::vector<std::uint8_t> encode_webp(const torch::Tensor& pixels, const Original* original) {
  check_side(pixels, WEBP_MAX_DIMENSION, "WebP");
  const auto height = pixels.size(0), width = pixels.size(1);
  auto colours = pixels;
  if (pixels.size(2) < 3) {  // WebP has no grey
    const Layout grey{1, /*alpha=*/pixels.size(2) == 2};
    const int channels = grey.alpha ? 4 : 3;
    colours = at::empty({height, width, channels}, at::kByte);
    convert_pixels(pixels.const_data_ptr<std::uint8_t>(), grey, height * width,
                   colours.data_ptr<std::uint8_t>(), channels);
  }
  WebPConfig config;
  WebPPicture picture;
  WebPMemoryWriter output;
  expect_version(WebPConfigInit(&config) && WebPPictureInit(&picture));
  WebPMemoryWriterInit(&output);
  const Handle<WebPPicture, WebPPictureFree> frees_picture(&picture);
  const Handle<WebPMemoryWriter, WebPMemoryWriterClear> frees_output(&output);
  WebPConfigLosslessPreset(&config, kLosslessLevel);
  config.exact = 1;
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = &output;
  picture.use_argb = 1;
  picture.height = static_cast<int>(height);
  picture.width = static_cast<int>(width);
  const auto samples = static_cast<int>(colours.size(2));
  const auto import = samples == 4 ? WebPPictureImportRGBA : WebPPictureImportRGB;
  if (!import(&picture, colours.const_data_ptr<std::uint8_t>(),
              samples * static_cast<int>(width)) ||
      !WebPEncode(&config, &picture)) {
    throw ImageError(
        fmt::format("cannot encode WebP: libwebp error {}", static_cast<int>(picture.error_code)));
  }
  if (original) return with_notes({output.mem, output.size}, *original);
  return {output.mem, output.mem + output.size};
}

}  // namespace

const Codec kWebp = {probe_webp, decode_webp, encode_webp, /*holds_16_bits=*/false};

}  // namespace convae::codec
