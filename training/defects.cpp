#include "convae/training/defects.h"

#include "convae/core/parallel.h"
#include "convae/data/loader.h"
#include "convae/data/mat.h"
#include "convae/data/pictures.h"
#include "convae/models/kernels/flat_maps.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/zeros.h>

#include <opencv2/imgproc.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace convae {
namespace {

using Mat = cv::Mat;

constexpr std::size_t kMostGoodPictures = 64;
constexpr std::int64_t kGoodPictureSide = 512;

// A change of this share of a picture's brightness and of so many deviations of its surface has a
// label of 1 - 1/e.
constexpr double kSeenChange = 0.08, kSeenDeviations = 0.3;
constexpr double kSeenAround = 2, kLabelBlur = 0.8;  // σ in pixels
// On a rough surface, defects differ from it by so many of its deviations more. Most have to be
// plain: of faint ones among pebbles nothing is to be seen, and nothing learnt.
struct Deviations {
  double least, most;
};
constexpr Deviations kFaint{0, 1}, kPlain{0.5, 2};
constexpr double kSurroundings = 8;  // pixels

// Changes in nearly black pictures are measured as if they were this bright.
constexpr double kLeastBrightness = 0.15;

// Lengths below are in pixels of pictures with at least this shorter side; in smaller ones they
// shrink with it.
constexpr double kFullSide = 96;

// A mask below this changes nothing that 8 bits could show.
constexpr double kLeastCover = 1. / 255;

/// Draws that come in a fixed order, whatever the compiler makes of arguments.
class Dice {
public:
  explicit Dice(CounterRandom& random) : random_(random) {}
  double between(double low, double high) { return random_.uniform(low, high); }
  double log_between(double low, double high) {
    return low * std::pow(std::max(high, low) / low, random_.uniform());
  }
  bool chance(double share) { return random_.uniform() < share; }
  double sign(double negative = 0.5) { return chance(negative) ? -1 : 1; }
  int below(int bound) {
    return static_cast<int>(random_.below(static_cast<std::uint64_t>(std::max(bound, 1))));
  }
  /// Standard normal, in an (h, w) map.
  Mat gaussian(cv::Size size) {
    Mat map(size, CV_32F, cv::Scalar(0));
    add_noise(map, /*deviation=*/1, random_);
    return map;
  }

private:
  CounterRandom& random_;
};

/// A Gaussian blur; a wide one as three boxes, whose time does not grow with it.
Mat smoothed(const Mat& image, double sigma) {
  Mat result;
  if (sigma < 2) {
    cv::GaussianBlur(image, result, {}, sigma, 0, cv::BORDER_REFLECT_101);
    return result;
  }
  const int side =
      2 * static_cast<int>(std::lround((std::sqrt(4 * sigma * sigma + 1) - 1) / 2)) + 1;
  cv::blur(image, result, {side, side});
  cv::blur(result, result, {side, side});
  cv::blur(result, result, {side, side});
  return result;
}

/// Distances inside (above 0) → how much is covered, 0.5 at the edge.
Mat soft_edge(Mat inside, double softness) {
  cv::exp(inside * (-1 / softness), inside);
  inside = 1 / (1 + inside);
  cv::threshold(inside, inside, kLeastCover, 0, cv::THRESH_TOZERO);
  return inside;
}

/// Coordinates turned about a point.
struct Turned {
  float x, y, cos, sin;
  float along(float px, float py) const { return (px - x) * cos + (py - y) * sin; }
  float across(float px, float py) const { return (py - y) * cos - (px - x) * sin; }
};

/// One defect in the making: what is seen where the mask covers, and the mask.
class Defect {
public:
  Defect(const Mat& image, CounterRandom& random, const GoodPictures& others)
      : image_(image),
        others_(others),
        dice_(random),
        side_(std::min(image.rows, image.cols)),
        mean_(average(cv::mean(image))),
        brightness_(std::max(mean_, kLeastBrightness)) {}

  void make(DefectKind kind) {
    switch (kind) {
      case DefectKind::patch: return make_patch();
      case DefectKind::perlin: return make_perlin();
      case DefectKind::line: return make_line();
      case DefectKind::spot: return make_spot();
      case DefectKind::smear: return make_smear();
      case DefectKind::uneven: return make_uneven();
      case DefectKind::texture: return make_texture();
      case DefectKind::corner: return make_corner();
    }
  }

