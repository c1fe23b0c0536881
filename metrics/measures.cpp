#include "convae/metrics/measures.h"

#include "convae/metrics/image_metrics.h"
#include "convae/metrics/statistics.h"

namespace convae {
namespace {

void append(std::vector<double>& values, const torch::Tensor& more) {
  const auto* numbers = more.const_data_ptr<double>();
  values.insert(values.end(), numbers, numbers + more.numel());
}

MeanInterval mean_of(const std::vector<double>& values) {
  return {spread_of(values).mean, bootstrap_mean_interval(values)};
}

}  // namespace

void ImageMeasures::add(const torch::Tensor& reconstructions, const torch::Tensor& targets) {
  auto& [mses, psnrs, ssims, ms_ssims] = values_;
  append(mses, image_mse(reconstructions, targets));
  while (psnrs.size() < mses.size()) psnrs.push_back(psnr(mses[psnrs.size()]));
  append(ssims, image_ssim(reconstructions, targets));
  append(ms_ssims, image_ms_ssim(reconstructions, targets));
}

ImageMeasures& ImageMeasures::operator+=(const ImageMeasures& other) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    values_[i].insert(values_[i].end(), other.values_[i].begin(), other.values_[i].end());
  }
  return *this;
}

const std::vector<double>& ImageMeasures::values(Measure measure) const {
  return values_[static_cast<std::size_t>(measure)];
}

MeanInterval ImageMeasures::mean(Measure measure) const { return mean_of(values(measure)); }

MeanInterval mean_difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < a.size(); ++i) differences.push_back(a[i] - b[i]);
  return mean_of(differences);
}

}  // namespace convae
