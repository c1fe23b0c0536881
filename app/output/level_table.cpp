#include "convae/app/output/level_table.h"

#include "convae/app/options/options.h"
#include "convae/core/files.h"

namespace convae::app {

Size set_input(ModelOptions& model, const std::string& text) {
  const std::size_t cut = text.find('x');
  if (cut != std::string::npos) {
    const auto channels = parse_size(text.substr(0, cut));
    const auto size = parse_size(text.substr(cut + 1));
    const bool two_numbers = text.find('x', cut + 1) != std::string::npos;
    if (channels && size && two_numbers && channels->h >= 1 && channels->h <= (1 << 20)) {
      model.channels = channels->h;
      if (model.latent > 0) model.size = *size;
      return *size;
    }
  }
  throw UsageError("--input '" + printable(text) +
                   "': expected CxHxW, channels, height and width, such as 3x24x25");
}

}  // namespace convae::app