  /// The picture with the defect, and the largest change of a channel at each pixel, (H, W).
  std::pair<Mat, Mat> laid_on() const {
    Mat steps;
    cv::min(cv::max(fresh, 0.0), 1.0, steps);
    steps = (steps - image_).mul(in_channels(mask, image_.channels()));
    std::vector<Mat> changes;  // one a channel
    cv::split(cv::abs(steps), changes);
    for (const Mat& change : changes) cv::max(changes[0], change, changes[0]);
    return {image_ + steps, changes[0]};
  }

  /// How much of the change to a picture is seen, (H, W) in [0,1]: `change` is the largest of a
  /// channel at each pixel. By chance a pixel may be as it was, so that its surroundings count.
  Mat seen(const Mat& change) const {
    Mat around, cover, label;
    cv::GaussianBlur(change, around, {}, kSeenAround, 0, cv::BORDER_REFLECT_101);
    cv::GaussianBlur(mask, cover, {}, kSeenAround, 0, cv::BORDER_REFLECT_101);
    cv::divide(around.mul(mask), cv::max(cover, kLeastCover / 100), label);
    cv::GaussianBlur(label, label, {}, kLabelBlur, 0, cv::BORDER_REFLECT_101);
    const double well_seen = kSeenChange * brightness_ + kSeenDeviations * roughness();
    cv::exp(label * (-1 / well_seen), label);
    return 1 - label;
  }

  Mat mask;   // (H, W) in [0,1]
  Mat fresh;  // like the image

private:
  double average(const cv::Scalar& channels) const {
    return cv::sum(channels)[0] / image_.channels();
  }

  /// A length in pixels of a full-sized picture.
  double pixels(double length) const {
    return std::max(1.0, length * std::min(1.0, side_ / kFullSide));
  }

  /// Lighter or darker by that share of the brightness and by some of what varies there anyway;
  /// sometimes with a tint.
  cv::Scalar shift(double low, double high, double darker = 0.5, Deviations more = kPlain) {
    const double sign = dice_.sign(darker);
    const double share = dice_.log_between(low, high);
    const double step = share * brightness_ + dice_.between(more.least, more.most) * roughness();
    cv::Scalar change = cv::Scalar::all(sign * step);
    if (image_.channels() == 3 && dice_.chance(0.25)) {
      for (int c = 0; c < 3; ++c) change[c] *= dice_.between(-0.5, 1);
    }
    return change;
  }

  /// Deviation of the pixels under the mask from what is around them.
  double roughness() const {
    Mat rest = image_ - smoothed(image_, pixels(kSurroundings));
    rest = rest.mul(rest).mul(in_channels(mask, image_.channels()));
    const double weight = cv::sum(mask)[0] * image_.channels();
    return weight > 0 ? std::sqrt(cv::sum(cv::sum(rest))[0] / weight) : 0;
  }

  Mat each_pixel(const auto& value) const {
    Mat map(image_.size(), CV_32F);
    for (int y = 0; y < map.rows; ++y) {
      auto* row = map.ptr<float>(y);
      for (int x = 0; x < map.cols; ++x) {
        row[x] = value(static_cast<float>(x), static_cast<float>(y));
      }
    }
    return map;
  }

  /// Smooth noise of deviation 1: three octaves, the first with cells of that many pixels.
  Mat clouds(double cell) {
    Mat sum(image_.size(), CV_32F, cv::Scalar(0));
    for (const double octave : {1.0, 0.5, 0.25}) {
      const auto cells = [&](int extent) {
        return std::max(2, static_cast<int>(extent / (cell * octave)) + 2);
      };
      Mat fine;
      cv::resize(dice_.gaussian({cells(image_.cols), cells(image_.rows)}), fine, image_.size(), 0,
                 0, cv::INTER_CUBIC);
      cv::scaleAdd(fine, octave, sum, sum);
    }
    cv::Scalar mean, deviation;
    cv::meanStdDev(sum, mean, deviation);
    return sum / std::max(deviation[0], 1e-6);
  }

