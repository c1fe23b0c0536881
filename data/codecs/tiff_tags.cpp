#include "convae/data/codecs/likeness.h"
#include "convae/data/codecs/tiff_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>

namespace convae::codec {
namespace {

/// Tags of a stack that is no longer one, by ImageJ, MetaMorph and Zeiss.
constexpr std::uint32_t kOfStacks[] = {
    TIFFTAG_IMAGEDESCRIPTION, 33628, 33629, 33630, 33631, 34412, 50838, 50839};

/// A place on the earth (GeoTIFF), of the picture before it was turned.
constexpr std::uint32_t kOfPlace[] = {33550, 33922, 34264, 50844};

/// What no list of libtiff has, and what is true of the original's numbers and pages only.
constexpr std::uint32_t kOfOriginal[] = {TIFFTAG_MINSAMPLEVALUE, TIFFTAG_MAXSAMPLEVALUE,
                                         TIFFTAG_PAGENUMBER,     TIFFTAG_TRANSFERFUNCTION,
                                         TIFFTAG_HALFTONEHINTS,  TIFFTAG_SMINSAMPLEVALUE,
                                         TIFFTAG_SMAXSAMPLEVALUE};

bool is_among(std::span<const std::uint32_t> tags, std::uint32_t tag) {
  return std::ranges::find(tags, tag) != tags.end();
}

bool has_tag(TIFF* tiff, std::uint32_t tag) {
  void* values[3] = {};  // as many as a transfer function has
  return TIFFGetField(tiff, tag, &values[0], &values[1], &values[2]) != 0;
}

/// Tells libtiff of a tag that it does not know, as it does itself on reading.
void declare_tag(TIFF* tiff, const TIFFField* field) {
  if (TIFFFindField(tiff, TIFFFieldTag(field), TIFF_ANY)) return;
  const TIFFFieldInfo info{TIFFFieldTag(field),    TIFF_VARIABLE2,
                           TIFF_VARIABLE2,         TIFFFieldDataType(field),
                           FIELD_CUSTOM,
                           /*field_oktochange=*/1,
                           /*field_passcount=*/1,  const_cast<char*>("Tag")};
  TIFFMergeFieldInfo(tiff, &info, 1);
}

bool copy_tag(TIFF* from, TIFF* to, std::uint32_t tag) {
  const TIFFField* field = TIFFFieldWithTag(from, tag);
  if (!field) return false;
  const TIFFDataType type = TIFFFieldDataType(field);
  if (type == TIFF_IFD || type == TIFF_IFD8) return false;  // leads to a place in the file
  declare_tag(to, field);
  if (TIFFFieldPassCount(field)) {
    void* values = nullptr;
    std::uint32_t count = 0;
    std::uint16_t short_count = 0;
    if (TIFFFieldReadCount(field) == TIFF_VARIABLE2) {
      return TIFFGetField(from, tag, &count, &values) && TIFFSetField(to, tag, count, values);
    }
    return TIFFGetField(from, tag, &short_count, &values) &&
           TIFFSetField(to, tag, short_count, values);
  }
  char* text = nullptr;
  return type == TIFF_ASCII && TIFFGetField(from, tag, &text) && TIFFSetField(to, tag, text);
}

void take_resolution(TIFF* from, TIFF* to, bool is_sideways) {
  constexpr int kTags[] = {TIFFTAG_XRESOLUTION, TIFFTAG_YRESOLUTION};
  for (int axis = 0; axis < 2; ++axis) {
    float value = 0;
    if (!TIFFGetField(from, kTags[axis], &value)) continue;
    TIFFSetField(to, kTags[is_sideways ? 1 - axis : axis], value);
  }
  std::uint16_t unit = 0;
  if (TIFFGetField(from, TIFFTAG_RESOLUTIONUNIT, &unit)) {
    TIFFSetField(to, TIFFTAG_RESOLUTIONUNIT, unit);
  }
}

}  // namespace

void take_tags(TIFF* from, TIFF* to, const Original& original) {
  const bool is_turned = original.info.orientation != 1;
  const auto note_lost = [&](std::uint32_t tag) {
    const auto* field = TIFFFieldWithTag(from, tag);
    original.lost.push_back(
        fmt::format("its tag {} ({})", tag, field ? TIFFFieldName(field) : "unknown"));
  };
  take_resolution(from, to, turns_sideways(original.info.orientation));
  for (const auto tag : {TIFFTAG_XPOSITION, TIFFTAG_YPOSITION}) {
    float value = 0;
    if (!TIFFGetField(from, tag, &value)) continue;
    if (is_turned) {
      note_lost(tag);
    } else {
      TIFFSetField(to, tag, value);
    }
  }
  // Without it, readers take the one that XMP notes.
  if (has_tag(from, TIFFTAG_ORIENTATION)) {
    TIFFSetField(to, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  }
  for (const auto tag : kOfOriginal) {
    if (has_tag(from, tag)) note_lost(tag);
  }
  std::uint16_t photometric = 0;
  TIFFGetField(from, TIFFTAG_PHOTOMETRIC, &photometric);
  const bool keeps_profile = original.same_colours && photometric != PHOTOMETRIC_SEPARATED;
  for (int i = 0; i < TIFFGetTagListCount(from); ++i) {
    const std::uint32_t tag = TIFFGetTagListEntry(from, i);
    if (tag == TIFFTAG_IMAGEDEPTH) continue;
    const bool of_stack = original.info.pages > 1 && is_among(kOfStacks, tag);
    const bool of_place = is_turned && is_among(kOfPlace, tag);
    const bool fits = tag != TIFFTAG_ICCPROFILE || keeps_profile;
    if (of_stack || of_place || !fits || !copy_tag(from, to, tag)) note_lost(tag);
  }
}

}  // namespace convae::codec
