#include "convae/core/files.h"
#include "convae/core/version.h"
#include "convae/exporting/formats.h"
#include "convae/exporting/onnx_values.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/scorer.h"
#include "convae/inspection/views.h"
#include "convae/models/detector.h"
#include "convae/models/gaussian.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

namespace convae {
namespace {

using Ints = OnnxGraph::Ints;
using Value = std::string;  // the name of one

constexpr std::int64_t kOnnxFloat = 1;  // TensorProto.DataType

/// Writes an inspector as a graph of ONNX operators: what inspection/views.cpp, features.cpp,
/// places.cpp and scorer.cpp do, in their order.
class InspectorGraph {
public:
  InspectorGraph(const Inspector& inspector, Size fixed)
      : model_(inspector.model()),
        fixed_(fixed),
        scorer_(inspector.scorer()),
        graph_("convae inspector", kVersion) {}

  std::string file(const ExportDescription& description) {
    image_ = graph_.input("image", shape(model_.options().channels), "(1, C, H, W) in [0,1]");
    size_ = op("Shape", {image_}, {{"start", std::int64_t{2}}});
    brightness_ = op("ReduceMean", {mean(image_)});
    const Value back = reconstruction();
    const Value residual = op("Sub", {image_, back});
    add_textures("residual", residual);
    if (!model_.options().detector.empty()) {
      scope_ = "detected";
      add_pyramid(detected(back, residual), /*of_textures=*/false);
    }
    add_textures("image", image_);
    score();
    return graph_.serialize(description);
  }

private:
  struct Map {
    Value values;           // (1, K, h, w), standardised, with both_ends()
    std::int64_t maps = 0;  // before that
    int level = 0;
    std::int64_t count() const { return peak_count(maps); }  // K
  };
  struct Places {
    Value rows, columns;  // (h, kPlaces), (kPlaces, w)
  };

  std::vector<OnnxGraph::Length> shape(std::int64_t channels) const {
    if (fixed_) return {std::int64_t{1}, channels, fixed_.h, fixed_.w};
    return {std::int64_t{1}, channels, "height", "width"};
  }

  Value op(const char* name, const std::vector<Value>& inputs,
           const OnnxGraph::Attributes& attributes = {}, int unused = 0) {
    return graph_.node(scope_, name, inputs, attributes, unused);
  }

  /// The one of that name, whatever asks for it first.
  Value constant(const std::string& name, const torch::Tensor& tensor) {
    return known_.insert(name).second ? add_constant(graph_, name, tensor) : name;
  }

  Value number(double value) {
    return constant(fmt::format("number/{}", value), torch::tensor(value));
  }

  Value integers(const Ints& values) {
    const std::string name = fmt::format("integers/{}", fmt::join(values, ","));
    return known_.insert(name).second ? graph_.integers(name, values) : name;
  }

  Value concat(const std::vector<Value>& values, std::int64_t axis) {
    return op("Concat", values, {{"axis", axis}});
  }

  /// (N, C, h, w) → (N, C, 1, 1), first of rows: in one sum of float the errors of runtimes add up.
  Value mean(const Value& x) {
    const Value of_rows = op("ReduceMean", {x}, {{"axes", Ints{3}}});
    return op("ReduceMean", {of_rows}, {{"axes", Ints{2}}});
  }

  Value clip(const Value& x, double least, double most) {
    return op("Clip", {x, number(least), number(most)});
  }

  Value reconstruction() {
    const Output output = model_.options().output;
    Value x = image_;
    if (output == Output::tanh) x = op("Sub", {op("Mul", {x, number(2)}), number(1)});
    x = add_autoencoder(graph_, model_, fixed_, x);
    if (output == Output::tanh) x = op("Div", {op("Add", {x, number(1)}), number(2)});
    return output == Output::linear ? clip(x, 0, 1) : x;
  }

