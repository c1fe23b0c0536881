#pragma once

inline constexpr int kGeometryOfTheConsumer = 2;
