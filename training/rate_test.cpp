#include "convae/training/rate_test.h"

#include "convae/core/stopwatch.h"
#include "convae/core/text.h"
#include "convae/training/checkpoint.h"
#include "convae/training/trainer.h"

#include <ATen/CPUGeneratorImpl.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace convae {
namespace {

constexpr std::int64_t kSteps = 100;
constexpr std::int64_t kFewSteps = 30;  // where time is short
constexpr double kDecades = 5;          // from the lowest rate to the highest
constexpr double kBlownUp = 4;          // times the lowest loss …
constexpr std::size_t kTogether = 8;    // … of so many steps: a single one may be high by chance
constexpr double kMostOfTime = 0.1;     // of a run that trains for a given time …
constexpr double kLongest = 0.25;       // … even if that is fewer than kFewSteps
constexpr std::size_t kFewest = 20;     // points that say something
// Of the curve's logarithms:
constexpr double kFallen = 0.8;    // share of the fall that is done at the rate looked for
constexpr double kSomeFall = 0.2;  // a fall or rise that is more than noise …
constexpr double kErrors = 6;      // … where it is more than so many standard errors, too
// Rate at which trained weights get worse, over the one looked for.
constexpr double kRiseOverFallen = 8;

/// Puts the state of LibTorch's own generator back: making a network draws from it.
class KeepGenerator {
public:
  KeepGenerator() : state_(generator_.get_state()) {}
  ~KeepGenerator() { generator_.set_state(state_); }
  KeepGenerator(const KeepGenerator&) = delete;
  KeepGenerator& operator=(const KeepGenerator&) = delete;

private:
  at::Generator generator_ = at::detail::getDefaultCPUGenerator();
  at::Tensor state_;
};

double log_loss(const RatePoint& point) { return std::log(std::max(point.loss, 1e-12)); }

/// How many steps to either side a smoothed curve takes in: an eighth of all together.
std::ptrdiff_t reach_of(const std::vector<RatePoint>& curve) { return std::ssize(curve) / 16; }

/// Logarithms of the losses, smoothed.
std::vector<double> smoothed(const std::vector<RatePoint>& curve) {
  const std::ptrdiff_t count = std::ssize(curve), reach = reach_of(curve);
  std::vector<double> means;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, i - reach);
    const std::ptrdiff_t end = std::min(count, i + reach + 1);
    double sum = 0;
    for (std::ptrdiff_t j = begin; j < end; ++j) sum += log_loss(curve[j]);
    means.push_back(sum / static_cast<double>(end - begin));
  }
  return means;
}

/// Standard error of the smoothed curve.
double error_of(const std::vector<RatePoint>& curve, const std::vector<double>& losses) {
  double squares = 0;
  for (std::size_t i = 0; i < curve.size(); ++i) {
    squares += std::pow(log_loss(curve[i]) - losses[i], 2);
  }
  // Each step counts in its own mean, which is of 2 reach + 1.
  return std::sqrt(squares / static_cast<double>(std::ssize(curve) * 2 * reach_of(curve)));
}

double mean_of_last(const std::vector<RatePoint>& curve) {
  const std::size_t count = std::min(curve.size(), kTogether);
  double sum = 0;
  for (std::size_t i = curve.size() - count; i < curve.size(); ++i) sum += curve[i].loss;
  return sum / static_cast<double>(count);
}

}  // namespace

