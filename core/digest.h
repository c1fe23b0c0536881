#pragma once

#include <fmt/format.h>
#include <xxhash.h>

#include <functional>
#include <memory>
#include <new>
#include <string>
#include <string_view>

namespace convae {

/// XXH3-64 in 16 lower-case hex digits.
inline std::string digest_of(std::string_view text) {
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

/// The digest of a text in pieces: `say` gets a function and calls it with each.
inline std::string digest_of_all(
    const std::function<void(const std::function<void(std::string_view)>&)>& say) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (!state || XXH3_64bits_reset(state.get()) != XXH_OK) throw std::bad_alloc();
  say([&](std::string_view text) {
    if (!text.empty()) XXH3_64bits_update(state.get(), text.data(), text.size());
  });
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

}  // namespace convae