  Turned turned() {
    const double x = dice_.between(0, image_.cols);
    const double y = dice_.between(0, image_.rows);
    const double angle = dice_.between(0, 2 * std::numbers::pi);
    return {static_cast<float>(x), static_cast<float>(y), static_cast<float>(std::cos(angle)),
            static_cast<float>(std::sin(angle))};
  }

  /// An ellipse with a longer half-axis of `low` to `high`, its edge `ragged` or smooth.
  Mat ellipse(double low, double high, double softness, bool ragged) {
    const Turned at = turned();
    const auto a = static_cast<float>(dice_.log_between(low, high));
    const auto b = static_cast<float>(a * dice_.log_between(0.3, 1));
    Mat inside = each_pixel(
        [&](float x, float y) { return 1 - std::hypot(at.along(x, y) / a, at.across(x, y) / b); });
    if (ragged) {
      const Mat noise = clouds(std::max(3.0F, b));
      cv::scaleAdd(noise, 0.25 * dice_.between(0, 1), inside, inside);
    }
    return soft_edge(inside, softness / b);
  }
  Mat blob(double low, double high, double softness) {
    return ellipse(low, high, softness, /*ragged=*/true);
  }

  Mat rectangle(double low, double high, double softness) {
    const Turned at = turned();
    const auto a = static_cast<float>(dice_.log_between(low, high));
    const auto b = static_cast<float>(dice_.log_between(low, high));
    return soft_edge(each_pixel([&](float x, float y) {
                       return std::min(a - std::abs(at.along(x, y)), b - std::abs(at.across(x, y)));
                     }),
                     softness);
  }

  /// A piece of another good picture, as large as this one: scaled, mirrored, turned.
  Mat piece() {
    const bool mirrored = dice_.chance(0.5), flipped = dice_.chance(0.5),
               turned = dice_.chance(0.5);
    const double scale = dice_.log_between(0.5, 2);
    Mat source = image_;
    if (others_ && !others_->empty()) {
      source = mat_view(others_->at(dice_.below(static_cast<int>(others_->size()))));
    }
    const cv::Size size = turned ? cv::Size(image_.rows, image_.cols) : image_.size();
    const auto needed = [&](int extent) { return std::max(1, static_cast<int>(extent / scale)); };
    const cv::Size wanted(needed(size.width), needed(size.height));
    const cv::Size there(std::min(wanted.width, source.cols), std::min(wanted.height, source.rows));
    const int left = dice_.below(source.cols - there.width + 1);
    const int top = dice_.below(source.rows - there.height + 1);
    Mat result;
    source({{left, top}, there}).convertTo(result, CV_32F, unit_of(source));
    cv::copyMakeBorder(result, result, 0, wanted.height - there.height, 0,
                       wanted.width - there.width, cv::BORDER_REFLECT);
    cv::resize(result, result, size, 0, 0, cv::INTER_LINEAR);
    if (turned) cv::transpose(result, result);
    if (mirrored || flipped) cv::flip(result, result, mirrored && flipped ? -1 : mirrored ? 1 : 0);
    return result;
  }
  static double unit_of(const Mat& pixels) {
    return pixels.depth() == CV_8U ? 1. / 255 : pixels.depth() == CV_16U ? 1. / 65535 : 1;
  }

  void make_patch() {
    const double softness = dice_.log_between(0.5, 3);
    mask = dice_.chance(0.5) ? rectangle(pixels(4), 0.2 * side_, softness)
                             : blob(pixels(4), 0.2 * side_, softness);
    fresh = piece();
    const double sigma = pixels(8);
    if (dice_.chance(0.6)) fresh = fresh - smoothed(fresh, sigma) + smoothed(image_, sigma);
    fresh += shift(0.02, 0.4);
    mask *= dice_.between(0.5, 1);
  }

