#include "convae/core/files.h"
#include "convae/core/version.h"
#include "convae/exporting/formats.h"
#include "convae/exporting/onnx_values.h"
#include "convae/models/autoencoder.h"
#include "convae/models/shortcut.h"
#include "convae/training/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace convae {
namespace {

using Ints = OnnxGraph::Ints;
using Shape = std::vector<OnnxGraph::Length>;

constexpr std::int64_t kNone = 0;

OnnxGraph::Attributes convolution(const LevelSpec& level) {
  return {{"kernel_shape", per_axis(level.kernel)},
          {"strides", per_axis(level.stride)},
          {"pads", Ints{level.padding.h, level.padding.w, level.padding.h, level.padding.w}},
          {"dilations", per_axis(level.dilation)}};
}

/// Writes the network as a graph of ONNX operators, layer by layer as in models/autoencoder.cpp.
/// Blocks have their names in the model: "encoder.0".
class NetworkGraph {
public:
  /// `fixed`: the one size of all images; {0, 0}: every size.
  NetworkGraph(OnnxGraph& graph, const Model& model, Size fixed)
      : spec_(model.options()), weights_(weights_of(*model.net())), graph_(graph) {
    if (fixed) plan_ = plan_sizes(spec_.levels, fixed, spec_.channels);
  }

  void write(Part part) {
    if (part == Part::decoder) {
      const std::string latent = graph_.input("latent", latent_shape(), "as the encoder gives it");
      const std::string size =
          plan_ ? ""
                : graph_.input("size", {std::int64_t{2}},
                               "height and width of the images that the latents came from",
                               OnnxGraph::Type::int64);
      return output(decoder(latent, size));
    }
    const std::string images =
        graph_.input("images", image_shape(), "(N, C, H, W) in the model's range");
    if (part != Part::encoder) return output(autoencoder(images));
    graph_.output(encoder(images), "latent", latent_shape(), "of each image");
  }

  std::string autoencoder(const std::string& images) {
    const std::string size =
        plan_ ? "" : graph_.node("size", "Shape", {images}, {{"start", std::int64_t{2}}});
    const std::string decoded = decoder(encoder(images), size);
    if (!spec_.residual) return decoded;
    return graph_.node("residual", "Clip",
                       {graph_.node("residual", "Sub", {images, decoded}),
                        constant("residual.low", torch::tensor(0.0F)),
                        constant("residual.high", torch::tensor(1.0F))});
  }

  /// As DetectorImpl::logits().
  std::string detector(std::string x) {
    std::vector<std::string> skipped;
    for (const DetectorLayer& part : spec_.detector_layers()) {
      using Kind = DetectorLayer::Kind;
      const std::string block = "detector." + part.name();
      const bool grows = part.kind == Kind::up;
      if (part.kind == Kind::down && part.level > 0) skipped.push_back(x);
      if (grows) {
        const Layer conv = layer(block, "conv", /*axis=*/1);
        const std::string& beside = skipped[part.level];
        const auto size = graph_.node(block, "Shape", {beside}, {{"start", std::int64_t{2}}});
        x = tail(block, transpose(block, x, conv, part.spec(), size, {}), conv, part.out);
        x = graph_.node(block, "Concat", {x, beside}, {{"axis", std::int64_t{1}}});
      } else {
        x = convolved(block, x, part.spec(), part.kind != Kind::last);
      }
    }
    return x;
  }

private:
  struct Layer {
    torch::Tensor weight, bias;
    bool has_norm = false;  ///< its normalisation is in the weights
  };

  Shape image_shape() const {
    if (plan_) return {"batch", spec_.channels, plan_->input.h, plan_->input.w};
    return {"batch", spec_.channels, "height", "width"};
  }

  Shape latent_shape() const {
    if (spec_.latent > 0) return {"batch", spec_.latent};
    const std::int64_t channels = spec_.latent_map_channels();
    if (plan_) return {"batch", channels, plan_->latent().h, plan_->latent().w};
    return {"batch", channels, "latent_height", "latent_width"};
  }

