#pragma once

#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

namespace convae::codec {

/// Resolution, place, colour profile and all that writers added, from one file to another; what
/// cannot be taken along is noted in original.lost.
void take_tags(TIFF* from, TIFF* to, const Original& original);
/// The same from the picture of the file `like` to one in tiles with so many channels; `lost` also
/// gets what else those cannot take over, but alpha.
void take_tags_in_tiles(Bytes like, TIFF* to, std::int64_t channels,
                        std::vector<std::string>& lost);

}  // namespace convae::codec
