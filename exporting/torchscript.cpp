#include "convae/core/files.h"
#include "convae/exporting/script.h"
#include "convae/models/autoencoder.h"

#include <torch/csrc/jit/serialization/export.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <exception>
#include <set>

namespace convae {
namespace {

namespace jit = torch::jit;

/// "[2, 2]"
std::string list(Size value) { return fmt::format("[{}, {}]", value.h, value.w); }

/// Python for TorchScript's compiler, module by module, with the methods that a plain module of the
/// same structure would have; sizes come from the images, as in models/autoencoder.cpp.
class NetworkSource {
public:
  explicit NetworkSource(const ModelOptions& spec) : spec_(spec), restorer_(spec.restorer()) {
    if (spec.latent > 0) plan_ = plan_sizes(levels_, spec.size, spec.channels);
  }

  /// Methods of the module of that name in the model, "" being the autoencoder; nothing for plain
  /// layers.
  std::string of(const std::string& name) const {
    if (name.empty()) return autoencoder();
    if (name == "encoder") return encoder();
    if (name == "decoder") return decoder();
    if (name == "decoder.latent") return decoder_start();
    if (name.ends_with("coder.linear")) return linear_code(name == "encoder.linear");
    constexpr std::string_view kDown = "decoder.down";
    if (name.starts_with(kDown)) {
      return NetworkSource(restorer_).of("encoder" + name.substr(kDown.size()));
    }
    if (name == "detector") return detector();
    for (const DetectorLayer& layer : spec_.detector_layers()) {
      if (name == "detector." + layer.name()) return detector_layer(layer);
    }
    const std::size_t begin = name.find('.') + 1;
    const std::size_t end = name.find('.', begin);
    const std::string number = name.substr(begin, end - begin);  // "encoder.2.residual0.first"
    if (number.find_first_not_of("0123456789") != std::string::npos) return "";
    const auto index = static_cast<std::size_t>(std::stoul(number));
    const bool encodes = name.starts_with("encoder.");
    const std::size_t level = encodes ? index : levels_.size() - 1 - index;
    if (end == std::string::npos) return encodes ? encoder_level(level) : decoder_level(level);
    return part_of_residual(name.substr(end + 1), levels_[level].channels);
  }

private:
  static constexpr const char* kChannelsLast = ".contiguous(memory_format=2)";
  static constexpr const char* kForward = "def forward(self, x: Tensor) -> Tensor:\n";
  static constexpr const char* kForwardToSize =
      "def forward(self, x: Tensor, size: List[int]) -> Tensor:\n";
  static constexpr const char* kReturn = "    return x\n";

  bool dense() const { return spec_.latent > 0; }
  bool has_bottleneck() const { return dense() || spec_.latent_channels > 0; }

  bool is_linear() const { return spec_.linear == Linear::pca; }
  bool skips() const { return spec_.skip == Skip::add; }
  bool has_shortcut() const { return spec_.shortcut == Shortcut::shuffle; }

  std::string autoencoder() const {
    const std::string parts = fmt::format(
        "def encode(self, images: Tensor) -> Tensor:\n"
        "    return self.encoder.forward(images)\n"
        "def decode(self, latent: Tensor{0}) -> Tensor:\n"
        "    return self.decoder.forward({1})\n",
        dense() ? "" : ", size: List[int]", dense() ? "latent" : "latent, size");
    return (spec_.has_latents() ? parts : "") + fmt::format(
                                                    "def forward(self, images: Tensor) -> Tensor:\n"
                                                    "    latent = self.encoder.forward(images)\n"
                                                    "    size = [images.size(2), images.size(3)]\n"
                                                    "    return {1}self.decoder.forward({0}){2}\n",
                                                    dense() ? "latent" : "latent, size",
                                                    spec_.residual ? "(images - " : "",
                                                    spec_.residual ? ").clamp(0, 1)" : "");
  }

  std::string encoder() const {
    std::string code =
        fmt::format("def forward(self, images: Tensor) -> {}:\n{}    x = images{}\n",
                    skips() ? "List[Tensor]" : "Tensor", check_images(), kChannelsLast);
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      code += fmt::format("    x = getattr(self, \"{}\").forward(x)\n", i);
      if (skips()) code += i == 0 ? "    maps = [x]\n" : "    maps.append(x)\n";
    }
    if (skips()) return code + "    return maps\n";
    if (has_bottleneck()) {
      code += fmt::format("    x = torch.{}, self.latent.weight, self.latent.bias)\n",
                          dense() ? "linear(x.flatten(1)" : "conv2d(x");
    }
    if (is_linear()) code += "    x = x + self.linear.forward(images)\n";
    if (spec_.variational) code += "    x = x.chunk(2, 1)[0]\n";  // means before deviations
    return code + "    return x.contiguous()\n";
  }

