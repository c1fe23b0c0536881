#include "convae/tests/support.h"
#include "convae/training/ema.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

namespace convae::test_ema {
namespace {

using test::contains;
using test::message_of;

ModelOptions small() { return test::small_network("4", 1); }

void fill(Autoencoder& net, double value) {
  torch::NoGradGuard no_grad;
  for (torch::Tensor& weight : net->parameters()) weight.fill_(value);
}

TEST(WeightAverage, FollowsTheFormula) {
  Autoencoder net(small());
  fill(net, 1);
  WeightAverage average(net, 0.5);
  double expected = 1;
  for (std::int64_t step = 1; step <= 20; ++step) {
    const auto value = static_cast<double>(step * step);
    fill(net, value);
    average.update(step);
    const double decay =
        std::min(0.5, (1.0 + static_cast<double>(step)) / (10.0 + static_cast<double>(step)));
    expected = decay * expected + (1 - decay) * value;
    EXPECT_NEAR(average.state().at("ema.encoder.0.conv.weight").mean().item<double>(), expected,
                1e-5 * expected);
  }
}

TEST(WeightAverage, AveragesRunningStatisticsToo) {
  Autoencoder net(small());
  WeightAverage average(net, 0.9);
  EXPECT_TRUE(average.state().contains("ema.encoder.0.norm.running_var"));
  EXPECT_FALSE(average.state().contains("ema.encoder.0.norm.num_batches_tracked"));
}

TEST(WeightAverage, IsUsedAsLongAsAskedFor) {
  Autoencoder net(small());
  fill(net, 1);
  WeightAverage average(net, 0.9);
  fill(net, 3);
  {
    const UseAverage use(average);
    EXPECT_EQ(net->parameters()[0].mean().item<double>(), 1);
  }
  EXPECT_EQ(net->parameters()[0].mean().item<double>(), 3);
  EXPECT_EQ(average.state().at("ema.encoder.0.conv.weight").mean().item<double>(), 1);
}

TEST(WeightAverage, OffKeepsNothing) {
  Autoencoder net(small());
  WeightAverage average(net, 0);
  fill(net, 2);
  average.update(1);
  EXPECT_TRUE(average.state().empty());
  const UseAverage use(average);
  EXPECT_EQ(net->parameters()[0].mean().item<double>(), 2);
}

TEST(WeightAverage, IsTakenUpWhereItWasLeft) {
  Autoencoder net(small());
  fill(net, 1);
  WeightAverage left(net, 0.9);
  fill(net, 5);
  left.update(100);
  WeightAverage taken_up(net, 0.9);
  taken_up.load(left.state(), "file");
  const auto state = taken_up.state();
  for (const auto& [name, tensor] : left.state()) EXPECT_TRUE(torch::equal(state.at(name), tensor));
  // A file without one: begins with the weights there are.
  taken_up.load({}, "file");
  EXPECT_EQ(taken_up.state().at("ema.encoder.0.conv.weight").mean().item<double>(), 5);
  EXPECT_TRUE(contains(message_of<std::runtime_error>([&] {
                         taken_up.load({{"ema.encoder.0.conv.weight", torch::zeros({2})}}, "file");
                       }),
                       "file: 'ema.encoder.0.conv.weight' has shape [2]"));
}

}  // namespace
}  // namespace convae::test_ema
