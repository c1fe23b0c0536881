#include "convae/exporting/script.h"
#include "convae/inspection/inspector.h"
#include "convae/inspection/scorer.h"
#include "convae/inspection/views.h"
#include "convae/models/detector.h"
#include "convae/models/gaussian.h"

#include <fmt/format.h>

namespace convae {
namespace {

namespace jit = torch::jit;

/// torch.float32 and torch.float64.
constexpr int kSingle = static_cast<int>(at::kFloat), kDouble = static_cast<int>(at::kDouble);

/// As in inspection/features.cpp; planes are (C, 1, h, w), maps (K, h, w).
std::string maps_source() {
  return fmt::format(
      R"py(
def blurred(self, planes: Tensor, kernel: Tensor) -> Tensor:
    r = kernel.size(3) // 2
    x = torch.conv2d(torch.replication_pad2d(planes, [r, r, 0, 0]), kernel)
    return torch.conv2d(torch.replication_pad2d(x, [0, 0, r, r]), kernel.transpose(2, 3))

def gradient(self, planes: Tensor, axis: int) -> Tensor:
    last = planes.size(axis) - 1
    after = torch.cat([planes.narrow(axis, 1, last), planes.narrow(axis, last, 1)], axis)
    before = torch.cat([planes.narrow(axis, 0, 1), planes.narrow(axis, 0, last)], axis)
    return (after - before).abs() / 2

def textures(self, planes: Tensor, brightness: float) -> Tensor:
    fine = self.blurred(planes, self.fine)
    rough = self.blurred((planes - fine).square(), self.around).clamp_min(0).sqrt()
    maps = [self.gradient(fine, 2), self.gradient(fine, 3), rough]
    maps = (torch.cat(maps, 1).amax([0]) - {rounding}).clamp_min(0)
    return torch.cat([maps / maps.mean([1, 2], True).clamp_min({smallest}), maps / max(brightness, {smallest})])

def halved(self, planes: Tensor) -> Tensor:
    return torch.avg_pool2d(planes, [2, 2], [2, 2], [0, 0], True, False)
)py",
      fmt::arg("smallest", kSmallestMean), fmt::arg("rounding", kRounding));
}

/// As in inspection/places.cpp.
std::string places_source() {
  return fmt::format(
      R"py(
def places_of_pixels(self, n: int, length: int, level: int) -> Tensor:
    at = (torch.arange(n, dtype={single}, device=self.mean.device) + 0.5) * (2 ** level)
    at = at.clamp_max(length - 0.25)
    inner = length - 2.0 * {border}
    if inner < {inner_places}:
        place = at * ({places} / length)
    else:
        beyond = (at - {border}).clamp_min(0)
        past = (beyond - inner).clamp_min(0)
        between = (beyond - past) * ({inner_places} / inner)
        place = (at.clamp_max({border}) + past) / {pixels} + between
    place = (place - 0.5).clamp(0, {places} - 1).unsqueeze(1)
    every = torch.arange({places}, dtype={single}, device=self.mean.device)
    return (1 - (place - every).abs()).clamp_min(0)

def standardised(self, maps: Tensor, level: int, size: List[int], known: Tensor) -> Tensor:
    rows = self.places_of_pixels(maps.size(1), size[0], level)
    columns = self.places_of_pixels(maps.size(2), size[1], level)
    at_pixels = rows.matmul(known).matmul(columns.t())
    return maps * at_pixels[0] - at_pixels[1]
)py",
      fmt::arg("single", kSingle), fmt::arg("border", kBorder), fmt::arg("places", kPlaces),
      fmt::arg("inner_places", static_cast<double>(kPlaces) - 2 * kBorderPlaces),
      fmt::arg("pixels", kPixelsAPlace));
}

/// As in inspection/scorer.cpp and heat.cpp.
std::string score_source() {
  return fmt::format(
      R"py(
def pyramid(self, image: Tensor, textures: bool, brightness: float, known: Tensor) -> List[Tensor]:
    maps: List[Tensor] = []
    planes = image.transpose(0, 1)
    for level in range({levels}):
        planes = self.halved(planes)
        values = self.textures(planes, brightness) if textures else planes[:, 0]
        map = self.standardised(values, {first} + level, [image.size(2), image.size(3)], known[level])
        if textures:
            map = torch.cat([map, -map[{rough}::{rough_step}]])
        maps.append(map)
    return maps

def peaks(self, map: Tensor) -> Tensor:
    flat = map.flatten(1)
    share = {share_of_one} if flat.size(0) == 1 else {share_of_textures}
    count = max(1, int(share * flat.size(1) + 0.5))
    highest = torch.topk(flat, count, 1, True, False)[0].to({double}).mean([1])
    return highest.clamp_min({smallest}).log()

def heat(self, maps: List[Tensor], size: List[int]) -> Tensor:
    shares: List[Tensor] = []
    first = 0
    for map in maps:
        count = map.size(0)
        weights = self.heat_weights[first:first + count].view([-1, 1, 1])
        shares.append((weights * map.clamp(0, {most_deviations}).log1p()).sum([0]))
        first += count
    sum = self.heat_bias.expand([1, 1, size[0], size[1]])
    for level in range({levels}):
        share = torch.stack(shares[level::{levels}]).sum([0])
        sum = sum + torch.upsample_bilinear2d(share[None, None], size, False)
    return sum.clamp(0, {most_heat})

def verdict(self, maps: List[Tensor], size: List[int]) -> Tuple[Tensor, Tensor]:
    features = torch.cat([self.peaks(map) for map in maps])
    z = ((features - self.mean) / self.deviation).clamp(-{farthest}, {farthest})
    ratios = self.weights.matmul(z) + self.biases
    largest = ratios.max()
    score = ((largest + torch.maximum(ratios.mean(), largest - {largest_gap})) / 2).view([1])
    return score.to({single}), self.heat(maps, size)
)py",
      fmt::arg("levels", kPyramidLevels), fmt::arg("first", kFirstLevel),
      fmt::arg("rough", kRoughness), fmt::arg("rough_step", kRawMaps),
      fmt::arg("share_of_one", peak_share(1)),
      fmt::arg("share_of_textures", peak_share(kTextureMaps)),
      fmt::arg("smallest", AnomalyScorer::kSmallestPeak), fmt::arg("double", kDouble),
      fmt::arg("single", kSingle), fmt::arg("farthest", AnomalyScorer::kFarthest),
      fmt::arg("largest_gap", FaultClassifier::kLargestGap), fmt::arg("most_heat", HeatMap::kMost),
      fmt::arg("most_deviations", kMostDeviations));
}

