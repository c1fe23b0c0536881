#pragma once

#include "convae/core/api.h"

#include <stdexcept>
#include <string>
#include <string_view>

namespace CONVAE_API convae {

/// Options that cannot work. what() names the option, its value and what would work. The program
/// exits with 2.
class OptionError : public std::invalid_argument {
public:
  using std::invalid_argument::invalid_argument;
};

/// Throws OptionError with that message unless `holds`.
inline void require_option(bool holds, const std::string& message) {
  if (!holds) throw OptionError(message);
}

/// Checks an option that was set in code: `parse` must accept its text form. Throws OptionError
/// naming the option and the text.
template <typename Parse>
void require_reads_back(const char* option, const std::string& text, const Parse& parse) {
  try {
    parse(text);
  } catch (const OptionError& error) {
    throw OptionError(std::string(option) + " '" + text + "': " + error.what());
  }
}

/// A file that is damaged, hostile or not safetensors at all. what() names the file, what is wrong
/// and, if there is one, the way out.
class SafetensorsError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// A job ended early because Callbacks::should_stop said so. what() says what was done until then.
class Interrupted : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Something failed for a reason that may pass, such as a network file system that does not answer,
/// too many open files or too little memory.
class PassingError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Whether that message of an error of LibTorch, oneDNN or OpenCV means too little memory.
bool tells_of_no_memory(std::string_view what);

/// True for PassingError and whatever says that memory could not be had.
bool may_pass(const std::exception& error);

}  // namespace convae