  std::string check_images() const {
    const Size size = dense() ? spec_.size : smallest_input(levels_);
    return fmt::format(
        "    assert images.dim() == 4 and images.size(1) == {0}, \"the images' shape must be (N, "
        "{0}, H, W)\"\n"
        "    assert images.size(2) {1} {2} and images.size(3) {1} {3}, \"this model takes images "
        "of {4} {5}\"\n",
        spec_.channels, dense() ? "==" : ">=", size.h, size.w, to_string(size),
        dense() ? "only" : "and larger");
  }

  std::string decoder() const {
    const std::size_t count = levels_.size();
    std::string code = fmt::format(
        "def forward(self, {}{}) -> Tensor:\n{}{}{}",
        skips() ? "maps: List[Tensor]" : "latent: Tensor", dense() ? "" : ", size: List[int]",
        skips() ? "    latent = maps[-1]\n" : "", sizes(), check_latent());
    if (is_linear()) {
      code += fmt::format(
          "    image = self.linear.forward(latent, size0){}\n"
          "    maps = self.down.forward(image)\n"
          "    x = maps[-1]\n",
          kChannelsLast);
    } else {
      code += has_bottleneck() ? "    x = self.latent.forward(latent)\n"
                               : fmt::format("    x = latent{}\n", kChannelsLast);
    }
    for (std::size_t i = 0; i < count; ++i) {
      code += fmt::format("    x = getattr(self, \"{}\").forward(x, size{})\n", i, count - 1 - i);
      if ((skips() || is_linear()) && i + 1 < count)
        code += fmt::format("    x = x + maps[{}]\n", count - 2 - i);
    }
    if (is_linear()) code += "    x = image + x\n";
    if (spec_.output == Output::sigmoid) code += "    x = torch.sigmoid(x)\n";
    if (spec_.output == Output::tanh) code += "    x = torch.tanh(x)\n";
    return code + "    return x.contiguous()\n";
  }

  /// size0 … sizeL: of the images, and of each level's output.
  std::string sizes() const {
    std::string code = dense() ? "    size0 = " + list(spec_.size) + "\n"
                               : "    assert len(size) == 2, \"size is [height, width]\"\n"
                                 "    size0 = size\n";
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const auto length = [&](int which, const Axis& axis) {
        return fmt::format("(size{}[{}] + {} - {}) // {} + 1", i, which, 2 * axis.padding,
                           axis.span(), axis.stride);
      };
      code += fmt::format("    size{} = [{}, {}]\n", i + 1, length(0, levels_[i].vertical()),
                          length(1, levels_[i].horizontal()));
    }
    return code;
  }

  std::string check_latent() const {
    if (dense()) {
      return fmt::format(
          "    assert latent.dim() == 2 and latent.size(1) == {0}, \"the latent's shape must be "
          "(N, {0})\"\n",
          spec_.latent);
    }
    return fmt::format(
        "    assert latent.dim() == 4 and latent.size(1) == {0} and latent.size(2) == size{1}[0] "
        "and latent.size(3) == size{1}[1], \"the latent's shape must be (N, {0}, h, w), as the "
        "encoder gives it for images of that size\"\n",
        spec_.latent_map_channels(), levels_.size());
  }

  std::string decoder_start() const {
    const std::int64_t channels = levels_.back().channels;
    const std::string layer =
        dense() ? fmt::format(
                      "    x = torch.linear(x, self.linear.weight, self.linear.bias)\n"
                      "    x = x.view([x.size(0), {}, {}, {}]){}\n",
                      channels, plan_.latent().h, plan_.latent().w, kChannelsLast)
                : fmt::format("    x = torch.conv2d(x{}, self.conv.weight, self.conv.bias)\n",
                              kChannelsLast);
    return kForward + layer + tail(channels) + kReturn;
  }

  std::string linear_code(bool encodes) const {
    const auto [h, w] = spec_.linear_block();
    if (encodes) {
      return kForward +
             fmt::format(
                 "    x = torch.pad(x - self.mean, [0, -x.size(3) % {1}, 0, -x.size(2) % {0}], "
                 "\"replicate\")\n"
                 "    return torch.conv2d(x, self.components, None, [{0}, {1}]){2}\n",
                 h, w, dense() ? ".flatten(1)" : "");
    }
    return kForwardToSize +
           fmt::format(
               "    x = torch.conv_transpose2d(x{2}, self.components, None, [{0}, {1}])\n"
               "    return x[:, :, :size[0], :size[1]] + self.mean\n",
               h, w, dense() ? "[:, :, None, None]" : "");
  }

  std::string encoder_level(std::size_t i) const {
    const LevelSpec& level = levels_[i];
    return kForward + keep_input() + conv(level) + tail(level.channels) + shuffled_down(i) +
           residuals(level) + kReturn;
  }