/// As in models/detector.cpp.
std::string detect_source() {
  return fmt::format(
      R"py(
def detect(self, image: Tensor, reconstruction: Tensor) -> Tensor:
    blurred = self.blurred(image.transpose(0, 1), self.detector_blur).transpose(0, 1)
    x = torch.cat([image - 0.5, reconstruction - 0.5, (image - reconstruction) * {gain},
                   (image - blurred) * {gain}], 1)
    x = torch.replication_pad2d(x, [0, x.size(3) % 2, 0, x.size(2) % 2])
    x = torch.pixel_unshuffle(x, 2).contiguous(memory_format=2)
    map = torch.pixel_shuffle(self.network.detector.forward(x), 2)
    return map[:, :, :image.size(2), :image.size(3)].clamp(-{most}, {most})
)py",
      fmt::arg("gain", DetectorImpl::kDifferenceGain), fmt::arg("most", kMostLogit));
}

/// As in inspection/views.cpp.
std::string forward_source(const ModelOptions& model, Size fixed) {
  const Size size = fixed ? fixed : smallest_input(model.levels);
  const bool detects = !model.detector.empty();
  const char* detected = detects ? "    maps += self.pyramid(self.detect(image, reconstruction), "
                                   "False, brightness, self.places1)\n"
                                 : "";
  const bool tanh = model.output == Output::tanh;
  const char* unit = tanh                             ? "((x + 1) / 2)"
                     : model.output == Output::linear ? "x.clamp(0, 1)"
                                                      : "x";
  return fmt::format(
      R"py(
def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
    is_one = image.dim() == 4 and image.size(0) == 1 and image.size(1) == {channels}
    assert is_one, "the image's shape must be (1, {channels}, H, W)"
    fits = image.size(2) {compared} {h} and image.size(3) {compared} {w}
    assert fits, "this inspector takes images of {h}x{w} {which}"
    size = [image.size(2), image.size(3)]
    x = self.network.forward({seen})
    reconstruction = {unit}
    brightness = float(image.mean())
    maps = self.pyramid(image - reconstruction, True, brightness, self.places0)
{detected}    maps += self.pyramid(image, True, brightness, self.places{last})
    return self.verdict(maps, size)
)py",
      fmt::arg("channels", model.channels), fmt::arg("compared", fixed ? "==" : ">="),
      fmt::arg("h", size.h), fmt::arg("w", size.w),
      fmt::arg("which", fixed ? "only" : "and larger"),
      fmt::arg("seen", tanh ? "image * 2 - 1" : "image"), fmt::arg("unit", unit),
      fmt::arg("detected", detected), fmt::arg("last", detects ? 2 : 1));
}

}  // namespace

void write_torchscript(const std::filesystem::path& path, const Inspector& inspector, Size fixed,
                       const ExportDescription& description) {
  const auto types = std::make_shared<jit::CompilationUnit>();
  jit::Module script(c10::QualifiedName("__torch__.convae.inspector"), types);
  script.register_attribute("training", c10::BoolType::get(), false);
  script.register_module("network", scripted_part(inspector.model(), Part::autoencoder, types));
  const AnomalyScorer& scorer = inspector.scorer();
  const torch::TensorList scales = scorer.scales();
  for (std::size_t first = 0; first < scales.size(); first += kPyramidLevels) {
    script.register_buffer(fmt::format("places{}", first / kPyramidLevels),
                           torch::stack(scales.slice(first, kPyramidLevels)));
  }
  const FaultClassifier& classifier = scorer.classifier(kNetwork);
  const HeatMap& heat = scorer.heat_map(kNetwork);
  script.register_buffer("fine", gaussian_kernel(kFineBlur));
  script.register_buffer("around", gaussian_kernel(kRoughnessBlur));
  script.register_buffer("mean", scorer.mean());
  script.register_buffer("deviation", scorer.deviation());
  script.register_buffer("weights", classifier.weights);
  script.register_buffer("biases", classifier.biases);
  script.register_buffer("heat_weights", heat.weights);
  script.register_buffer("heat_bias", heat.bias);
  script.define(maps_source());
  script.define(places_source());
  script.define(score_source());
  if (!inspector.model().options().detector.empty()) {
    script.register_buffer("detector_blur", gaussian_kernel(DetectorImpl::kBlurSigma));
    script.define(detect_source());
  }
  script.define(forward_source(inspector.model().options(), fixed));
  write_script(path, script, description);
}

}  // namespace convae
