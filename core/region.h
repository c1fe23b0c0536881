#pragma once

#include "convae/core/size.h"

#include <cstdint>

namespace convae {

/// Positions begin … end-1 along one axis.
struct Span {
  std::int64_t begin = 0, end = 0;

  std::int64_t length() const { return end - begin; }
  bool contains(Span other) const { return begin <= other.begin && other.end <= end; }
  friend bool operator==(const Span&, const Span&) = default;
};

/// A part of a picture or of a map of it.
struct Region {
  Span rows, columns;

  Size size() const { return {rows.length(), columns.length()}; }
  /// The same place, seen from a part of the picture.
  Region within(const Region& window) const {
    return {{rows.begin - window.rows.begin, rows.end - window.rows.begin},
            {columns.begin - window.columns.begin, columns.end - window.columns.begin}};
  }
  friend bool operator==(const Region&, const Region&) = default;
};

/// All of a picture.
inline Region whole(Size picture) { return {{0, picture.h}, {0, picture.w}}; }

}  // namespace convae