  std::string decoder_level(std::size_t i) const {
    return kForwardToSize + residuals(levels_[i]) + keep_input() + conv_transpose(levels_[i]) +
           (i > 0 ? tail(levels_[i - 1].channels) : "") + shuffled_up(i) + kReturn;
  }

  std::string keep_input() const { return has_shortcut() ? "    input = x\n" : ""; }

  std::string residuals(const LevelSpec& level) const {
    std::string code;
    for (std::int64_t i = 0; i < level.residual_blocks; ++i) {
      code += fmt::format("    x = self.residual{}.forward(x)\n", i);
    }
    return code;
  }

  /// "residual0", "residual0.first"; nothing for plain layers.
  std::string part_of_residual(const std::string& name, std::int64_t channels) const {
    if (!name.starts_with("residual")) return "";
    const std::string convolution = kForward + conv(keeping_size(channels));
    if (name.ends_with(".first")) return convolution + tail(channels) + kReturn;
    if (name.ends_with(".second")) return convolution + kReturn;
    if (name.find('.') != std::string::npos) return "";
    return std::string(kForward) + "    return x + self.second.forward(self.first.forward(x))\n";
  }

  std::int64_t channels_into(std::size_t level) const {
    return level > 0 ? levels_[level - 1].channels : spec_.channels;
  }

  /// As models/shortcut.h says: `input` → what is added to x.
  std::string shuffled_down(std::size_t i) const {
    if (!has_shortcut()) return "";
    const auto [sh, sw] = levels_[i].stride;
    const std::int64_t in = channels_into(i);
    return fmt::format(
               "    n, h, w = x.size(0), x.size(2), x.size(3)\n"
               "    H, W = h * {0}, w * {1}\n"
               "    y = {2}\n"
               "    y = y.reshape([n, {3}, h, {0}, w, {1}]).permute([0, 1, 3, 5, 2, 4])\n"
               "    y = y.reshape([n, {4}, h, w])\n",
               sh, sw, kFitted, in, in * sh * sw) +
           averaged(in * sh * sw, levels_[i].channels) + "    x = x + y\n";
  }

  std::string shuffled_up(std::size_t i) const {
    if (!has_shortcut()) return "";
    const auto [sh, sw] = levels_[i].stride;
    const std::int64_t out = channels_into(i);
    return "    n, h, w = input.size(0), input.size(2), input.size(3)\n"
           "    y = input\n" +
           averaged(levels_[i].channels, out * sh * sw) +
           fmt::format(
               "    y = y.reshape([n, {2}, {0}, {1}, h, w]).permute([0, 1, 4, 2, 5, 3])\n"
               "    input = y.reshape([n, {2}, h * {0}, w * {1}])\n"
               "    H, W = size[0], size[1]\n"
               "    x = x + {3}\n",
               sh, sw, out, kFitted);
  }

  /// `input` cut at its end, or with its edge repeated, to H×W.
  static constexpr const char* kFitted =
      "torch.pad(input[:, :, :H, :W], [0, max(0, W - input.size(3)), 0, max(0, H - "
      "input.size(2))], \"replicate\")";

  static std::string averaged(std::int64_t from, std::int64_t to) {
    if (from == to) return "";
    return fmt::format("    y = torch.adaptive_avg_pool3d(y.unsqueeze(1), [{}, h, w]).squeeze(1)\n",
                       to);
  }

  std::string conv(const LevelSpec& level) const {
    return fmt::format("    x = torch.conv2d(x, self.conv.weight, self.conv.bias, {}, {}, {})\n",
                       list(level.stride), list(level.padding), list(level.dilation));
  }

  std::string conv_transpose(const LevelSpec& level) const {
    const auto missing = [](int which, const Axis& axis) {
      return fmt::format("size[{}] - ((x.size({}) - 1) * {} - {} + {})", which, which + 2,
                         axis.stride, 2 * axis.padding, axis.span());
    };
    return fmt::format(
        "    output_padding = [{}, {}]\n"
        "    x = torch.conv_transpose2d(x, self.conv.weight, self.conv.bias, {}, {}, "
        "output_padding, 1, {})\n",
        missing(0, level.vertical()), missing(1, level.horizontal()), list(level.stride),
        list(level.padding), list(level.dilation));
  }

  /// As DetectorImpl::logits(): what the detector sees → its logits, four pixels each.
  std::string detector() const {
    std::string code = "def forward(self, x: Tensor) -> Tensor:\n";
    for (const DetectorLayer& layer : spec_.detector_layers()) {
      using Kind = DetectorLayer::Kind;
      const bool grows = layer.kind == Kind::up;
      if (layer.kind == Kind::down && layer.level > 0) {
        code += fmt::format("    skipped{} = x\n", layer.level - 1);
      }
      const std::string size =
          grows ? fmt::format(", [skipped{0}.size(2), skipped{0}.size(3)]", layer.level) : "";
      code += fmt::format("    x = self.{}.forward(x{})\n", layer.name(), size);
      if (grows) code += fmt::format("    x = torch.cat([x, skipped{}], 1)\n", layer.level);
    }
    return code + kReturn;
  }