  void make_perlin() {
    const Mat noise = clouds(pixels(dice_.log_between(8, 60)));
    const Mat place = ellipse(0.1 * side_, 0.6 * side_, pixels(4), /*ragged=*/false);
    double peak = 0;
    cv::minMaxLoc(noise, nullptr, &peak, nullptr, nullptr, place > 0.5);
    const double level = std::min(dice_.between(1, 2.2), 0.8 * peak);  // something is above it
    mask = soft_edge(noise - level, 0.1);
    cv::multiply(mask, place, mask);
    fresh = piece();
    fresh = (fresh - cv::mean(fresh)) * dice_.between(0.5, 2) + smoothed(image_, pixels(8));
    fresh += shift(0.03, 0.6);
    mask *= dice_.between(0.2, 1);
  }

  void make_line() {
    mask = Mat(image_.size(), CV_32F, cv::Scalar(0));
    for (int lines = 1 + dice_.below(2); lines > 0; --lines) draw_line();
    cv::GaussianBlur(mask, mask, {}, 0.6, 0, cv::BORDER_REFLECT_101);
    mask = cv::min(mask * dice_.between(1, 1.4), 1.0);
    // The surface in another light, or what lies below or on it.
    const double kept = dice_.chance(0.5) ? 1 : dice_.between(0, 0.3);
    fresh = image_ * kept + (1 - kept) * cv::mean(image_);
    fresh += shift(0.08, 1, /*darker=*/0.65);
  }

  /// A path that wanders more or less.
  void draw_line() {
    constexpr int kFraction = 3;  // bits of a pixel
    double x = dice_.between(0, image_.cols), y = dice_.between(0, image_.rows);
    double angle = dice_.between(0, 2 * std::numbers::pi);
    const double length = dice_.log_between(pixels(20), 0.9 * std::max(image_.rows, image_.cols));
    const double width = dice_.log_between(1, 4);
    const double wander = std::array{0.0, 0.03, 0.1, 0.3}[dice_.below(4)];
    const double step = pixels(3);
    const auto point = [&] {
      return cv::Point(static_cast<int>(std::lround(x * (1 << kFraction))),
                       static_cast<int>(std::lround(y * (1 << kFraction))));
    };
    const Mat turns = dice_.gaussian({1 + static_cast<int>(length / step), 1});
    for (int i = 0; i < turns.cols; ++i) {
      const cv::Point from = point();
      angle += wander * turns.at<float>(i);
      x += step * std::cos(angle);
      y += step * std::sin(angle);
      const double thickness = std::max(1.0, std::round(width * dice_.between(0.6, 1.4)));
      cv::line(mask, from, point(), cv::Scalar(1), static_cast<int>(thickness), cv::LINE_8,
               kFraction);
    }
  }

  void make_spot() {
    mask = blob(pixels(1.5), 0.06 * side_, 0.7);
    const int more = std::array{0, 0, 0, 1, 3}[dice_.below(5)];
    for (int i = 0; i < more; ++i) cv::max(mask, blob(pixels(1.5), 0.06 * side_, 0.7), mask);
    fresh = image_ * dice_.between(0.2, 1);
    fresh += shift(0.1, 1);
    add_grain(0.03 * dice_.between(0, 1), 0);
  }

  /// The same noise in all channels.
  void add_grain(double amount, double sigma) {
    Mat grain = dice_.gaussian(image_.size());
    if (sigma > 0) grain = smoothed(grain, sigma);
    cv::scaleAdd(in_channels(grain, image_.channels()), amount, fresh, fresh);
  }

  void make_smear() {
    mask = blob(pixels(6), 0.2 * side_, pixels(2));
    const int reach = static_cast<int>(pixels(std::array{4, 8, 14}[dice_.below(3)]));
    const bool sideways = dice_.chance(0.5);
    cv::blur(image_, fresh, sideways ? cv::Size(2 * reach + 1, 1) : cv::Size(1, 2 * reach + 1));
    fresh += shift(0.02, 0.2, /*darker=*/0.5, kFaint);
  }

  void make_uneven() {
    if (dice_.chance(0.6)) {
      mask = blob(0.15 * side_, 0.8 * side_, 0.06 * side_);
    } else {
      const Mat noise = clouds(0.6 * side_);
      mask = soft_edge(noise - dice_.between(0, 1), 0.4);
    }
    const double sign = dice_.sign();
    fresh = image_ * (1 + sign * dice_.log_between(0.08, 0.6));
  }

