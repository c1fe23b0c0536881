#include "convae/training/corruption.h"

#include "convae/core/parallel.h"
#include "convae/core/random.h"
#include "convae/data/codecs/codecs.h"
#include "convae/data/mat.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/poisson.h>
#include <ATen/ops/zeros.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace convae {
namespace {

constexpr double kGrey = 0.5;
constexpr std::uint64_t kMostDefects = 3;  // of a picture

void keep_in_range(cv::Mat& image) { cv::min(cv::max(image, 0.0), 1.0, image); }

int below(CounterRandom& random, int bound) {
  return static_cast<int>(random.below(std::max(bound, 1)));
}

void cut_out(cv::Mat& image, double share, CounterRandom& random) {
  if (share == 0) return;
  const int side =
      std::max(1, static_cast<int>(std::lround(share * std::min(image.rows, image.cols))));
  const int top = below(random, image.rows - side + 1), left = below(random, image.cols - side + 1);
  cv::rectangle(image, cv::Rect(left, top, side, side), cv::Scalar::all(kGrey), cv::FILLED);
}

/// Chen et al. 2020, GridMask (https://arxiv.org/abs/2001.04086), unturned.
void mask_grid(cv::Mat& image, double distance, CounterRandom& random) {
  const int period = static_cast<int>(std::lround(distance));
  const cv::Size square(period / 2, period / 2);
  const int top = -below(random, period), left = -below(random, period);
  for (int y = top; y < image.rows; y += period) {
    for (int x = left; x < image.cols; x += period) {
      cv::rectangle(image, {{x, y}, square}, cv::Scalar::all(kGrey), cv::FILLED);
    }
  }
}

/// Moves a patch of the image to another place and changes its brightness.
void displace(cv::Mat& image, int reach, double change, CounterRandom& random) {
  const int height = 1 + below(random, std::min(2 * reach, image.rows));
  const int width = 1 + below(random, std::min(2 * reach, image.cols));
  const auto place = [&] {
    const int left = below(random, image.cols - width + 1);
    return cv::Rect(left, below(random, image.rows - height + 1), width, height);
  };
  cv::Mat patch = image(place()).clone();
  patch += cv::Scalar::all(change / 4);
  patch.copyTo(image(place()));
}

/// A spot or a scratch with soft edges, drawn as a mask of how much it covers.
void stain(cv::Mat& image, int reach, double change, CounterRandom& random) {
  cv::Mat mask(image.rows, image.cols, CV_32F, cv::Scalar(0));
  const int y = below(random, image.rows), x = below(random, image.cols);
  const cv::Point centre(x, y);
  const double angle = random.uniform(0, std::numbers::pi);
  if (random.below(2) == 0) {
    const int height = 1 + below(random, reach), width = 1 + below(random, reach);
    cv::ellipse(mask, centre, {width, height}, angle * 180 / std::numbers::pi, 0, 360,
                cv::Scalar(1), cv::FILLED);
  } else {
    const double length = random.uniform(1, 4) * reach;
    const cv::Point way(static_cast<int>(std::lround(length * std::cos(angle))),
                        static_cast<int>(std::lround(length * std::sin(angle))));
    cv::line(mask, centre - way, centre + way, cv::Scalar(1), 1 + below(random, 1 + reach / 8));
  }
  cv::GaussianBlur(mask, mask, {}, random.uniform(0.5, 1.5), 0, cv::BORDER_CONSTANT);
  cv::scaleAdd(in_channels(mask, image.channels()), change, image, image);
}

void add_shot_noise(cv::Mat& image, double photons, double read_noise, CounterRandom& random) {
  const torch::Tensor pixels =
      at::from_blob(image.data, {image.rows, image.cols, image.channels()}, at::kFloat);
  const torch::Tensor expected = (pixels * photons).clamp_min(0);
  pixels.copy_(at::poisson(expected, at::detail::createCPUGenerator(random.next())) / photons);
  if (read_noise > 0) add_noise(image, read_noise / photons, random);
}

void make_jpeg(cv::Mat image, int quality) {
  constexpr int kMost = 65472;  // a side that JPEG holds, in whole blocks
  if (image.cols > kMost || image.rows > kMost) {
    const bool is_wide = image.cols > kMost;
    const auto part = [&](int from, int to) {
      return is_wide ? image.colRange(from, to) : image.rowRange(from, to);
    };
    make_jpeg(part(0, kMost), quality);
    return make_jpeg(part(kMost, is_wide ? image.cols : image.rows), quality);
  }
  torch::Tensor pixels = at::empty({image.rows, image.cols, image.channels()}, at::kByte);
  cv::Mat view = mat_view(pixels);
  image.convertTo(view, CV_8U, 255);
  pixels = decode_image(codec::encode_jpeg_at(pixels, quality), image.channels(), kAnyArea);
  mat_view(pixels.permute({1, 2, 0}).contiguous()).convertTo(image, CV_32F, 1.0 / 255);
}

void shrink(cv::Mat& image, double factor) {
  const auto smaller = [&](int side) {
    return std::max(1, static_cast<int>(std::lround(side / factor)));
  };
  cv::Mat small;
  cv::resize(image, small, {smaller(image.cols), smaller(image.rows)}, 0, 0, cv::INTER_AREA);
  cv::resize(small, image, image.size(), 0, 0, cv::INTER_CUBIC);
  keep_in_range(image);
}

void blemish(cv::Mat& image, double contrast, CounterRandom& random) {
  if (contrast == 0) return;
  const int reach = std::max(1, std::min(image.rows, image.cols) / 10);
  for (int i = 1 + below(random, 3); i > 0; --i) {
    const double sign = random.below(2) == 0 ? 1 : -1;
    const double change = sign * contrast * random.uniform(0.25, 1);
    if (random.below(3) == 0) {
      displace(image, reach, change, random);
    } else {
      stain(image, reach, change, random);
    }
  }
  keep_in_range(image);
}

/// What this image gets of a range.
double amount_of(const Effect& effect, CounterRandom& random) {
  return effect.most > effect.amount ? random.uniform(effect.amount, effect.most) : effect.amount;
}

int quality_of(const Effect& effect, CounterRandom& random) {
  return static_cast<int>(effect.amount) +
         below(random, 1 + static_cast<int>(effect.most - effect.amount));
}

void apply(cv::Mat& image, cv::Mat* label, const Effect& effect, const CorruptionRule& rule,
           CounterRandom& random) {
  switch (effect.kind) {
    case Effect::Kind::noise: return add_noise(image, amount_of(effect, random), random);
    case Effect::Kind::shot:
      return add_shot_noise(image, amount_of(effect, random), effect.read_noise, random);
    case Effect::Kind::blur:
      if (const double sigma = amount_of(effect, random); sigma > 0) {
        cv::GaussianBlur(image, image, {}, sigma);
      }
      return;
    case Effect::Kind::jpeg: return make_jpeg(image, quality_of(effect, random));
    case Effect::Kind::shrink: return shrink(image, effect.amount);
    case Effect::Kind::cutout: return cut_out(image, effect.amount, random);
    case Effect::Kind::grid: return mask_grid(image, effect.amount, random);
    case Effect::Kind::blemish: return blemish(image, effect.amount, random);
    case Effect::Kind::defects:
      if (random.uniform() >= effect.amount) return;
      for (std::uint64_t left = 1 + random.below(kMostDefects); left > 0; --left) {
        draw_defect(image, any_defect(random), random, rule.good_pictures, label);
      }
      return;
    default: return;  // augmentations: parse_corruptions() gives none
  }
}

/// One image, (H, W, C) floats in a row, and its label, (H, W); null: not asked for.
void corrupt_image(cv::Mat image, cv::Mat* label, const CorruptionRule& rule, std::int64_t index) {
  std::uint64_t nth = 0;
  for (const Effect& effect : rule.corruptions) {
    CounterRandom random(rule.seed, rule.epoch, index, Purpose::corruption, nth++);
    apply(image, label, effect, rule, random);
  }
}

}  // namespace

torch::Tensor corrupt(const torch::Tensor& images, const CorruptionRule& rule,
                      const std::vector<std::int64_t>& indices, torch::Tensor* labels) {
  torch::Tensor marks;
  if (labels != nullptr) {
    marks = at::zeros({images.size(0), 1, images.size(2), images.size(3)}, at::kFloat);
    *labels = marks.to(images.device());
  }
  if (rule.corruptions.empty()) return images;
  const torch::Tensor pixels =
      images.to(at::kCPU).permute({0, 2, 3, 1}).clone(at::MemoryFormat::Contiguous);
  parallel_for_each(pixels.size(0), [&](std::int64_t i) {
    cv::Mat label;
    if (marks.defined()) label = mat_view(marks[i].permute({1, 2, 0}));
    corrupt_image(mat_view(pixels[i]), marks.defined() ? &label : nullptr, rule, indices[i]);
  });
  if (labels != nullptr) *labels = marks.to(images.device());
  return pixels.permute({0, 3, 1, 2}).to(images.device());
}

}  // namespace convae
