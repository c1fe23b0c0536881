#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace convae {

/// Writes `rows`, each of shape `row_shape` and on any device, as one float32 array of shape
/// (rows.size(), *row_shape) to a .npy file, row by row: the array is never in memory a second
/// time. The file appears complete or not at all (AtomicFile).
/// Format: NumPy Enhancement Proposal 1, version 1.0.
/// Throws std::runtime_error naming the file and, if a row has another shape, the row.
void write_npy(const std::filesystem::path& path, const std::vector<torch::Tensor>& rows,
               const std::vector<std::int64_t>& row_shape);

/// Reads a C-ordered little-endian float32 or float64 .npy file (version 1 to 3) as float32.
/// The header is checked against the file's size before anything is allocated.
/// Throws std::runtime_error naming the file and what was expected.
torch::Tensor read_npy(const std::filesystem::path& path);

}  // namespace convae
