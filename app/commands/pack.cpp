#include "convae/data/pack.h"

#include "convae/app/commands/commands.h"
#include "convae/app/output/logging.h"
#include "convae/core/paths.h"
#include "convae/core/text.h"

#include <fmt/format.h>

namespace convae::app {

int run_pack(const CommandLine& line) {
  const Options& options = line.options;
  require_given(options.data.data, "data", "--data photos");
  require_given(options.run.output, "output", "-o shards");
  const std::string data = absolute_path(options.data.data).string();
  const PackOptions job{.images = options.data,
                        .output = options.run.output,
                        .name = options.run.name_for(data),
                        .shard_bytes = options.call.shard_size,
                        .overwrite = options.call.overwrite};
  const PackResult result = pack(job, program_callbacks(options.run));
  fmt::print(
      "{} images in {} shard{}, {} bytes, {} skipped: {}\n", result.images, result.shards.size(),
      result.shards.size() == 1 ? "" : "s", result.bytes, result.skipped.size(),
      printable((job.output / result.shards[0]).string()) + (result.shards.size() > 1 ? " …" : ""));
  return kDone;
}

}  // namespace convae::app