  void make_texture() {
    mask = blob(0.08 * side_, 0.5 * side_, pixels(3));
    const Mat coarse = smoothed(image_, dice_.log_between(1, 4));
    const bool rougher = dice_.chance(0.5);
    const double contrast = rougher ? dice_.between(1.6, 4) : dice_.between(0, 0.5);
    fresh = coarse + (image_ - coarse) * contrast;
    if (rougher) {
      const double amount = 0.15 * mean_ * dice_.between(0, 1);
      add_grain(amount, dice_.log_between(0.5, 2));
    }
    fresh += shift(0.005, 0.1, /*darker=*/0.5, kFaint);
  }

  void make_corner() {
    const bool at_edge = dice_.chance(0.5);
    const double depth = dice_.log_between(pixels(4), 0.25 * side_);
    const Mat inside = at_edge ? from_edge(depth) : from_corner(depth);
    mask = inside - dice_.between(0, 3) * clouds(pixels(12));
    mask = soft_edge(mask, 0.7);
    const Mat other = piece();
    const bool black = dice_.chance(0.5);
    const cv::Scalar ground =
        black ? cv::Scalar::all(dice_.between(0, 0.1)) : cv::Scalar::all(mean_) + shift(0.1, 0.6);
    fresh = (other - cv::mean(other)) * dice_.between(0, 1) + ground;
  }

  /// Distance inside a triangle at a corner of the picture, whose one side is `depth`.
  Mat from_corner(double depth) {
    const float right = dice_.chance(0.5) ? static_cast<float>(image_.cols - 1) : 0;
    const float bottom = dice_.chance(0.5) ? static_cast<float>(image_.rows - 1) : 0;
    const auto d = static_cast<float>(depth);
    const auto other_side = static_cast<float>(depth * dice_.log_between(0.4, 2.5));
    return each_pixel([&](float x, float y) {
      return d * (1 - std::abs(x - right) / d - std::abs(y - bottom) / other_side);
    });
  }

  /// The same for a bite `depth` deep in one of the edges.
  Mat from_edge(double depth) {
    const bool across = dice_.chance(0.5), far = dice_.chance(0.5);
    const auto edge = static_cast<float>(far ? (across ? image_.rows : image_.cols) - 1 : 0);
    const auto middle = static_cast<float>(dice_.between(0, across ? image_.cols : image_.rows));
    const auto length = static_cast<float>(dice_.log_between(pixels(6), 0.5 * side_));
    const auto d = static_cast<float>(depth);
    return each_pixel([&](float x, float y) {
      const float along = ((across ? x : y) - middle) / length;
      return d * (1 - std::abs((across ? y : x) - edge) / d - along * along);
    });
  }

  const Mat& image_;
  const GoodPictures& others_;
  Dice dice_;
  int side_;  // the shorter one
  double mean_, brightness_;
};

/// (C, H, W) → (H, W, C), cut to the middle.
torch::Tensor middle_of(const torch::Tensor& image) {
  const auto cut = [](const torch::Tensor& all, std::int64_t axis) {
    const std::int64_t extent = std::min(all.size(axis), kGoodPictureSide);
    return all.narrow(axis, (all.size(axis) - extent) / 2, extent);
  };
  return cut(cut(image, 1), 2).permute({1, 2, 0}).clone(at::MemoryFormat::Contiguous);
}

/// Of a few defects of that kind the one that changes most: the picture (C, H, W) and its label.
std::pair<torch::Tensor, torch::Tensor> plainest_of(DefectKind kind, const torch::Tensor& image,
                                                    const GoodPictures& others,
                                                    std::uint64_t seed) {
  constexpr std::uint64_t kTries = 5;
  torch::Tensor best, best_label;
  for (std::uint64_t i = 0; i < kTries; ++i) {
    const torch::Tensor pixels = image.permute({1, 2, 0}).clone(at::MemoryFormat::Contiguous);
    const torch::Tensor marks = at::zeros({pixels.size(0), pixels.size(1), 1});
    Mat picture = mat_view(pixels), label = mat_view(marks);
    CounterRandom random(seed, /*epoch=*/0, static_cast<std::uint64_t>(kind), Purpose::corruption,
                         i);
    draw_defect(picture, kind, random, others, &label);
    if (i > 0 && marks.mean().item<float>() <= best_label.mean().item<float>()) continue;
    best = pixels.permute({2, 0, 1});
    best_label = marks.squeeze(2);
  }
  return {best, best_label};
}

/// With white below the lower ones.
std::vector<torch::Tensor> of_one_height(std::vector<torch::Tensor> pictures) {
  std::int64_t height = 0;
  for (const torch::Tensor& picture : pictures) height = std::max(height, picture.size(1));
  for (torch::Tensor& picture : pictures) {
    picture = at::constant_pad_nd(picture, {0, 0, 0, height - picture.size(1)}, /*value=*/255);
  }
  return pictures;
}

}  // namespace