  std::string constant(const std::string& name, const torch::Tensor& tensor) {
    return add_constant(graph_, name, tensor);
  }

  torch::Tensor weight(const std::string& name) const { return weights_.at(name).detach(); }

  /// A layer's weights. Batch normalisation right after the layer is multiplied into them, which is
  /// exact. `axis`: that of the weight's output channels; a channel has as many numbers there as in
  /// the bias.
  Layer layer(const std::string& block, const char* kind, std::int64_t axis) const {
    const std::string name = block + "." + kind;
    Layer layer{weight(name + ".weight"), weight(name + ".bias")};
    if (spec_.norm != Norm::batch || spec_.order != Order::conv_bn_act ||
        !weights_.contains(block + ".norm.weight")) {
      return layer;
    }
    const auto [factor, summand] = norm_of(block);
    const std::int64_t repeats = layer.bias.numel() / factor.numel();  // of a linear layer
    const torch::Tensor scale = factor.repeat_interleave(repeats);
    std::vector<std::int64_t> along(layer.weight.dim(), 1);
    along[axis] = -1;
    layer.weight = layer.weight.to(torch::kDouble) * scale.view(along);
    layer.bias = layer.bias.to(torch::kDouble) * scale + summand.repeat_interleave(repeats);
    layer.has_norm = true;
    return layer;
  }

  std::string apply(const std::string& block, const char* kind, const std::string& op,
                    const std::string& x, const Layer& layer,
                    const OnnxGraph::Attributes& attributes) {
    const std::string name = block + "." + kind;
    return graph_.node(
        block, op,
        {x, constant(name + ".weight", layer.weight), constant(name + ".bias", layer.bias)},
        attributes);
  }

  std::string convolved(const std::string& block, const std::string& x, const LevelSpec& level,
                        bool has_tail = true) {
    const Layer conv = layer(block, "conv", /*axis=*/0);
    const std::string y = apply(block, "conv", "Conv", x, conv, convolution(level));
    return has_tail ? tail(block, y, conv, level.channels) : y;
  }

  /// What follows a convolution or linear layer: normalisation and activation in the model's order.
  std::string tail(const std::string& block, std::string x, const Layer& layer,
                   std::int64_t channels) {
    if (spec_.order == Order::conv_act_bn) x = activation(block, x);
    if (!layer.has_norm && spec_.norm == Norm::batch) x = batch_norm(block, x);
    if (spec_.norm == Norm::group) x = group_norm(block, x, channels);
    return spec_.order == Order::conv_bn_act ? activation(block, x) : x;
  }

  std::string activation(const std::string& block, const std::string& x) {
    switch (spec_.activation) {
      case Activation::silu:
        return graph_.node(block, "Mul", {x, graph_.node(block, "Sigmoid", {x})});
      case Activation::relu: return graph_.node(block, "Relu", {x});
      case Activation::leaky_relu: return graph_.node(block, "LeakyRelu", {x}, {{"alpha", 0.01F}});
      case Activation::gelu: return gelu(block, x);
    }
    return x;
  }

  /// x (1 + erf(x / √2)) / 2; ONNX has an operator for it only since version 20.
  std::string gelu(const std::string& block, const std::string& x) {
    const auto number = [&](const char* name, double value) {
      return constant(block + "." + name, torch::tensor(static_cast<float>(value)));
    };
    const auto scaled = graph_.node(block, "Div", {x, number("root_of_two", std::sqrt(2.0))});
    const auto raised =
        graph_.node(block, "Add", {graph_.node(block, "Erf", {scaled}), number("one", 1)});
    return graph_.node(block, "Mul", {graph_.node(block, "Mul", {x, raised}), number("half", 0.5)});
  }

  /// Factor and summand of a channel; OpenCV moves a BatchNormalization across the product before
  /// it.
  std::string batch_norm(const std::string& block, const std::string& x) {
    const auto [factor, summand] = norm_of(block);
    const auto a_channel = [&](const char* which, const torch::Tensor& numbers) {
      return constant(block + ".norm." + which, numbers.view({-1, 1, 1}));
    };
    const auto scaled = graph_.node(block, "Mul", {x, a_channel("weight", factor)});
    return graph_.node(block, "Add", {scaled, a_channel("bias", summand)});
  }

