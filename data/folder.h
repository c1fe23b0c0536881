#pragma once

#include "convae/core/api.h"

#include <filesystem>
#include <string>
#include <vector>

namespace CONVAE_API convae {

/// An image file of a folder.
struct ImageFile {
  std::string name;            ///< path relative to the folder, '/' between its parts
  std::filesystem::path path;  ///< where to read it
};

/// A file that was left out, and why.
struct SkippedFile {
  std::string name;
  std::string reason;
};

/// "skipped 'a.png': truncated PNG", as all jobs say it.
std::string skipped_line(const SkippedFile& file);

/// The image files below a folder.
struct ImageFolder {
  std::filesystem::path root;
  std::vector<ImageFile> files;      ///< sorted by name, byte by byte
  std::vector<SkippedFile> skipped;  ///< sorted likewise
};

/// Lists the files below `root` with an image's extension (.jpg .jpeg .jpe .jfif .png .bmp .tif
/// .tiff .webp .gif, any case), without opening them. Follows links to files but not to folders, so
/// loops of links end. Ignores hidden files and folders. Pipes, devices and dangling links with
/// such a name, and unreadable folders, are in `skipped`. A `root` that is a regular file counts as
/// a folder of that file. Throws std::runtime_error if `root` does not exist or cannot be read.
ImageFolder list_images(const std::filesystem::path& root);

/// `root`/train/good if `root` has the layout of the MVTec anomaly detection data (with train/good
/// and test), else `root`.
std::filesystem::path training_folder(const std::filesystem::path& root);

}  // namespace convae
