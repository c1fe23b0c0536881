#include "convae/training/usable_images.h"

#include "convae/metrics/similarity.h"

#include <algorithm>

namespace convae {

Refusal unfit_for_training(const ModelOptions& model, const DataOptions& data, const Loss& loss) {
  return
      [levels = model.levels, data, loss](const ImageEntry& entry) -> std::optional<std::string> {
        if (const auto reason = why_not_cropped(entry, data)) return reason;
        const Size size = size_in_batches(entry, data);
        if (needs_window(loss) && std::min(size.h, size.w) < kSimilarityWindow) {
          return "smaller than the " + std::to_string(kSimilarityWindow) +
                 " pixels a side that the loss " + to_string(loss) + " needs";
        }
        return why_impossible(levels, size);
      };
}

}  // namespace convae
