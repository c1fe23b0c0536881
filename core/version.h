#pragma once

namespace convae {

/// This version of convae. CMakeLists.txt reads it from here.
inline constexpr const char* kVersion = "0.2.0";

}  // namespace convae