  /// What a batch normalisation does: x · first + second, a number a channel, in double.
  std::pair<torch::Tensor, torch::Tensor> norm_of(const std::string& block) const {
    const auto statistic = [&](const char* which) {
      return weight(block + ".norm." + which).to(torch::kDouble);
    };
    const torch::Tensor factor =
        statistic("weight") / (statistic("running_var") + BatchNormImpl::kEpsilon).sqrt();
    return {factor, statistic("bias") - statistic("running_mean") * factor};
  }

  /// InstanceNormalization over (N, groups, rest): GroupNormalization came with version 18, and has
  /// a weight per channel only since 21.
  std::string group_norm(const std::string& block, const std::string& x, std::int64_t channels) {
    const std::int64_t groups = group_count(channels);
    const double epsilon = torch::nn::GroupNormOptions(groups, channels).eps();
    const std::string name = block + ".norm.";
    const auto grouped =
        graph_.node(block, "Reshape", {x, graph_.integers(name + "groups", {0, groups, -1})});
    // Without its mean first: runtimes multiply before they subtract, and flat pictures suffer.
    const auto mean = graph_.node(block, "ReduceMean", {grouped}, {{"axes", Ints{2}}});
    const auto centred = graph_.node(block, "Sub", {grouped, mean});
    const auto normalised = graph_.node(block, "InstanceNormalization",
                                        {centred, constant(name + "ones", torch::ones(groups)),
                                         constant(name + "zeros", torch::zeros(groups))},
                                        {{"epsilon", static_cast<float>(epsilon)}});
    const auto back = graph_.node(block, "Reshape", {normalised, graph_.node(block, "Shape", {x})});
    const auto a_channel = [&](const char* which) {
      return constant(name + which, weight(name + which).view({channels, 1, 1}));
    };
    return graph_.node(block, "Add",
                       {graph_.node(block, "Mul", {back, a_channel("weight")}), a_channel("bias")});
  }

  bool is_linear() const { return spec_.linear == Linear::pca; }

  /// The levels of an encoder, which is `scope`; where there are skip connections, their maps are
  /// kept.
  std::string down(const std::string& scope, std::string x, bool keeps) {
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const std::string block = scope + "." + std::to_string(i);
      const std::string y = convolved(block, x, levels_[i]);
      x = refined(block, has_shortcut() ? plus(block, y, shuffled_down(block, x, i)) : y, i);
      if (keeps) skipped_.push_back(x);
    }
    return x;
  }

  std::string encoder(const std::string& images) {
    const std::string x = down("encoder", images, spec_.skip == Skip::add);
    if (!weights_.contains("encoder.latent.weight")) return x;
    Layer last{weight("encoder.latent.weight"), weight("encoder.latent.bias")};
    if (spec_.variational) {  // the means alone
      last.weight = last.weight.chunk(2)[0];
      last.bias = last.bias.chunk(2)[0];
    }
    const auto latent =
        spec_.latent_channels > 0
            ? apply("encoder", "latent", "Conv", x, last, {{"kernel_shape", Ints{1, 1}}})
            : apply("encoder", "latent", "Gemm", flattened("encoder.latent", x), last,
                    {{"transB", std::int64_t{1}}});
    return is_linear() ? plus("encoder", latent, linear_code(images)) : latent;
  }

  std::string flattened(const std::string& scope, const std::string& x) {
    return graph_.node(scope, "Flatten", {x}, {{"axis", std::int64_t{1}}});
  }

  OnnxGraph::Attributes of_blocks() const {
    const Ints block = per_axis(spec_.linear_block());
    return {{"kernel_shape", block}, {"strides", block}};
  }

  /// How far the last blocks reach beyond the images; where sizes vary, how far they may.
  Size beyond_blocks() const {
    const Size block = spec_.linear_block();
    if (!plan_) return {block.h - 1, block.w - 1};
    const auto [h, w] = plan_->input;
    return {(block.h - h % block.h) % block.h, (block.w - w % block.w) % block.w};
  }