  std::string detector_layer(const DetectorLayer& layer) const {
    const LevelSpec spec = layer.spec();
    const bool grows = layer.kind == DetectorLayer::Kind::up;
    return (grows ? kForwardToSize + conv_transpose(spec) : kForward + conv(spec)) +
           (layer.kind == DetectorLayer::Kind::last ? "" : tail(layer.out)) + kReturn;
  }

  std::string tail(std::int64_t channels) const {
    const std::string act = "    x = " + activation() + "\n";
    const std::string norm =
        spec_.norm == Norm::none ? "" : "    x = " + normalisation(channels) + "\n";
    return spec_.order == Order::conv_bn_act ? norm + act : act + norm;
  }

  std::string activation() const {
    switch (spec_.activation) {
      case Activation::silu: return "torch.silu(x)";
      case Activation::relu: return "torch.relu(x)";
      case Activation::leaky_relu: return "torch.leaky_relu(x, 0.01)";
      case Activation::gelu: return "torch.gelu(x)";
    }
    return "x";
  }

  std::string normalisation(std::int64_t channels) const {
    if (spec_.norm == Norm::batch) {
      return fmt::format(
          "torch.batch_norm(x, self.norm.weight, self.norm.bias, self.norm.running_mean, "
          "self.norm.running_var, False, 0.0, {}, True)",
          BatchNormImpl::kEpsilon);
    }
    const std::int64_t groups = group_count(channels);
    return fmt::format(
        "torch.group_norm(x.clone(memory_format=0), {}, self.norm.weight, self.norm.bias, {}){}",
        groups, torch::nn::GroupNormOptions(groups, channels).eps(), kChannelsLast);
  }

  const ModelOptions& spec_;
  const ModelOptions restorer_;  // of a linear path
  const std::vector<LevelSpec>& levels_ = spec_.levels;
  Plan plan_;  // of a dense latent
};

/// Builds the script module of `module` and its children, with their weights under their names.
jit::Module scripted(const torch::nn::Module& module, const std::string& name,
                     const NetworkSource& source,
                     const std::shared_ptr<jit::CompilationUnit>& types) {
  std::string type = name.empty() ? "autoencoder" : name;
  std::replace(type.begin(), type.end(), '.', '_');
  jit::Module script(c10::QualifiedName("__torch__.convae." + type), types);
  script.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    script.register_parameter(item.key(), item.value().detach().cpu(), /*is_buffer=*/false);
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    script.register_buffer(item.key(), item.value().cpu());
  }
  for (const auto& child : module.named_children()) {
    const std::string path = name.empty() ? child.key() : name + "." + child.key();
    script.register_module(child.key(), scripted(*child.value(), path, source, types));
  }
  const std::string code = source.of(name);
  if (!code.empty()) script.define(code);
  return script;
}

/// Keys of the description whose text is JSON.
const std::set<std::string> kJsonKeys = {"channels", "range", "model",    "epoch",
                                         "step",     "fpr",   "threshold"};

/// The description as one JSON object: {"channels": 3, "range": [0, 1], "model": {…}, …}.
std::string script_description(const ExportDescription& description) {
  nlohmann::ordered_json object;
  for (const auto& [key, text] : description) {
    object[key] = kJsonKeys.contains(key) ? nlohmann::ordered_json::parse(text)
                                          : nlohmann::ordered_json(text);
  }
  return object.dump();
}

}  // namespace

void write_torchscript(const std::filesystem::path& path, const Model& model, Part part,
                       const ExportDescription& description) {
  write_script(path, scripted_part(model, part, std::make_shared<jit::CompilationUnit>()),
               description);
}

jit::Module scripted_part(const Model& model, Part part,
                          const std::shared_ptr<jit::CompilationUnit>& types) {
  const std::string name = part == Part::autoencoder ? "" : to_string(part);
  return scripted(part_of(model, part), name, NetworkSource(model.options()), types);
}

void write_script(const std::filesystem::path& path, const jit::Module& script,
                  const ExportDescription& description) {
  AtomicFile file(path);
  // LibTorch's writer goes on writing in its destructor, from where nothing may be thrown.
  std::exception_ptr failure;
  const auto write = [&](const void* bytes, std::size_t count) {
    try {
      if (!failure) file.write(bytes, count);
    } catch (...) {
      failure = std::current_exception();
    }
    return count;
  };
  jit::ExportModule(script, write, {{"convae.json", script_description(description)}});
  if (failure) std::rethrow_exception(failure);
  file.commit();
}

}  // namespace convae
