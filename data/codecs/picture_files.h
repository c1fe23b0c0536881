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

}  // namespace convae::codec
