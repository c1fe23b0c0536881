#include "convae/models/options.h"

#include "convae/core/errors.h"
#include "convae/core/text.h"

#include <fmt/format.h>

#include <algorithm>

namespace convae {
namespace {

/// Numbers of weights and bytes are doubles, which do not overflow and are exact up to 2^53.
std::int64_t saturated(double number) {
  return static_cast<std::int64_t>(std::min(number, 0x1p62));
}

double norm_weights(Norm norm, double channels) { return norm == Norm::none ? 0 : 2 * channels; }

/// Of the residual blocks of a level, in the encoder or its mirror.
double residual_parameters(const LevelSpec& level, Norm norm) {
  const double channels = level.channels, convolution = 9 * channels * channels + channels;
  return level.residual_blocks * (2 * convolution + norm_weights(norm, channels));
}

double detector_parameters(const ModelOptions& model) {
  double total = 0;
  for (const DetectorLayer& layer : model.detector_layers()) {
    const double in = layer.in, out = layer.out;
    total += 9 * in * out + out;
    if (layer.kind != DetectorLayer::Kind::last) total += norm_weights(model.norm, out);
  }
  return total;
}

/// Numbers in the outputs of the detector's layers: all of them, and most of a layer with its
/// input.
struct DetectorMaps {
  double all = 0, most = 0;
};

DetectorMaps detector_maps(const ModelOptions& model, Size input) {
  DetectorMaps maps;
  for (const DetectorLayer& layer : model.detector_layers()) {
    const double area = detector_map(input, layer.level).area();
    maps.all += area * layer.out;
    maps.most = std::max(maps.most, area * (layer.in + layer.out));
  }
  return maps;
}

/// What makes a level divide the size by its stride.
std::string way_out_of_shuffle(const LevelSpec& level) {
  const auto least = [](const Axis& axis) { return (axis.span() - 1) / 2; };
  const bool has_padding = (level.vertical().span() % 2 == 1 || level.stride.h > 1) &&
                           (level.horizontal().span() % 2 == 1 || level.stride.w > 1);
  if (!has_padding) return "an odd kernel";
  return "padding " + to_string(Size{least(level.vertical()), least(level.horizontal())});
}

/// Throws OptionError where a shortcut does not fit a level.
void check_shuffle(const ModelOptions& model) {
  constexpr std::int64_t kMost = 1 << 20;
  std::int64_t in = model.channels;
  for (std::size_t i = 0; i < model.levels.size(); ++i) {
    const LevelSpec& level = model.levels[i];
    require_option(
        level.vertical().divides_by_stride() && level.horizontal().divides_by_stride(),
        fmt::format(
            "shortcut shuffle needs levels that divide the size by their stride, rounded up "
            "or down, which level {} ({}) does not; use {} there, or shortcut none",
            i + 1, settings_text(level), way_out_of_shuffle(level)));
    const std::int64_t shuffled = saturated(1.0 * in * level.stride.area());
    require_option(
        shuffled <= kMost,
        fmt::format("shortcut shuffle makes {} channels of {} at level {} with stride {}, but at "
                    "most {} are possible; use a smaller stride, or shortcut none",
                    shuffled, in, i + 1, to_string(level.stride), kMost));
    in = level.channels;
  }
}

/// Throws OptionError where a linear path does not fit the model.
void check_linear(const ModelOptions& model) {
  require_option(model.bottleneck_numbers() > 0,
                 "linear pca goes past the convolutions of a bottleneck: set latent or "
                 "latent-channels, or linear none");
  require_option(!model.variational,
                 "linear pca is not for a variational model, whose latents should be normally "
                 "distributed");
  require_option(model.output == Output::linear,
                 fmt::format("linear pca: the network predicts a difference, which can be "
                             "negative; output-activation must be linear, but is {}",
                             to_string(model.output)));
  if (model.latent > 0) return;
  for (std::size_t i = 0; i < model.levels.size(); ++i) {
    const LevelSpec& level = model.levels[i];
    require_option(level.vertical().rounds_up() && level.horizontal().rounds_up(),
                   fmt::format("linear pca with latent-channels needs levels whose kernel spans "
                               "1 + 2 padding pixels, such as k3p1 or k5p2, but that of level {} "
                               "({}) does not; change it, or use linear none",
                               i + 1, settings_text(level)));
  }
  constexpr std::int64_t kLargestBlock = 128;
  const Size block = model.linear_block();
  require_option(block.h <= kLargestBlock && block.w <= kLargestBlock,
                 fmt::format("linear pca codes blocks of {}, the product of the strides; at most "
                             "{} pixels a side are possible; use fewer levels, or linear none",
                             to_string(block), kLargestBlock));
}

/// In the maps of a level's smaller and larger side.
struct LevelNumbers {
  double encoded, decoded;
};

LevelNumbers numbers_of(const LevelPlan& level) {
  return {1.0 * level.out_channels * level.out.area(), 1.0 * level.in_channels * level.in.area()};
}

// What a detector sees: image, reconstruction and two differences.
constexpr std::int64_t kDetectorInputs = 4;

}  // namespace

std::string DetectorLayer::name() const {
  constexpr const char* kNames[] = {"down", "keep", "up", "merge", "last"};
  return kind == Kind::last ? "last"
                            : kNames[static_cast<std::size_t>(kind)] + std::to_string(level);
}

LevelSpec DetectorLayer::spec() const {
  const bool strided = kind == Kind::up || (kind == Kind::down && level > 0);
  return strided ? LevelSpec{out} : keeping_size(out);
}

std::vector<DetectorLayer> ModelOptions::detector_layers() const {
  using Kind = DetectorLayer::Kind;
  std::vector<DetectorLayer> layers;
  if (detector.empty()) return layers;
  constexpr std::int64_t kTogether = 4;  // pixels that are channels of one
  std::int64_t in = kDetectorInputs * kTogether * channels;
  for (std::size_t level = 0; level < detector.size(); ++level) {
    layers.push_back({Kind::down, level, in, detector[level]});
    layers.push_back({Kind::keep, level, detector[level], detector[level]});
    in = detector[level];
  }
  for (std::size_t level = detector.size() - 1; level-- > 0;) {
    layers.push_back({Kind::up, level, detector[level + 1], detector[level]});
    layers.push_back({Kind::merge, level, 2 * detector[level], detector[level]});
  }
  layers.push_back({Kind::last, 0, detector[0], kTogether});
  return layers;
}

Size detector_map(Size image, std::size_t level) {
  Size map = image;
  for (std::size_t i = 0; i <= level; ++i) map = {(map.h + 1) / 2, (map.w + 1) / 2};
  return map;
}

std::vector<std::int64_t> parse_widths(const std::string& text) {
  std::vector<std::int64_t> widths;
  std::string_view rest = trimmed(text);
  if (rest.empty() || rest == "none") return widths;
  while (true) {
    const std::size_t comma = rest.find(',');
    const auto width = parse_as<std::int64_t>(std::string(trimmed(rest.substr(0, comma))));
    if (!width) throw OptionError("expected channels, comma-separated, such as 16,32,64");
    widths.push_back(*width);
    if (comma == std::string_view::npos) return widths;
    rest.remove_prefix(comma + 1);
  }
}

std::string widths_text(const std::vector<std::int64_t>& widths) {
  return fmt::format("{}", fmt::join(widths, ","));
}

void ModelOptions::validate() const {
  check_levels(levels);
  require_option(channels >= 1, fmt::format("channels must be at least 1, but is {}", channels));
  require_option(
      latent_channels >= 0 && latent_channels <= (1 << 20),
      fmt::format("latent-channels must be between 0 and 1048576, but is {}", latent_channels));
  require_option(latent >= 0 && latent <= (1 << 24),
                 fmt::format("latent must be between 0 and 16777216, but is {}", latent));
  require_option(latent == 0 || latent_channels == 0,
                 fmt::format("latent {} and latent-channels {} exclude each other: a bottleneck is "
                             "either dense or a 1x1 convolution",
                             latent, latent_channels));
  require_option(
      !variational || bottleneck_numbers() > 0,
      "variational needs a bottleneck: set latent-channels, or latent together with size");
  if (shortcut == Shortcut::shuffle) check_shuffle(*this);
  if (bottleneck_numbers() > 0) require_latents(latent > 0 ? "latent" : "latent-channels");
  if (linear == Linear::pca) check_linear(*this);
  require_option(!residual || output == Output::linear,
                 fmt::format("residual: the network predicts a difference, which can be negative; "
                             "output-activation must be linear, but is {}",
                             to_string(output)));
  require_option(
      detector.size() <= 12 &&
          std::ranges::all_of(detector,
                              [](std::int64_t width) { return width >= 1 && width <= (1 << 20); }),
      fmt::format("detector must be 1 to 12 numbers of channels between 1 and 1048576, "
                  "such as 16,32,64, but is {}",
                  widths_text(detector)));
  if (latent == 0) return;
  require_option(
      size.h > 0 && size.w > 0,
      fmt::format("latent {} (a dense bottleneck) works at one input size only; set size to N or "
                  "HxW, or use latent-channels for a bottleneck that takes every size",
                  latent));
  plan_sizes(levels, size, channels);
}

void ModelOptions::require_latents(const std::string& what) const {
  require_option(has_latents(),
                 fmt::format("{} is not for a model with {}: its decoder needs the image that it "
                             "restores beside the latent",
                             what, skip == Skip::add ? "skip add" : "residual"));
}

std::int64_t ModelOptions::latent_map_channels() const {
  return latent_channels > 0 ? latent_channels : levels.back().channels;
}

Size ModelOptions::linear_block() const {
  if (latent > 0) return size;
  Size block{1, 1};
  for (const LevelSpec& level : levels) {
    block = {std::min(block.h * level.stride.h, kMaxSide),
             std::min(block.w * level.stride.w, kMaxSide)};
  }
  return block;
}

ModelOptions ModelOptions::restorer() const {
  ModelOptions model = *this;
  model.latent = model.latent_channels = 0;
  model.size = {0, 0};
  model.linear = Linear::none;
  model.skip = Skip::add;
  model.detector.clear();
  return model;
}

std::vector<std::int64_t> ModelOptions::latent_shape(Size input) const {
  if (latent > 0) return {latent};
  const Size map = plan_sizes(levels, input, channels).latent();
  return {latent_map_channels(), map.h, map.w};
}

std::int64_t ModelOptions::parameter_count() const {
  double total = detector_parameters(*this), in = channels;
  for (const LevelSpec& level : levels) {
    const double out = level.channels, weights = in * out * level.kernel.area();
    const double around = residual_parameters(level, norm);
    total += (linear == Linear::pca ? 2 : 1) * (weights + out + norm_weights(norm, out) + around);
    total += weights + in + around;
    if (&level != &levels.front()) total += norm_weights(norm, in);  // decoder, but its last
    in = out;
  }
  const double narrow = bottleneck_numbers(), encoded = variational ? 2 * narrow : narrow;
  if (narrow == 0) return saturated(total);
  const double wide = latent > 0 ? in * plan_sizes(levels, size, channels).latent().area() : in;
  total += wide * encoded + encoded;
  if (linear == Linear::none) total += narrow * wide + wide + norm_weights(norm, in);
  return saturated(total);
}

std::int64_t ModelOptions::training_bytes_per_image(Size input) const {
  const Plan plan = plan_sizes(levels, input, channels);
  // A level keeps its convolution's output and its own; see BlockTail. Group normalisation is not
  // fused with the activation and keeps what lies between them too.
  const double kept = norm == Norm::group ? 3 : 2, encoders = linear == Linear::pca ? 2 : 1;
  double numbers = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto [encoded, decoded] = numbers_of(plan.levels[i]);
    numbers += kept * (encoders * encoded + decoded);
    // The second convolution of a residual block has nothing after it but the sum, which is kept.
    numbers += (encoders + 1) * levels[i].residual_blocks * (kept + 1) * encoded;
  }
  if (!detector.empty()) {
    numbers += 2.0 * kDetectorInputs * channels * input.area();
    numbers += kept * detector_maps(*this, input).all;
  }
  return saturated(numbers * sizeof(float));
}

std::int64_t ModelOptions::inference_bytes_per_image(Size input) const {
  double most = 0, skipped = 0;
  for (const LevelPlan& level : plan_sizes(levels, input, channels).levels) {
    const auto [encoded, decoded] = numbers_of(level);
    // A shortcut has an input and an output of its own.
    const int copies = shortcut == Shortcut::shuffle ? 2 : 1;
    most = std::max(most, copies * (encoded + decoded));
    if (skip == Skip::add || linear == Linear::pca) skipped += encoded;
  }
  most = std::max(most + skipped, detector_maps(*this, input).most);
  return saturated((most + 1.0 * channels * input.area()) * sizeof(float));
}

}  // namespace convae
