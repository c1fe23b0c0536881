#include "convae/data/codecs/codecs.h"

#include <libexif/exif-data.h>

#include <algorithm>
#include <cstring>

namespace convae::codec {
namespace {

constexpr char kPrefix[] = {'E', 'x', 'i', 'f', '\0', '\0'};

// The orientation is in the first directory, in practice within the first few hundred bytes; WebP
// and PNG allow blocks of gigabytes, which are not worth a copy.
constexpr std::size_t kMaxExifBytes = 1 << 20;

}  // namespace

int exif_orientation(Bytes exif) {
  if (exif.empty()) return 1;
  exif = exif.first(std::min(exif.size(), kMaxExifBytes));
  std::vector<std::uint8_t> prefixed;
  if (exif.size() < sizeof kPrefix || std::memcmp(exif.data(), kPrefix, sizeof kPrefix) != 0) {
    // libexif looks for a whole JPEG file when the prefix is missing.
    prefixed.assign(std::begin(kPrefix), std::end(kPrefix));
    prefixed.insert(prefixed.end(), exif.begin(), exif.end());
    exif = prefixed;
  }
  const Handle<ExifData, exif_data_unref> data(exif_data_new());
  if (!data) return 1;
  // Otherwise libexif adds tags that are missing, an orientation among them.
  exif_data_unset_option(data.get(), EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
  exif_data_load_data(data.get(), exif.data(), static_cast<unsigned>(exif.size()));
  const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
  if (!entry || entry->components < 1) return 1;
  const ExifByteOrder order = exif_data_get_byte_order(data.get());
  std::uint32_t orientation = 1;
  if (entry->format == EXIF_FORMAT_SHORT && entry->size >= 2) {
    orientation = exif_get_short(entry->data, order);
  } else if (entry->format == EXIF_FORMAT_LONG && entry->size >= 4) {  // some writers do
    orientation = exif_get_long(entry->data, order);
  }
  return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
}

}  // namespace convae::codec
