// The consumer's own data/ and models/ beside convae's.
#include "data/options.h"
#include "models/geometry.h"

#include <convae/models/geometry.h>

int main() {
  const auto plan = convae::plan_sizes(convae::parse_levels("8,16"), {24, 25}, 3);
  const bool right = plan.latent() == convae::Size{6, 7};
  return right && kOptionsOfTheConsumer + kGeometryOfTheConsumer == 3 ? 0 : 1;
}
