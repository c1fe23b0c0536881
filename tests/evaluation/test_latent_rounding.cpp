#include "convae/evaluation/references.h"
#include "convae/tests/support.h"

namespace convae::test_latent_rounding {
namespace {

using test::difference;

/// Latents with a range of its own for every channel.
torch::Tensor latents(at::IntArrayRef sizes, std::uint64_t seed) {
  std::vector<std::int64_t> channels(sizes.size(), 1);
  channels[1] = sizes[1];
  const torch::Tensor scale = torch::arange(1, sizes[1] + 1).view(channels);
  return test::gaussian(sizes, seed) * scale + 10 * scale;
}

TEST(LatentRounding, GivesTheNearestOf256ValuesOfEachChannel) {
  for (const std::vector<std::int64_t>& sizes :
       {std::vector<std::int64_t>{40, 3}, std::vector<std::int64_t>{5, 3, 4, 6}}) {
    const torch::Tensor x = latents(sizes, 1);
    LatentRounding rounding;
    rounding.see(x);
    const torch::Tensor y = rounding.round(x);
    for (std::int64_t c = 0; c < 3; ++c) {
      const torch::Tensor before = x.select(1, c), after = y.select(1, c);
      const double low = before.min().item<double>(), high = before.max().item<double>();
      const double step = (high - low) / 255;
      EXPECT_LE(difference(before, after), 0.5 * step * (1 + 1e-3));
      EXPECT_GT(difference(before, after), 0.3 * step);
      const torch::Tensor codes = (after.to(torch::kDouble) - low) / step;
      EXPECT_LT(difference(codes, codes.round()), 1e-2);
      EXPECT_NEAR(after.min().item<double>(), low, 1e-5 * high);
      EXPECT_NEAR(after.max().item<double>(), high, 1e-5 * high);
    }
  }
}

TEST(LatentRounding, SeesSeveralBatchesAsOne) {
  const torch::Tensor x = latents({20, 3, 2, 2}, 2);
  LatentRounding at_once, in_parts;
  at_once.see(x);
  in_parts.see(x.narrow(0, 0, 7));
  in_parts.see(x.narrow(0, 7, 13));
  EXPECT_TRUE(torch::equal(at_once.round(x), in_parts.round(x)));
}

TEST(LatentRounding, CutsWhatLiesOutside) {
  LatentRounding rounding;
  rounding.see(torch::tensor({{0.0F, 1.0F}, {2.0F, 3.0F}}));
  const torch::Tensor cut = rounding.round(torch::tensor({{-5.0F, 9.0F}, {1.0F, 1.0F}}));
  EXPECT_LT(difference(cut, torch::tensor({{0.0, 3.0}, {1.0, 1.0}})), 0.005);
  EXPECT_EQ(cut[0][0].item<float>(), 0);
}

TEST(LatentRounding, KeepsAChannelThatNeverVaries) {
  const torch::Tensor x = torch::full({4, 2}, 0.7F);
  LatentRounding rounding;
  rounding.see(x);
  EXPECT_TRUE(torch::equal(rounding.round(x), x));
}

}  // namespace
}  // namespace convae::test_latent_rounding
