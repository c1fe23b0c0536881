#include "convae/inference/picture_series.h"

#include "convae/core/machine.h"
#include "convae/core/output_folder.h"
#include "convae/data/image_writer.h"
#include "convae/data/pictures.h"

#include <fmt/format.h>

namespace convae {

DrawnPictures draw(const Model& model, const PictureSeries& series, const Callbacks& callbacks) {
  OutputFolder output(series.output, series.overwrite);
  DrawnPictures drawn{{}, series.sheet, 0, series.size};
  for (std::int64_t i = 0; i < series.count; ++i) {
    drawn.images.push_back(output.reserve_exact(fmt::format("{}_{:05}.png", series.prefix, i + 1)));
  }
  output.reserve_exact(series.sheet);
  callbacks.begin_writing();
  ImageWriter writer(worker_count(series.workers));
  std::vector<torch::Tensor> shown;
  for (std::int64_t i = 0; i < series.count; ++i) {
    callbacks.stop_if_asked(i, series.count);
    const torch::Tensor image = to_uint8(model.decode(series.latent(i), series.size)[0]);
    writer.write(output.prepare(drawn.images[static_cast<std::size_t>(i)]), image,
                 ImageFormat::png);
    if (series.is_on_sheet(i)) shown.push_back(enlarge_small(image));
    callbacks.show(series.prefix, i + 1, series.count);
  }
  writer.write(output.prepare(drawn.sheet), series.arrange(shown), ImageFormat::png);
  writer.finish();
  drawn.on_sheet = std::ssize(shown);
  return drawn;
}

}  // namespace convae
