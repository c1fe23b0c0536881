#include "convae/training/linear_start.h"

#include "convae/data/loader.h"
#include "convae/metrics/pca.h"
#include "convae/models/pixels.h"
#include "convae/training/collective.h"

#include <ATen/ceil_div.h>

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <stdexcept>

namespace convae {
namespace {

constexpr std::int64_t kBatch = 64;
/// More images or blocks hardly change the components, but every pass over them takes its time.
constexpr std::int64_t kMostRows = 100'000, kEnoughImages = 2'000;
/// Where images are cropped, other crops of the same ones give more blocks.
constexpr std::int64_t kEnoughRows = 20'000, kMostPasses = 32;
/// Coordinates that latents are larger than: what the convolutions add to them is worth that much
/// less, so that first steps of usual learning rates do not undo the components.
constexpr double kLatentScale = 10;

/// Every k-th image, in batches, and how many blocks they have.
struct SomeImages {
  std::vector<Step> plan;
  std::int64_t count = 0, blocks = 0;

  SomeImages(const ImageDataset& images, std::int64_t every, Size block)
      : plan(plan_in_order(images, kBatch, kPcaPixels)) {
    for (Step& step : plan) {
      for (MicroBatch& batch : step) {
        std::erase_if(batch.indices, [&](std::int64_t index) { return index % every != 0; });
        count += std::ssize(batch.indices);
        for (const std::int64_t index : batch.indices) {
          const auto [h, w] = images.image_size(index);
          blocks += at::ceil_div(h, block.h) * at::ceil_div(w, block.w);
        }
      }
      std::erase_if(step, [](const MicroBatch& batch) { return batch.indices.empty(); });
    }
    std::erase_if(plan, [](const Step& step) { return step.empty(); });
  }
};

/// The blocks of the images; of very many, some of some images, evenly spread.
RowSource rows_of(ImageDataset& images, Size block, std::uint64_t seed, std::int64_t workers,
                  const Callbacks& callbacks) {
  const std::int64_t count = images.size();
  SomeImages some(images, /*every=*/1, block);
  const std::int64_t wanted = std::max(kEnoughImages, kMostRows / (some.blocks / count));
  if (count > wanted) some = SomeImages(images, at::ceil_div(count, wanted), block);
  const bool crops = static_cast<bool>(images.options().crop);
  const std::int64_t passes =
      crops ? std::clamp<std::int64_t>(kEnoughRows / some.blocks, 1, kMostPasses) : 1;
  const std::int64_t every = at::ceil_div(passes * some.blocks, kMostRows);
  RowSource source{
      at::ceil_div(passes * some.blocks, every), block.area() * images.options().channels, {}};
  source.for_each_block = [&, workers, plan = some.plan, crops, passes, every, seed, block,
                           total = passes * some.count,
                           numbers = source.numbers](const auto& take) {
    std::int64_t done = 0, next = 0;  // the latter counts from a batch's first row
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      Loader loader(images, plan, View{.random = crops, .seed = seed, .epoch = pass}, workers);
      while (const auto step = loader.next()) {
        callbacks.stop_if_asked(done, total);
        for (const MicroBatch& batch : *step) {
          const torch::Tensor all =
              rows_of_blocks(to_float(batch.images, torch::kCPU), block).reshape({-1, numbers});
          const torch::Tensor some_rows = all.slice(0, next, {}, every);
          next += every * some_rows.size(0) - all.size(0);
          if (some_rows.size(0) > 0) take(some_rows.contiguous());
        }
        done += image_count(*step);
        callbacks.show("principal components", done, total);
      }
    }
  };
  return source;
}

std::string why_none(const ModelOptions& model, std::int64_t rows, std::int64_t numbers,
                     std::int64_t count, std::int64_t most_bytes) {
  if (count < 1) return "one image has no principal components";
  if (model.latent > 0 || count < numbers) return why_no_pca(rows, numbers, count, most_bytes);
  return fmt::format("{} latent channels would give every block of {} back as it is", count,
                     to_string(model.linear_block()));
}

}  // namespace

void begin_with_components(Autoencoder net, ImageDataset& training, std::uint64_t seed,
                           std::int64_t workers, const Callbacks& callbacks) {
  const ModelOptions& model = net->options();
  const Size block = model.linear_block();
  const std::int64_t most_bytes = least_of_ranks(pca_bytes());
  const RowSource source = rows_of(training, block, seed, workers, callbacks);
  const RowStatistics statistics = row_statistics(source);
  const std::int64_t count = std::min(model.bottleneck_numbers(), statistics.count - 1);
  const auto method = choose_pca_method(statistics.count, source.numbers, count, most_bytes);
  if (count < 1 || !method) {
    const std::string reason = why_none(model, statistics.count, source.numbers, count, most_bytes);
    throw std::runtime_error("--linear pca: " + reason + "; use --linear none");
  }
  const Pca pca = fit_pca(source, statistics, count, *method);
  const auto as_images = [&](const torch::Tensor& rows) {
    return rows.reshape({-1, model.channels, block.h, block.w});
  };
  const torch::Tensor mean_block = as_images(pca.mean)[0];
  const torch::Tensor mean =
      (model.latent > 0 ? mean_block : mean_block.mean({1, 2}, /*keepdim=*/true)).contiguous();
  const torch::Tensor components = as_images(pca.components.t()).contiguous();
  for (const torch::Tensor& part : {mean, components}) {
    // Other processors round otherwise, and then ranks would train different networks.
    ranks().broadcast(std::as_writable_bytes(std::span(part.mutable_data_ptr<float>(),
                                                       static_cast<std::size_t>(part.numel()))),
                      0);
  }
  net->encoder->linear()->set(mean, components * kLatentScale);
  net->decoder->linear()->set(mean, components / kLatentScale);
  callbacks.say(fmt::format("linear path: {} principal components of {} {}", components.size(0),
                            statistics.count,
                            model.latent > 0 ? "images" : "blocks of " + to_string(block)));
}

}  // namespace convae
