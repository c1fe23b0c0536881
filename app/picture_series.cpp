#include "convae/app/picture_series.h"

#include "convae/app/commands/commands.h"
#include "convae/app/inference.h"
#include "convae/core/files.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/pictures.h"

#include <spdlog/spdlog.h>

namespace convae::app {

int draw(const PictureSeries& series, const Options& options, Model& model) {
  OutputFolder output(options.run.output, options.call.overwrite);
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < series.count; ++i) {
    names.push_back(output.reserve_exact(fmt::format("{}_{:05}.png", series.prefix, i + 1)));
  }
  const std::string sheet = output.reserve_exact(series.sheet);
  torch::NoGradGuard no_grad;
  stop_in_order();
  ImageWriter writer(worker_count(options.data.workers));
  std::vector<torch::Tensor> shown;
  for (std::int64_t i = 0; i < series.count; ++i) {
    if (stop_signal() != 0) {
      writer.finish();
      spdlog::warn("stopped after {} of {} images", i, series.count);
      return 128 + stop_signal();
    }
    const torch::Tensor image =
        to_uint8(decode_images(model.net(), series.latent(i), series.size)[0]);
    writer.write(output.prepare(names[static_cast<std::size_t>(i)]), image, ImageFormat::png);
    if (series.is_on_sheet(i)) shown.push_back(enlarge_small(image));
  }
  writer.write(output.prepare(sheet), series.arrange(shown), ImageFormat::png);
  writer.finish();
  fmt::print("{} images of {} in {}, {}\n", series.count, to_string(series.size),
             printable(output.root().string()), series.about_sheet);
  return kDone;
}

}  // namespace convae::app
