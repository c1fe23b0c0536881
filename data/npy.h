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

/// Reads a C-ordered little-endian float32 or float64 .npy file (version 1 to 3) as float32. Checks
/// the header against the file's size before it allocates anything. Throws std::runtime_error with
/// the file and what was expected.
torch::Tensor read_npy(const std::filesystem::path& path);

}  // namespace convae
