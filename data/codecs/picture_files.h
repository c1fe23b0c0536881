#pragma once

#include "convae/data/codecs/codecs.h"
#include "convae/data/picture_file.h"

namespace convae::codec {

std::unique_ptr<PictureFile> new_png_file(const std::filesystem::path& path,
                                          const PictureShape& shape,
                                          std::vector<std::string>* lost);
std::unique_ptr<PictureFile> new_tiff_file(const std::filesystem::path& path,
                                           const PictureShape& shape,
                                           std::vector<std::string>* lost);

/// What a TIFF has that a new one in tiles cannot take over, beside tags and alpha.
void note_losses_in_tiles(Bytes tiff, std::vector<std::string>& lost);

}  // namespace convae::codec
