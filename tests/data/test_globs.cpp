#include "convae/data/globs.h"
#include "convae/tests/support.h"

namespace convae::test_globs {
namespace {

struct Case {
  const char* glob;
  std::vector<const char*> matching, others;
};

TEST(Globs, MatchNamesAndPaths) {
  const Case cases[] = {
      // Without a slash: the base name at any depth.
      {"*.png", {"a.png", "x/y/a.png", ".png"}, {"a.jpg", "a.png/b.jpg", "a.pngx"}},
      {"*_GT.*", {"1_GT.png", "d/1_GT.bmp"}, {"1.png", "x_GT.d/1"}},
      {"a?.png", {"ab.png", "x/a1.png"}, {"a.png", "abc.png", "a/.png"}},
      {"[a-c]*", {"a", "x/bcd"}, {"d", "a/d", ""}},
      {"[!0-9]*", {"a1", "-"}, {"1a"}},
      {"[]x]", {"]", "x"}, {"y"}},
      {"[!]x]", {"y"}, {"]", "x", "yx]"}},
      {"[\xE0-\xFC]", {"\xE4"}, {"\xFF", "a"}},  // Latin-1
      {"[x", {"[x"}, {"x"}},
      {"a\\*b", {"a*b"}, {"acb"}},
      {"*a*a*b", {"xaaab", "aab"}, {"ab", "aaa"}},
      // With one: the whole path.
      {"test/*", {"test/a"}, {"test/a/b", "x/test/a", "test"}},
      {"test/**", {"test/a", "test/a/b"}, {"test", "tests/a", "x/test/a"}},
      {"test/", {"test/a/b"}, {"test", "x/test/a"}},
      {"./test/*", {"test/a"}, {"x/test/a"}},
      {"**/test/**", {"test/a", "x/test/a", "x/y/test/z/a"}, {"xtest/a", "x/tests/a"}},
      {"a/**/b", {"a/b", "a/x/b", "a/x/y/b"}, {"ab", "a/xb", "x/a/b"}},
      {"a/**/b/*.png", {"a/b/1.png", "a/b/b/1.png", "a/c/b/1.png"}, {"a/b/c/1.png"}},
      {"a/**b", {"a/b", "a/x/yb"}, {"a/bc"}},
      {"a/*b*/c", {"a/xby/c"}, {"a/x/b/c", "a/b/x/c"}},
      {"**", {"a", "a/b"}, {}},
      {"a/[!x]b", {"a/yb"}, {"a/xb", "a//b"}},
      {"gr\xC3\xB6*/*",
       {"gr\xC3\xB6\xC3\x9F"
        "e/a"},
       {"gro/a"}},
      // Characters of UTF-8 are single ones; a byte that is none is one, too.
      {"?.png", {"ä.png", "x/日.png", "\xFF.png"}, {"ab.png", "äö.png"}},
      {"*??.png", {"ab.png", "äö.png", "1日2.png"}, {"日.png"}},
      {"**/x?y/*", {"a/xäy/b"}, {"a/xy/b", "a/xääy/b"}},
      {"[äb]c",
       {"äc", "bc"},
       {"öc", "c",
        "\xC3"
        "c"}},
      {"[!ä]", {"ö", "a"}, {"ä", "öö"}},
      {"[à-ü]*", {"ö1", "é"}, {"e", "ß"}},
  };
  for (const Case& c : cases) {
    for (const char* name : c.matching) EXPECT_TRUE(matches_glob(c.glob, name)) << c.glob << name;
    for (const char* name : c.others) EXPECT_FALSE(matches_glob(c.glob, name)) << c.glob << name;
  }
}

TEST(Globs, OfATextMatchItAlone) {
  for (const char* name : {"a.png", "[1]", "*", "?x", "a\\b", "[!a]"}) {
    EXPECT_TRUE(matches_glob(glob_of(name), name)) << name;
    EXPECT_FALSE(matches_glob(glob_of(name), "1")) << name;
  }
}

TEST(Globs, TakeNoTimeOnNamesThatNearlyMatch) {
  std::string glob;
  for (int i = 0; i < 60; ++i) glob += "*a";
  EXPECT_FALSE(matches_glob(glob + "b", std::string(250, 'a')));
  EXPECT_FALSE(matches_glob("x/**/" + glob + "/**b", "x/" + std::string(250, 'a') + "/c"));
}

}  // namespace
}  // namespace convae::test_globs
