#pragma once

#include "convae/data/codecs/codecs.h"

#include <tiffio.h>

namespace convae::codec {

/// Resolution, place, colour profile and all that writers added, from one file to another; what
/// cannot be taken along is noted in original.lost.
void take_tags(TIFF* from, TIFF* to, const Original& original);

}  // namespace convae::codec
