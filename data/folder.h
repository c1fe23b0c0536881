#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace convae {

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

/// The image files below a folder.
struct ImageFolder {
  std::filesystem::path root;
  std::vector<ImageFile> files;      ///< sorted by name, byte by byte
  std::vector<SkippedFile> skipped;  ///< sorted likewise
};

/// Lists the files below `root` whose names end like an image's (.jpg .jpeg .jpe .jfif .png .bmp
/// .tif .tiff .webp .gif, any case); what they really hold is seen when they are read. Links to
/// files are followed, links to folders are not, so a loop of links ends. Hidden files and folders
/// are passed over. Pipes, devices and dangling links with such a name, and folders that cannot be
/// read, are in `skipped`.
/// A `root` that is itself a regular file is a folder of that one file.
/// Throws std::runtime_error if `root` does not exist or cannot be read.
ImageFolder list_images(const std::filesystem::path& root);

/// `root` if it is a plain folder of images; `root`/train/good if it has the layout of the MVTec
/// anomaly detection data (train/good and test beside each other).
std::filesystem::path training_folder(const std::filesystem::path& root);

}  // namespace convae
