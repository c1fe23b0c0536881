#include "convae/training/linear_start.h"

#include "convae/data/loader.h"
#include "convae/metrics/pca.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <stdexcept>

namespace convae {
namespace {

constexpr std::int64_t kBatch = 64;
/// More images hardly change the components, but every pass over them takes its time.
constexpr std::int64_t kMostImages = 50'000;
/// Coordinates that latents are larger than: what the convolutions add to them is worth that much
/// less, so that first steps of usual learning rates do not undo the components.
constexpr double kLatentScale = 10;

/// The images in batches, of very many every k-th batch.
RowSource rows_of(ImageDataset& images, std::int64_t workers, const Callbacks& callbacks) {
  const Size size = images.image_size(0);
  const std::vector<Step> all = plan_in_order(images, kBatch, kMaxBatchPixels);
  const std::size_t stride = (images.size() + kMostImages - 1) / kMostImages;
  RowSource source{0, images.options().channels * size.h * size.w, {}};
  std::vector<Step> plan;
  for (std::size_t i = 0; i < all.size(); i += stride) {
    source.count += image_count(all[i]);
    plan.push_back(all[i]);
  }
  source.for_each_block = [&, workers, plan, count = source.count](const auto& take) {
    Loader loader(images, plan, View{}, workers);
    std::int64_t done = 0;
    while (const auto step = loader.next()) {
      callbacks.stop_if_asked(done, count);
      done += image_count(*step);
      callbacks.show("principal components", done, count);
      for (const MicroBatch& batch : *step) {
        take(rows_of_images(to_float(batch.images, torch::kCPU)));
      }
    }
  };
  return source;
}

}  // namespace

void begin_with_components(Autoencoder net, ImageDataset& training, std::int64_t workers,
                           const Callbacks& callbacks) {
  const ModelOptions& model = net->options();
  const RowSource source = rows_of(training, workers, callbacks);
  const RowStatistics statistics = row_statistics(source);
  const std::int64_t count = std::min(model.latent, statistics.count - 1);
  const auto method = choose_pca_method(statistics.count, source.numbers, count);
  if (count < 1 || !method) {
    const std::string reason = count < 1 ? "one image has no principal components"
                                         : why_no_pca(statistics.count, source.numbers, count);
    throw std::runtime_error("--linear pca: " + reason + "; use --linear none");
  }
  const Pca pca = fit_pca(source, statistics, count, *method);
  const auto [h, w] = model.size;
  const auto as_images = [&](const torch::Tensor& rows) {
    return rows.reshape({-1, h, w, model.channels}).permute({0, 3, 1, 2});
  };
  const torch::Tensor mean = as_images(pca.mean)[0].contiguous();
  const torch::Tensor components = as_images(pca.components.t()).contiguous();
  for (const torch::Tensor& part : {mean, components}) {
    // Other processors round otherwise, and then ranks would train different networks.
    ranks().broadcast(std::as_writable_bytes(std::span(part.mutable_data_ptr<float>(),
                                                       static_cast<std::size_t>(part.numel()))),
                      0);
  }
  net->encoder->linear()->set(mean, components * kLatentScale);
  net->decoder->linear()->set(mean, components / kLatentScale);
  callbacks.say(fmt::format("linear path: {} principal components of {} images", components.size(0),
                            statistics.count));
}

}  // namespace convae