  /// (…, h, w), edges repeated by so many pixels: above, left, below, right.
  Value padded(const Value& x, std::int64_t above, std::int64_t left, std::int64_t below,
               std::int64_t right) {
    return op("Pad", {x, integers({0, 0, above, left, 0, 0, below, right})}, {{"mode", "edge"}});
  }

  /// Convolves (C, 1, h, w) along one axis with a kernel (1, 1, 1, n).
  Value filtered(const Value& planes, const std::string& name, const torch::Tensor& kernel,
                 bool down) {
    const Value turned =
        constant(name + (down ? "/down" : "/across"), down ? kernel.transpose(2, 3) : kernel);
    const std::int64_t y = down ? kernel.size(3) / 2 : 0, x = kernel.size(3) / 2 - y;
    return op("Conv", {padded(planes, y, x, y, x), turned});
  }

  Value blur(const Value& planes, double sigma) {
    const std::string name = fmt::format("blur/{}", sigma);
    const torch::Tensor kernel = gaussian_kernel(sigma);
    return filtered(filtered(planes, name, kernel, /*down=*/false), name, kernel, /*down=*/true);
  }

  Value gradient(const Value& planes, bool down) {
    const torch::Tensor kernel = torch::tensor({-0.5F, 0.0F, 0.5F}).view({1, 1, 1, 3});
    return op("Abs", {filtered(planes, "gradient", kernel, down)});
  }