  /// As LinearCodeImpl::encode(), with the mean in the summand: C x - C mean.
  std::string linear_code(const std::string& images) {
    const std::string scope = "encoder.linear";
    const torch::Tensor components = weight(scope + ".components");
    const torch::Tensor mean = weight(scope + ".mean").expand_as(components[0]);
    const Layer layer{components, -components.flatten(1).mv(mean.flatten())};
    const auto code = apply("encoder", "linear", "Conv", padded(scope, images, beyond_blocks()),
                            layer, of_blocks());
    return spec_.latent > 0 ? flattened(scope, code) : code;
  }

  std::string linear_image(const std::string& latent, const std::string& size) {
    const std::string scope = "decoder.linear";
    const auto code =
        spec_.latent > 0
            ? graph_.node(scope, "Reshape",
                          {latent, graph_.integers(scope + ".map", {0, spec_.latent, 1, 1})})
            : latent;
    OnnxGraph::Attributes attributes = of_blocks();
    const Size beyond = beyond_blocks();
    if (plan_) attributes["pads"] = Ints{0, 0, beyond.h, beyond.w};
    const auto image = graph_.node(
        scope, "ConvTranspose",
        {code, constant(scope + ".components", weight(scope + ".components"))}, attributes);
    return plus(scope, cut(scope, image, size), constant(scope + ".mean", weight(scope + ".mean")));
  }

  void output(const std::string& reconstruction) {
    graph_.output(reconstruction, "reconstruction", image_shape(),
                  "of exactly the images' size, in the model's range");
  }

  /// `size`: the value with the images' height and width; unused where the sizes are fixed.
  std::string decoder(const std::string& latent, const std::string& size) {
    const std::string image = is_linear() ? linear_image(latent, size) : "";
    std::string x = is_linear() ? down("decoder.down", image, /*keeps=*/true) : start(latent);
    const std::vector<std::string> sizes = level_sizes(size);
    for (std::size_t i = levels_.size(); i-- > 0;) {
      const std::string block = "decoder." + std::to_string(levels_.size() - 1 - i);
      const Layer conv = layer(block, "conv", /*axis=*/1);
      x = refined(block, x, i);
      std::optional<Size> padding;
      if (plan_) padding = plan_->levels[i].output_padding;
      std::string y = transpose(block, x, conv, levels_[i], sizes[i], padding);
      if (i > 0) y = tail(block, y, conv, levels_[i - 1].channels);
      if (has_shortcut()) y = plus(block, y, shuffled_up(block, x, i, sizes[i]));
      x = i > 0 && !skipped_.empty() ? plus(block, y, skipped_[i - 1]) : y;
    }
    if (is_linear()) x = plus("decoder", image, x);
    if (spec_.output == Output::sigmoid) return graph_.node("decoder", "Sigmoid", {x});
    if (spec_.output == Output::tanh) return graph_.node("decoder", "Tanh", {x});
    return x;
  }

  /// The decoder's map before its levels.
  std::string start(const std::string& latent) {
    const std::string block = "decoder.latent";
    const std::int64_t channels = levels_.back().channels;
    if (spec_.latent > 0) {
      const Layer linear = layer(block, "linear", /*axis=*/0);
      const auto flat =
          apply(block, "linear", "Gemm", latent, linear, {{"transB", std::int64_t{1}}});
      const auto map =
          graph_.integers(block + ".map", {0, channels, plan_->latent().h, plan_->latent().w});
      return tail(block, graph_.node(block, "Reshape", {flat, map}), linear, channels);
    }
    if (spec_.latent_channels == 0) return latent;
    const Layer conv = layer(block, "conv", /*axis=*/0);
    const auto x = apply(block, "conv", "Conv", latent, conv, {{"kernel_shape", Ints{1, 1}}});
    return tail(block, x, conv, channels);
  }

