#include "convae/data/codecs/tiff_tags.h"

#include "convae/data/codecs/likeness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace convae::codec {
namespace {

/// Tags of a stack that is no longer one, by ImageJ, MetaMorph and Zeiss.
constexpr std::uint32_t kOfStacks[] = {
    TIFFTAG_IMAGEDESCRIPTION, 33628, 33629, 33630, 33631, 34412, 50838, 50839};

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

}  // namespace

void take_tags(TIFF* from, TIFF* to, const Original& original) {
  for (const auto tag :
       {TIFFTAG_XRESOLUTION, TIFFTAG_YRESOLUTION, TIFFTAG_XPOSITION, TIFFTAG_YPOSITION}) {
    float value = 0;
    if (TIFFGetField(from, tag, &value)) TIFFSetField(to, tag, value);
  }
  std::uint16_t unit = 0;
  if (TIFFGetField(from, TIFFTAG_RESOLUTIONUNIT, &unit)) {
    TIFFSetField(to, TIFFTAG_RESOLUTIONUNIT, unit);
  }
  for (int i = 0; i < TIFFGetTagListCount(from); ++i) {
    const std::uint32_t tag = TIFFGetTagListEntry(from, i);
    if (tag == TIFFTAG_IMAGEDEPTH) continue;
    const bool of_stack =
        original.info.pages > 1 && std::ranges::find(kOfStacks, tag) != std::end(kOfStacks);
    const bool fits = tag != TIFFTAG_ICCPROFILE || original.same_colours;
    if (of_stack || !fits || !copy_tag(from, to, tag)) {
      const auto* field = TIFFFieldWithTag(from, tag);
      original.lost.push_back(
          fmt::format("its tag {} ({})", tag, field ? TIFFFieldName(field) : "unknown"));
    }
  }
}

}  // namespace convae::codec