std::vector<RatePoint> test_rates(const Autoencoder& net, ImageDataset& dataset,
                                  const TrainOptions& train, torch::Device device,
                                  std::int64_t workers, std::int64_t pixels_together,
                                  const Callbacks& callbacks) {
  const KeepGenerator keep;
  TrainOptions options = train;
  options.epochs = options.max_steps = kSteps;
  options.time = options.ema = 0;
  options.on_nan = OnNan::stop;
  Autoencoder copy(net->options());
  load_weights(copy, weights_of(*net), "the network");
  copy->to(device);
  Trainer trainer(copy, dataset, options, device, workers);
  trainer.limit_pixels_together(pixels_together);
  const double first_rate = train.optimizer == OptimizerKind::sgd ? 1e-3 : 1e-5;
  const Stopwatch time;
  double share = 0;  // of the way from the lowest rate to the highest
  trainer.rate = [&] {
    share = static_cast<double>(trainer.progress().step) / (kSteps - 1);
    if (train.time > 0) {
      const double by_time = time.seconds() / (kMostOfTime * train.time);
      const double by_steps = static_cast<double>(trainer.progress().step) / (kFewSteps - 1);
      share = std::max(share, std::min(by_time, by_steps));
      if (time.seconds() > kLongest * train.time) share = 1;
    }
    return first_rate * std::pow(10, kDecades * std::min(share, 1.0));
  };
  std::vector<RatePoint> curve;
  double loss_before = 0, lowest = std::numeric_limits<double>::infinity();
  std::int64_t images_before = 0;
  const auto after_step = [&] {
    const Progress& now = trainer.progress();
    const auto images = static_cast<double>(now.epoch_images - images_before);
    callbacks.show("learning rates", now.step * train.batch_size, kSteps * train.batch_size);
    if (images > 0) {
      curve.push_back({now.epoch_lr, (now.epoch_loss_sum - loss_before) / images});
      const double loss = mean_of_last(curve);
      lowest = std::min(lowest, loss);
      if (loss > kBlownUp * lowest && curve.size() >= kFewest) share = 1;
    }
    loss_before = now.epoch_loss_sum;
    images_before = now.epoch_images;
    return share >= 1 || callbacks.stopped();
  };
  try {
    while (!trainer.finished() && share < 1 && !callbacks.stopped()) {
      loss_before = 0;
      images_before = 0;
      trainer.train_steps(after_step);
      trainer.close_epoch();
    }
  } catch (const NonFiniteError&) {
    // Blown up: the curve is complete.
  }
  return callbacks.stopped() ? std::vector<RatePoint>{} : curve;
}

/// The lowest point of the curve is of no use: behind the fall, it is flat over a decade and more,
/// and noise decides where it is lowest. Where four fifths of the fall are done is much the same
/// for all seeds. Smith's upper bound of the useful rates, where the loss stops to fall, lies
/// there; with Adam it is the right peak of one-cycle (Smith & Topin 2018), and schedules that
/// spend most of their time near their highest rate want a third of it. SGD's loss
/// falls at about a quarter of the rates that suit it. docs/training.md has the measurements.
std::optional<double> rate_from(const std::vector<RatePoint>& curve, const TrainOptions& train) {
  if (curve.size() < kFewest) return std::nullopt;
  const std::vector<double> losses = smoothed(curve);
  const auto lowest = std::ranges::min_element(losses);
  const double fall = losses.front() - *lowest;
  double rate = 0;
  const double much = kSomeFall + kErrors * error_of(curve, losses);
  if (fall >= much) {
    const auto found = std::ranges::find_if(
        losses, [&](double loss) { return losses.front() - loss >= kFallen * fall; });
    rate = curve[found - losses.begin()].rate;
  } else {  // of trained weights: there is nothing left to fall
    const auto found =
        std::find_if(lowest, losses.end(), [&](double loss) { return loss >= *lowest + much; });
    if (found == losses.end()) return std::nullopt;
    rate = curve[found - losses.begin()].rate / kRiseOverFallen;
  }
  // In fewer steps, rates have to be higher to move the weights as far.
  const double decades = std::log10(curve.back().rate / curve.front().rate);
  const double steps_a_decade = static_cast<double>(curve.size() - 1) / decades;
  rate *= std::min(1.0, steps_a_decade / ((kSteps - 1) / kDecades));
  if (train.optimizer == OptimizerKind::sgd) rate *= 4;
  if (train.schedule != ScheduleKind::one_cycle) rate /= 3;
  return parse_number(fmt::format("{:.1e}", rate));
}

}  // namespace convae