  /// In ONNX output_padding cannot depend on the size. It only appends rows and columns and changes
  /// none of the others, so where sizes vary the largest one and a cut give the same.
  std::string transpose(const std::string& block, const std::string& x, const Layer& conv,
                        const LevelSpec& level, const std::string& size,
                        std::optional<Size> padding) {
    const auto [h, w] = level.stride;
    OnnxGraph::Attributes attributes = convolution(level);
    attributes["output_padding"] = per_axis(padding.value_or(Size{h - 1, w - 1}));
    const std::string y = apply(block, "conv", "ConvTranspose", x, conv, attributes);
    return h * w == 1 ? y : cut(block, y, size);
  }

  /// The first rows and columns, where sizes vary.
  std::string cut(const std::string& scope, const std::string& x, const std::string& size) {
    if (plan_) return x;
    return graph_.node(scope, "Slice",
                       {x, graph_.integers(scope + ".begin", {0, 0}), size,
                        graph_.integers(scope + ".axes", {2, 3})});
  }

  bool has_shortcut() const { return spec_.shortcut == Shortcut::shuffle; }

  std::string plus(const std::string& block, const std::string& x, const std::string& y) {
    return graph_.node(block, "Add", {x, y});
  }

  /// The residual blocks of a level.
  std::string refined(const std::string& block, std::string x, std::size_t level) {
    const LevelSpec same = keeping_size(levels_[level].channels);
    for (std::int64_t i = 0; i < levels_[level].residual_blocks; ++i) {
      const std::string name = block + ".residual" + std::to_string(i);
      const std::string first = convolved(name + ".first", x, same);
      x = plus(name, convolved(name + ".second", first, same, /*has_tail=*/false), x);
    }
    return x;
  }

  /// What a level's convolution takes.
  std::int64_t channels_into(std::size_t level) const {
    return level > 0 ? levels_[level - 1].channels : spec_.channels;
  }

  /// The sizes are n and m of models/geometry.h: shuffled, m is m·s, which n may exceed or miss by
  /// less than s.
  std::string shuffled_down(const std::string& block, std::string x, std::size_t level) {
    const std::string scope = block + ".shortcut";
    const std::int64_t channels = channels_into(level);
    const Size stride = levels_[level].stride;
    const std::int64_t pixels = stride.h * stride.w;
    if (pixels > 1) {
      // What is padded beyond m·s, the convolution leaves out.
      x = graph_.node(
          scope, "Conv",
          {padded(scope, x, beyond(level).second), pixel_weights(scope, channels, stride)},
          {{"group", channels}, {"kernel_shape", per_axis(stride)}, {"strides", per_axis(stride)}});
    }
    return averaged(scope, x, channels * pixels, levels_[level].channels);
  }

  /// `size`: the value with the size to come to; unused where the sizes are fixed.
  std::string shuffled_up(const std::string& block, std::string x, std::size_t level,
                          const std::string& size) {
    const std::string scope = block + ".shortcut";
    const std::int64_t channels = channels_into(level);
    const Size stride = levels_[level].stride;
    const std::int64_t pixels = stride.h * stride.w;
    x = averaged(scope, x, levels_[level].channels, channels * pixels);
    if (pixels == 1) return x;
    const Size least = beyond(level).first;
    x = graph_.node(scope, "ConvTranspose", {x, pixel_weights(scope, channels, stride)},
                    {{"group", channels},
                     {"kernel_shape", per_axis(stride)},
                     {"strides", per_axis(stride)},
                     {"pads", Ints{0, 0, std::max(kNone, least.h), std::max(kNone, least.w)}}});
    return cut(scope, padded(scope, x, {-least.h, -least.w}), size);
  }

  /// By how much a level's m·s exceeds its n, at least and at most.
  std::pair<Size, Size> beyond(std::size_t level) const {
    const Axis y = levels_[level].vertical(), x = levels_[level].horizontal();
    if (plan_) {
      const auto [n, m] = std::pair(plan_->levels[level].in, plan_->levels[level].out);
      const Size always{m.h * y.stride - n.h, m.w * x.stride - n.w};
      return {always, always};
    }
    const Size least{2 * y.padding - y.span() + 1, 2 * x.padding - x.span() + 1};
    return {least, {least.h + y.stride - 1, least.w + x.stride - 1}};
  }

