// A header of the consumer's own, with a name that convae has too: neither must hide the other.
#pragma once

inline constexpr int kOptionsOfTheConsumer = 1;
