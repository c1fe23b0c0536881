#include "convae/data/grouping.h"
#include "convae/tests/support.h"

namespace convae::test_grouping {
namespace {

TEST(Grouping, WithoutAPatternEveryImageIsAlone) {
  const Grouping none;
  EXPECT_FALSE(none.groups());
  EXPECT_EQ(none.of("a/b.png"), "a/b.png");
  EXPECT_FALSE(none.found_in("a/b.png"));
}

TEST(Grouping, IsTheFirstParenthesis) {
  const Grouping parts("part(\\d+)_(\\d+)");
  EXPECT_TRUE(parts.groups());
  EXPECT_EQ(parts.of("shift2/part17_3.png"), "17");
  EXPECT_EQ(parts.of("part17_4.jpg"), "17");
  EXPECT_EQ(parts.found_in("part17_4.jpg"), "17");
}

TEST(Grouping, OrTheWholeMatch) {
  EXPECT_EQ(Grouping("part\\d+").of("x/part17_3.png"), "part17");
  EXPECT_EQ(Grouping("^[^/]+/").of("tray/3.png"), "tray/");
}

TEST(Grouping, WhatDoesNotMatchIsAlone) {
  const Grouping parts("part(\\d*)");
  EXPECT_EQ(parts.of("other.png"), "other.png");
  EXPECT_FALSE(parts.found_in("other.png"));
  EXPECT_EQ(parts.of("part.png"), "part.png") << "an empty match says nothing";
}

TEST(Grouping, ABadPatternIsRefusedByName) {
  const std::string message =
      test::message_of<std::invalid_argument>([] { Grouping("part(\\d+"); });
  EXPECT_TRUE(test::contains(message, "group-regex 'part(\\d+'")) << message;
}

TEST(Grouping, ALongPatternIsRefusedBeforeItIsParsed) {
  const std::size_t longest = Grouping::kLongestPattern;
  EXPECT_NO_THROW(Grouping(std::string(longest / 2, '(') + std::string(longest / 2, ')')));
  const std::string message = test::message_of<std::invalid_argument>(
      [] { Grouping(std::string(100000, '(') + std::string(100000, ')')); });
  EXPECT_TRUE(test::contains(message, "200000 characters; at most 1000")) << message;
}

}  // namespace
}  // namespace convae::test_grouping
