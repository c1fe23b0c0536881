#pragma once

#include "convae/core/tensor.h"

#include <cstdint>
#include <filesystem>
#include <vector>

namespace convae {

/// Writes `rows`, each of shape `row_shape` and on any device, as one float32 array of shape
/// (rows.size(), *row_shape) to a .npy file (NumPy Enhancement Proposal 1, version 1.0), atomically
/// and row by row, without a second copy in memory. Throws std::runtime_error with the file and, if
/// a row has another shape, the row.
void write_npy(const std::filesystem::path& path, const std::vector<torch::Tensor>& rows,
               const std::vector<std::int64_t>& row_shape);

/// Reads a little-endian float16, float32 or float64 .npy file (version 1 to 3), in C or Fortran
/// order, as float32 in C order. Checks
/// the header against the file's size before it allocates anything. Throws std::runtime_error with
/// the file and what was expected.
torch::Tensor read_npy(const std::filesystem::path& path);

}  // namespace convae