cv::Mat in_channels(const cv::Mat& map, int channels) {
  cv::Mat result;
  cv::merge(std::vector<cv::Mat>(static_cast<std::size_t>(channels), map), result);
  return result;
}

DefectKind any_defect(CounterRandom& random) {
  const auto kinds = names(DefectKind{});
  return kinds[random.below(kinds.size())].value;
}

GoodPictures good_pictures_for(const Effects& corruptions, ImageDataset& images, Size at) {
  return has(corruptions, Effect::Kind::defects) ? good_pictures(images, at) : nullptr;
}

GoodPictures good_pictures(ImageDataset& images, Size at) {
  const auto all = static_cast<std::size_t>(images.size());
  std::vector<torch::Tensor> found(std::min(all, kMostGoodPictures));
  const auto place_of = [&](std::int64_t i) { return i * images.size() / std::ssize(found); };
  std::int64_t largest = 1;
  for (std::int64_t i = 0; i < std::ssize(found); ++i) {
    largest = std::max(largest, images.decoded_bytes(place_of(i)));
  }
  const std::int64_t together = std::max<std::int64_t>(1, most_bytes_ahead() / largest);
  for (std::int64_t first = 0; first < std::ssize(found); first += together) {
    parallel_for_each(std::min(together, std::ssize(found) - first), [&](std::int64_t nth) {
      if (const auto image = images.load(place_of(first + nth))) {
        found[first + nth] = middle_of(at ? resize_image(*image, at.h, at.w) : *image);
      }
    });
  }
  std::erase_if(found, [](const torch::Tensor& image) { return !image.defined(); });
  return std::make_shared<const std::vector<torch::Tensor>>(std::move(found));
}

void add_noise(Mat& picture, double deviation, CounterRandom& random) {
  auto* values = picture.ptr<float>();
  kernels_of_this_processor().add_noise(
      values, static_cast<std::int64_t>(picture.total()) * picture.channels(), random.next(),
      /*first=*/0, static_cast<float>(deviation), values);
}

void draw_defect(Mat& picture, DefectKind kind, CounterRandom& random, const GoodPictures& others,
                 Mat* label) {
  if (std::min(picture.rows, picture.cols) < kLeastDefectSide) return;
  Defect defect(picture, random, others);
  defect.make(kind);
  const auto [after, change] = defect.laid_on();
  if (label != nullptr) cv::max(*label, defect.seen(change), *label);
  after.copyTo(picture);
}

torch::Tensor defect_sheet(const std::vector<torch::Tensor>& images, const GoodPictures& others,
                           std::uint64_t seed) {
  constexpr std::int64_t kSide = 160;      // of each picture
  constexpr std::size_t kPairsInARow = 4;  // of a picture and its label
  std::vector<torch::Tensor> rows, row;
  for (const auto& [kind, name] : names(DefectKind{})) {
    const auto place = static_cast<std::size_t>(kind);
    const auto [picture, label] =
        plainest_of(kind, images[place % images.size()].cpu(), others, seed);
    row.push_back(at_shown_size(to_uint8(picture), kSide));
    row.push_back(at_shown_size(coloured(label, ColourMap::inferno), kSide));
    if (row.size() < 2 * kPairsInARow) continue;
    rows.push_back(row_of_pictures(of_one_height(std::exchange(row, {}))));
  }
  return stack_pictures(rows);
}

}  // namespace convae
