#include "convae/tests/support.h"
#include "convae/training/loss_terms.h"

#include <gtest/gtest.h>

namespace convae::test_loss_terms {
namespace {

using test::contains;
using test::message_of;

TEST(LossTerms, AreReadAndWritten) {
  EXPECT_EQ(parse_loss("mse"), (Loss{{LossKind::mse, 1}}));
  EXPECT_EQ(parse_loss(" mse+0.2 * ssim "), (Loss{{LossKind::mse, 1}, {LossKind::ssim, 0.2}}));
  EXPECT_EQ(parse_loss("1e-1*l1+1E+1*ms-ssim"),
            (Loss{{LossKind::l1, 0.1}, {LossKind::ms_ssim, 10}}));
  for (const char* text : {"mse", "l1", "charbonnier", "ssim", "ms-ssim", "mse + 0.2*ssim",
                           "0.5*charbonnier + 0.5*ms-ssim", "1e-30*mse + 3*l1"}) {
    EXPECT_EQ(to_string(parse_loss(text)), text);
  }
}

TEST(LossTerms, AreRefusedWithWhatWasExpected) {
  const auto refusal = [](const char* text) {
    return message_of<std::invalid_argument>([&] { parse_loss(text); });
  };
  for (const char* text : {"", "mae", "mse +", "+ mse", "mse ssim", "mse*2", "2*", "mse++ssim"}) {
    EXPECT_TRUE(contains(refusal(text), "expected mse, l1, charbonnier, ssim or ms-ssim") ||
                contains(refusal(text), "expected a weight above 0"))
        << text;
  }
  for (const char* text : {"0*mse", "-1*mse", "nan*mse", "inf*mse", "x*mse", "*mse"}) {
    EXPECT_TRUE(contains(refusal(text), "expected a weight above 0")) << text;
  }
  EXPECT_TRUE(contains(refusal("mse + 2*mse"), "'mse' is given twice"));
}

TEST(LossTerms, KnowWhatNeedsAWindow) {
  EXPECT_FALSE(needs_window(parse_loss("mse + l1 + charbonnier")));
  EXPECT_TRUE(needs_window(parse_loss("mse + 0.1*ssim")));
  EXPECT_TRUE(needs_window(parse_loss("ms-ssim")));
}

}  // namespace
}  // namespace convae::test_loss_terms
