#pragma once

#include "convae/core/files.h"
#include "convae/core/tensor.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace convae {

/// A .npy file (NumPy Enhancement Proposal 1, version 1.0) of one float32 array whose rows come one
/// by one, in any order; it appears complete or not at all. Throws std::runtime_error with the file
/// and, if a row has another shape, the row.
class NpyFile {
public:
  /// An array of shape (rows, *row_shape).
  NpyFile(const std::filesystem::path& path, std::int64_t rows,
          std::vector<std::int64_t> row_shape);

  /// Row number `row`, from any device.
  void write(std::int64_t row, const torch::Tensor& values);

  /// Of row number `row`, of shape (c, h, w), the lines from `first` on: (c, n, w). The row counts
  /// as written with its last line.
  void write_lines(std::int64_t row, std::int64_t first, const torch::Tensor& values);

  /// Rows that were not written are left out: the others move up.
  void commit();

private:
  void expect_shape(std::int64_t row, at::IntArrayRef shape, at::IntArrayRef expected) const;
  std::uint64_t place_of(std::int64_t row) const { return header_bytes_ + row * row_bytes_; }

  std::string file_;
  std::vector<std::int64_t> row_shape_;
  std::vector<bool> written_;
  AtomicFile output_;
  std::uint64_t header_bytes_ = 0, row_bytes_ = 0;
};

/// Writes `rows`, each of shape `row_shape` and on any device, as one float32 array of shape
/// (rows.size(), *row_shape); see NpyFile.
void write_npy(const std::filesystem::path& path, const std::vector<torch::Tensor>& rows,
               const std::vector<std::int64_t>& row_shape);

/// Reads a little-endian float16, float32 or float64 .npy file (version 1 to 3), in C or Fortran
/// order, as float32 in C order. Checks the header against the file's size before it allocates
/// anything. Throws std::runtime_error with the file and what was expected.
torch::Tensor read_npy(const std::filesystem::path& path);

}  // namespace convae
