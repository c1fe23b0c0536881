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
/// More images or blocks hardly change the components, but every pass over them takes its time.
constexpr std::int64_t kMostRows = 100'000;
/// Where images are cropped, other crops of the same ones give more blocks.
constexpr std::int64_t kEnoughRows = 20'000, kMostPasses = 32;
/// Coordinates that latents are larger than: what the convolutions add to them is worth that much
/// less, so that first steps of usual learning rates do not undo the components.
constexpr double kLatentScale = 10;

/// (N, C, H, W) → a row of block.h · block.w · C numbers for each block.
torch::Tensor rows_of_blocks(const torch::Tensor& images, Size block) {
  return in_whole_blocks(images, block)
      .unflatten(3, {-1, block.w})
      .unflatten(2, {-1, block.h})
      .permute({0, 2, 4, 3, 5, 1})
      .reshape({-1, block.area() * images.size(1)});
}

std::int64_t count_blocks(const ImageDataset& images, const std::vector<Step>& plan, Size block) {
  std::int64_t count = 0;
  for (const Step& step : plan) {
    for (const MicroBatch& batch : step) {
      for (const std::int64_t index : batch.indices) {
        const auto [h, w] = images.image_size(index);
        count += (h + block.h - 1) / block.h * ((w + block.w - 1) / block.w);
      }
    }
  }
  return count;
}

/// The blocks of the images, of very many those of every k-th batch.
RowSource rows_of(ImageDataset& images, Size block, std::uint64_t seed, std::int64_t workers,
                  const Callbacks& callbacks) {
  const std::vector<Step> all = plan_in_order(images, kBatch, kMaxBatchPixels);
  const std::int64_t blocks = count_blocks(images, all, block);
  const std::int64_t stride = (blocks + kMostRows - 1) / kMostRows;
  std::vector<Step> plan;
  for (std::int64_t i = 0; i < std::ssize(all); i += stride) plan.push_back(all[i]);
  const bool crops = static_cast<bool>(images.options().crop);
  const std::int64_t passes =
      crops ? std::clamp<std::int64_t>(kEnoughRows / blocks, 1, kMostPasses) : 1;
  RowSource source{
      passes * count_blocks(images, plan, block), block.area() * images.options().channels, {}};
  source.for_each_block = [&, workers, plan, block, crops, passes, seed,
                           count = source.count](const auto& take) {
    std::int64_t done = 0;
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      Loader loader(images, plan, View{.random = crops, .seed = seed, .epoch = pass}, workers);
      while (const auto step = loader.next()) {
        callbacks.stop_if_asked(done, count);
        for (const MicroBatch& batch : *step) {
          const torch::Tensor rows = rows_of_blocks(to_float(batch.images, torch::kCPU), block);
          done += rows.size(0);
          take(rows);
        }
        callbacks.show("principal components", done, count);
      }
    }
  };
  return source;
}

}  // namespace

void begin_with_components(Autoencoder net, ImageDataset& training, std::uint64_t seed,
                           std::int64_t workers, const Callbacks& callbacks) {
  const ModelOptions& model = net->options();
  const Size block = model.linear_block();
  const RowSource source = rows_of(training, block, seed, workers, callbacks);
  const RowStatistics statistics = row_statistics(source);
  const std::int64_t count = std::min(model.bottleneck_numbers(), statistics.count - 1);
  const auto method = choose_pca_method(statistics.count, source.numbers, count);
  if (count < 1 || !method) {
    const std::string reason = count < 1 ? "one image has no principal components"
                                         : why_no_pca(statistics.count, source.numbers, count);
    throw std::runtime_error("--linear pca: " + reason + "; use --linear none");
  }
  const Pca pca = fit_pca(source, statistics, count, *method);
  const auto as_images = [&](const torch::Tensor& rows) {
    return rows.reshape({-1, block.h, block.w, model.channels}).permute({0, 3, 1, 2});
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