  /// The mean of two by two; at the end of an odd side of those that are there.
  Value halved(const Value& planes) {
    return op("AveragePool", {padded(planes, 0, 0, 1, 1)},
              {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  }

  /// (C, 1, h, w) → (1, kTextureMaps, h, w)
  Value textures(const Value& planes) {
    const Value fine = blur(planes, kFineBlur);
    const Value grain = op("Sub", {planes, fine});
    const Value variance = blur(op("Mul", {grain, grain}), kRoughnessBlur);
    const std::vector<Value> all = {gradient(fine, /*down=*/true), gradient(fine, /*down=*/false),
                                    op("Sqrt", {op("Relu", {variance})})};
    const Value largest = op("ReduceMax", {concat(all, 1)}, {{"axes", Ints{0}}});
    const Value maps = op("Relu", {op("Sub", {largest, number(kRounding)})});
    const auto over = [&](const Value& divisor) {
      return op("Div", {maps, op("Max", {divisor, number(kSmallestMean)})});
    };
    return concat({over(mean(maps)), over(brightness_)}, 1);
  }

  /// (1, C, h, w) → (C, 1, h, w), and back.
  Value swapped(const Value& x) { return op("Transpose", {x}, {{"perm", Ints{1, 0, 2, 3}}}); }

  void add_textures(const std::string& name, const Value& image) {
    scope_ = name;
    add_pyramid(swapped(image), /*of_textures=*/true);
  }

  /// The detector's logits (1, 1, H, W), as models/detector.cpp makes them.
  Value detected(const Value& reconstruction, const Value& residual) {
    const Value blurred = swapped(blur(swapped(image_), DetectorImpl::kBlurSigma));
    const Value gain = number(DetectorImpl::kDifferenceGain), middle = number(0.5);
    const Value all =
        concat({op("Sub", {image_, middle}), op("Sub", {reconstruction, middle}),
                op("Mul", {residual, gain}), op("Mul", {op("Sub", {image_, blurred}), gain})},
               1);
    const Value logits =
        add_detector(graph_, model_, unshuffled(all, 4 * model_.options().channels));
    const Value map =
        op("DepthToSpace", {logits}, {{"blocksize", std::int64_t{2}}, {"mode", "CRD"}});
    return clip(op("Slice", {map, integers({0, 0}), size_, integers({2, 3})}), -kMostLogit,
                kMostLogit);
  }

  /// at::pixel_unshuffle(x, 2), an odd side's end repeated: a convolution that puts each of four
  /// pixels into a channel.
  Value unshuffled(const Value& x, std::int64_t channels) {
    const torch::Tensor one = torch::eye(4).view({4, 1, 2, 2});
    return op("Conv",
              {padded(x, 0, 0, 1, 1), constant("unshuffle", one.repeat({channels, 1, 1, 1}))},
              {{"group", channels}, {"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  }

  /// The maps of planes (C, 1, h, w) at all levels, standardised, and the logarithms of their
  /// peaks.
  void add_pyramid(Value planes, bool of_textures) {
    const std::string name = scope_;
    for (int level = kFirstLevel; level < kLevelsEnd; ++level) {
      planes = halved(planes);
      scope_ = fmt::format("{}.{}", name, level);
      const torch::Tensor& scale = scorer_.scales().at(maps_.size());
      Value map = standardised(of_textures ? textures(planes) : planes, scale, level);
      if (of_textures) {
        const Value rough = op("Gather", {map, integers({kRoughness, kRoughness + kRawMaps})},
                               {{"axis", std::int64_t{1}}});
        map = concat({map, op("Neg", {rough})}, 1);
      }
      maps_.push_back({map, scale.size(1), level});
      features_.push_back(
          op("Log", {op("Max", {peaks(maps_.back()), number(AnomalyScorer::kSmallestPeak)})}));
    }
  }

  Value standardised(const Value& maps, const torch::Tensor& scale, int level) {
    const auto found = places_.find(level);
    const Places& at =
        found != places_.end() ? found->second : (places_[level] = places_of(maps, level));
    const auto at_pixels = [&](const char* name, std::int64_t which) {
      const Value known = constant(scope_ + "/" + name, scale[which].unsqueeze(0));
      return op("MatMul", {op("MatMul", {at.rows, known}), at.columns});
    };
    return op("Sub", {op("Mul", {maps, at_pixels("scale", 0)}), at_pixels("mean", 1)});
  }

  Places places_of(const Value& maps, int level) {
    return {op("Transpose", {places_along(0, maps, level)}), places_along(1, maps, level)};
  }

  /// places_of_pixels(), transposed: (kPlaces, n).
  Value places_along(std::int64_t axis, const Value& maps, int level) {
    const auto length = [&](const Value& sizes, std::int64_t i) {
      const Value one = op("Squeeze", {op("Gather", {sizes, integers({i})})});
      return op("Cast", {one}, {{"to", kOnnxFloat}});
    };
    const Value side = length(size_, axis);
    Value at = op("Range", {number(0), length(op("Shape", {maps}), axis + 2), number(1)});
    at = op("Mul", {op("Add", {at, number(0.5)}), number(1 << level)});
    at = op("Min", {at, op("Sub", {side, number(0.25)})});
    const Value place = clip(op("Sub", {place_of(at, side), number(0.5)}), 0, kPlaces - 1);
    const Value all = constant("places", torch::arange(kPlaces, torch::kFloat).unsqueeze(1));
    const Value distance = op("Abs", {op("Sub", {place, all})});
    return op("Relu", {op("Sub", {number(1), distance})});
  }

  /// Where pixels' centres are, from 0 to kPlaces.
  Value place_of(const Value& at, const Value& side) {
    constexpr double kInnerPlaces = kPlaces - 2 * kBorderPlaces;
    const Value border = number(static_cast<double>(kBorder));
    const Value places = number(static_cast<double>(kPlaces));
    const Value inner = op("Sub", {side, op("Add", {border, border})});
    const Value beyond = op("Relu", {op("Sub", {at, border})});   // the first border
    const Value past = op("Relu", {op("Sub", {beyond, inner})});  // what is between as well
    const Value between =
        op("Mul", {op("Sub", {beyond, past}), op("Div", {number(kInnerPlaces), inner})});
    const Value at_borders =
        op("Div", {op("Add", {op("Min", {at, border}), past}), number(kPixelsAPlace)});
    const Value of_long = op("Add", {at_borders, between});
    const Value of_short = op("Mul", {at, op("Div", {places, side})});
    return op("Where", {op("Less", {inner, number(kInnerPlaces)}), of_short, of_long});
  }

  /// (K): the mean of the highest peak_share() of each map, of at least one pixel.
  Value peaks(const Map& map) {
    const Value flat = op("Reshape", {map.values, integers({map.count(), -1})});
    const std::int64_t pixels_a_peak = std::lround(1 / peak_share(map.maps));
    const Value pixels = op("Shape", {flat}, {{"start", std::int64_t{1}}});
    const Value rounded =
        op("Div", {op("Add", {pixels, integers({pixels_a_peak / 2})}), integers({pixels_a_peak})});
    const Value highest = op("TopK", {flat, op("Max", {rounded, integers({1})})},
                             {{"sorted", std::int64_t{0}}}, /*unused=*/1);
    return op("ReduceMean", {highest}, {{"axes", Ints{1}}, {"keepdims", std::int64_t{0}}});
  }

  void score() {
    scope_ = "score";
    const Value features = concat(features_, 0);
    const Value rest = op("Sub", {features, constant("score/mean", scorer_.mean())});
    const Value z = clip(op("Div", {rest, constant("score/deviation", scorer_.deviation())}),
                         -AnomalyScorer::kFarthest, AnomalyScorer::kFarthest);
    const FaultClassifier& of_kinds = scorer_.classifier(kNetwork);
    const Value ratios = op("Add", {op("MatMul", {constant("score/weights", of_kinds.weights), z}),
                                    constant("score/biases", of_kinds.biases)});
    const Value largest = op("ReduceMax", {ratios});
    const Value least = op("Sub", {largest, number(FaultClassifier::kLargestGap)});
    const Value both = op("Add", {largest, op("Max", {op("ReduceMean", {ratios}), least})});
    const Value score = op("Reshape", {op("Div", {both, number(2)}), integers({1})});
    graph_.output(score, "score", {std::int64_t{1}}, "above the threshold: anomalous");
    graph_.output(heat(), "map", shape(1), "where it is anomalous");
  }

  Value heat() {
    scope_ = "map";
    const HeatMap& heat = scorer_.heat_map(kNetwork);
    std::map<int, Value> of_levels;
    std::int64_t first = 0;
    for (const Map& map : maps_) {
      const Value above = clip(map.values, 0, kMostDeviations);
      const torch::Tensor weights = heat.weights.narrow(0, first, map.count());
      const Value share = op("Conv", {op("Log", {op("Add", {above, number(1)})}),
                                      constant(fmt::format("map/weights.{}", first),
                                               weights.view({1, map.count(), 1, 1}))});
      const auto [known, is_new] = of_levels.try_emplace(map.level, share);
      if (!is_new) known->second = op("Add", {known->second, share});
      first += map.count();
    }
    const Value sizes = concat({integers({1, 1}), size_}, 0);
    Value sum = constant("map/bias", heat.bias);
    for (const auto& [level, share] : of_levels) {
      sum = op("Add", {op("Resize", {share, "", "", sizes}, {{"mode", "linear"}}), sum});
    }
    return clip(sum, 0, HeatMap::kMost);
  }

  Model model_;
  Size fixed_;
  const AnomalyScorer& scorer_;
  OnnxGraph graph_;
  std::string scope_ = "inspector";  ///< begins the names of nodes
  std::set<std::string> known_;      ///< names of constants
  std::map<int, Places> places_;     ///< by level
  Value image_, size_, brightness_;  ///< (1, C, H, W), [H, W] and (1, 1, 1, 1)
  std::vector<Map> maps_;
  std::vector<Value> features_;  ///< of each of maps_
};

}  // namespace

void write_onnx(const std::filesystem::path& path, const Inspector& inspector, Size fixed,
                const ExportDescription& description) {
  write_file(path, InspectorGraph(inspector, fixed).file(description));
}

}  // namespace convae