  /// With its last row and column repeated so many times, where the numbers are positive.
  std::string padded(const std::string& scope, const std::string& x, Size more) {
    const Ints pads = {0, 0, 0, 0, 0, 0, std::max(kNone, more.h), std::max(kNone, more.w)};
    if (more.h <= 0 && more.w <= 0) return x;
    return graph_.node(scope, "Pad", {x, graph_.integers(scope + ".pads", pads)},
                       {{"mode", "edge"}});
  }

  /// Of a convolution that puts every pixel of a stride into a channel of its own, or takes it from
  /// there: OpenCV and others know operators for that with square strides only.
  std::string pixel_weights(const std::string& scope, std::int64_t channels, Size stride) {
    const std::int64_t pixels = stride.h * stride.w;
    return constant(
        scope + ".pixels",
        torch::eye(pixels).view({pixels, 1, stride.h, stride.w}).repeat({channels, 1, 1, 1}));
  }

  /// As models/shortcut.h makes channels of others.
  std::string averaged(const std::string& scope, const std::string& x, std::int64_t from,
                       std::int64_t to) {
    if (from == to) return x;
    const std::int64_t groups = std::gcd(from, to);
    const torch::Tensor shares = channel_shares(from / groups, to / groups).t();
    const auto weight =
        constant(scope + ".shares", shares.repeat({groups, 1}).view({to, -1, 1, 1}));
    return graph_.node(scope, "Conv", {x, weight},
                       {{"group", groups}, {"kernel_shape", Ints{1, 1}}});
  }

  /// Height and width of each level's input in the encoder and output in the decoder:
  /// floor((n + 2p - e) / s) + 1 from one to the next.
  std::vector<std::string> level_sizes(const std::string& size) {
    if (plan_) return std::vector<std::string>(levels_.size());  // unused
    std::vector<std::string> sizes = {size};
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i) {
      const LevelSpec& level = levels_[i];
      const std::string scope = "size." + std::to_string(i + 1);
      const Ints rooms = {2 * level.padding.h - level.vertical().span(),
                          2 * level.padding.w - level.horizontal().span()};
      const auto rest =
          graph_.node(scope, "Add", {sizes.back(), graph_.integers(scope + ".room", rooms)});
      const auto steps = graph_.node(
          scope, "Div", {rest, graph_.integers(scope + ".stride", per_axis(level.stride))});
      sizes.push_back(graph_.node(scope, "Add", {steps, graph_.integers(scope + ".one", {1, 1})}));
    }
    return sizes;
  }

  const ModelOptions& spec_;
  const std::vector<LevelSpec>& levels_ = spec_.levels;
  std::map<std::string, torch::Tensor> weights_;
  OnnxGraph& graph_;
  std::vector<std::string> skipped_;  ///< what each level of the encoder gave, for the decoder
  std::optional<Plan> plan_;          ///< where all images have one size
};

}  // namespace

void write_onnx(const std::filesystem::path& path, const Model& model, const ExportOptions& options,
                const ExportDescription& description) {
  OnnxGraph graph(std::string("convae ") + to_string(options.part), kVersion);
  NetworkGraph(graph, model, options.fixed_size(model.options())).write(options.part);
  write_file(path, graph.serialize(description));
}

std::string add_autoencoder(OnnxGraph& graph, const Model& model, Size fixed,
                            const std::string& images) {
  return NetworkGraph(graph, model, fixed).autoencoder(images);
}

std::string add_detector(OnnxGraph& graph, const Model& model, const std::string& seen) {
  return NetworkGraph(graph, model, /*fixed=*/{0, 0}).detector(seen);
}

std::string add_constant(OnnxGraph& graph, const std::string& name, const torch::Tensor& tensor) {
  const torch::Tensor plain = tensor.detach().to(torch::kCPU, torch::kFloat).contiguous();
  return graph.floats(name, plain.sizes().vec(),
                      {plain.const_data_ptr<float>(), static_cast<std::size_t>(plain.numel())});
}

}  // namespace convae
