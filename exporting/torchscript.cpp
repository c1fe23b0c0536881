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
  explicit NetworkSource(const ModelOptions& spec) : spec_(spec) {
    if (spec.latent > 0) plan_ = plan_sizes(levels_, spec.size, spec.channels);
  }

  /// Methods of the module of that name in the model, "" being the autoencoder; nothing for plain
  /// layers.
  std::string of(const std::string& name) const {
    if (name.empty()) return autoencoder();
    if (name == "encoder") return encoder();
    if (name == "decoder") return decoder();
    if (name == "decoder.latent") return decoder_start();
    if (name == "detector") return detector();
    for (const DetectorLayer& layer : spec_.detector_layers()) {
      if (name == "detector." + layer.name()) return detector_layer(layer);
    }
    const std::size_t dot = name.find('.');
    const std::string last = name.substr(dot + 1);
    if (last.find_first_not_of("0123456789") != std::string::npos) return "";
    const auto index = static_cast<std::size_t>(std::stoul(last));
    if (name.starts_with("encoder.")) return conv(levels_[index]) + tail(levels_[index].channels);
    const std::size_t level = levels_.size() - 1 - index;
    return conv_transpose(levels_[level]) +
           (level > 0 ? tail(levels_[level - 1].channels) : kReturn);
  }

private:
  static constexpr const char* kChannelsLast = ".contiguous(memory_format=2)";
  static constexpr const char* kReturn = "    return x\n";

  bool dense() const { return spec_.latent > 0; }
  bool has_bottleneck() const { return dense() || spec_.latent_channels > 0; }

  std::string autoencoder() const {
    return fmt::format(
        "def encode(self, images: Tensor) -> Tensor:\n"
        "    return self.encoder.forward(images)\n"
        "def decode(self, latent: Tensor{0}) -> Tensor:\n"
        "    return self.decoder.forward({1})\n"
        "def forward(self, images: Tensor) -> Tensor:\n"
        "    latent = self.encoder.forward(images)\n"
        "    size = [images.size(2), images.size(3)]\n"
        "    return self.decoder.forward({1})\n",
        dense() ? "" : ", size: List[int]", dense() ? "latent" : "latent, size");
  }

  std::string encoder() const {
    std::string code =
        fmt::format("def forward(self, images: Tensor) -> Tensor:\n{}    x = images{}\n",
                    check_images(), kChannelsLast);
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      code += fmt::format("    x = getattr(self, \"{}\").forward(x)\n", i);
    }
    if (has_bottleneck()) {
      code += fmt::format("    x = torch.{}, self.latent.weight, self.latent.bias)\n",
                          dense() ? "linear(x.flatten(1)" : "conv2d(x");
    }
    if (spec_.variational) code += "    x = x.chunk(2, 1)[0]\n";  // means before deviations
    return code + "    return x.contiguous()\n";
  }

  std::string check_images() const {
    const Size size = dense() ? spec_.size : smallest_input(levels_);
    return fmt::format(
        "    assert images.dim() == 4 and images.size(1) == {0}, \"the images' shape must be (N, "
        "{0}, H, W)\"\n"
        "    assert images.size(2) {1} {2} and images.size(3) {1} {3}, \"this model takes images "
        "of "
        "{4} {5}\"\n",
        spec_.channels, dense() ? "==" : ">=", size.h, size.w, to_string(size),
        dense() ? "only" : "and larger");
  }

  std::string decoder() const {
    const std::size_t count = levels_.size();
    std::string code = fmt::format("def forward(self, latent: Tensor{}) -> Tensor:\n{}{}",
                                   dense() ? "" : ", size: List[int]", sizes(), check_latent());
    code += has_bottleneck() ? "    x = self.latent.forward(latent)\n"
                             : fmt::format("    x = latent{}\n", kChannelsLast);
    for (std::size_t i = 0; i < count; ++i) {
      code += fmt::format("    x = getattr(self, \"{}\").forward(x, size{})\n", i, count - 1 - i);
    }
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
          "(N, "
          "{0})\"\n",
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
    return "def forward(self, x: Tensor) -> Tensor:\n" + layer + tail(channels);
  }

  std::string conv(const LevelSpec& level) const {
    return fmt::format(
        "def forward(self, x: Tensor) -> Tensor:\n"
        "    x = torch.conv2d(x, self.conv.weight, self.conv.bias, {}, {}, {})\n",
        list(level.stride), list(level.padding), list(level.dilation));
  }

  std::string conv_transpose(const LevelSpec& level) const {
    const auto missing = [](int which, const Axis& axis) {
      return fmt::format("size[{}] - ((x.size({}) - 1) * {} - {} + {})", which, which + 2,
                         axis.stride, 2 * axis.padding, axis.span());
    };
    return fmt::format(
        "def forward(self, x: Tensor, size: List[int]) -> Tensor:\n"
        "    output_padding = [{}, {}]\n"
        "    x = torch.conv_transpose2d(x, self.conv.weight, self.conv.bias, {}, {}, "
        "output_padding, 1, {})\n",
        missing(0, level.vertical()), missing(1, level.horizontal()), list(level.stride),
        list(level.padding), list(level.dilation));
  }

  /// As DetectorImpl::pass(): what the detector sees → its logits, four pixels each.
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
    return (grows ? conv_transpose(spec) : conv(spec)) +
           (layer.kind == DetectorLayer::Kind::last ? kReturn : tail(layer.out));
  }

  std::string tail(std::int64_t channels) const {
    const std::string act = "    x = " + activation() + "\n";
    const std::string norm =
        spec_.norm == Norm::none ? "" : "    x = " + normalisation(channels) + "\n";
    return (spec_.order == Order::conv_bn_act ? norm + act : act + norm) + kReturn;
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
        "torch.group_norm(x.contiguous(), {}, self.norm.weight, self.norm.bias, {}){}", groups,
        torch::nn::GroupNormOptions(groups, channels).eps(), kChannelsLast);
  }

  const ModelOptions& spec_;
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
