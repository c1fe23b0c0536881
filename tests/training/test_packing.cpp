#include "convae/training/packing.h"
#include "convae/training/shared_work.h"

#include <torch/types.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace convae::test_packing {
namespace {

struct Inner {
  std::string name;
  std::vector<std::pair<std::string, std::int64_t>> counts;
  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.name, self.counts);
  }
};

struct Outer {
  int number = 0;
  std::vector<Inner> inner;
  std::optional<std::string> text, nothing;
  std::array<std::string, 2> two;
  torch::Tensor tensor, undefined;
  std::vector<double> values;
  template <typename Self>
  static auto parts(Self& self) {
    return std::tie(self.number, self.inner, self.text, self.nothing, self.two, self.tensor,
                    self.undefined, self.values);
  }
};

Outer example() {
  return {7,
          {{std::string("a\0b", 3), {{"x", -1}, {"", 2}}}, {}},
          "told",
          std::nullopt,
          {"left", ""},
          torch::arange(6, torch::kDouble).view({2, 3}).t(),
          {},
          {std::numeric_limits<double>::quiet_NaN(), 0.1, -0.0}};
}

TEST(Packing, GivesBackWhatWasPacked) {
  std::string bytes;
  pack(bytes, example());
  pack(bytes, std::string("next"));
  std::string_view rest = bytes;
  Outer found;
  found.nothing = "to go";
  unpack(rest, found);
  std::string next;
  unpack(rest, next);
  EXPECT_EQ(next, "next");
  EXPECT_TRUE(rest.empty());
  EXPECT_EQ(found.number, 7);
  ASSERT_EQ(found.inner.size(), 2);
  EXPECT_EQ(found.inner[0].name, example().inner[0].name);
  EXPECT_EQ(found.inner[0].counts, example().inner[0].counts);
  EXPECT_EQ(found.text, "told");
  EXPECT_FALSE(found.nothing);
  EXPECT_EQ(found.two, example().two);
  EXPECT_TRUE(found.tensor.equal(example().tensor));
  EXPECT_EQ(found.tensor.scalar_type(), torch::kDouble);
  EXPECT_FALSE(found.undefined.defined());
  ASSERT_EQ(found.values.size(), 3);
  EXPECT_TRUE(std::isnan(found.values[0]));
  EXPECT_EQ(found.values[1], 0.1);
  EXPECT_TRUE(std::signbit(found.values[2]));
}

TEST(Packing, TooFewBytesAreAnError) {
  std::string bytes;
  pack(bytes, example());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    std::string_view rest = std::string_view(bytes).substr(0, size);
    Outer found;
    EXPECT_THROW(unpack(rest, found), std::runtime_error) << size;
  }
}

TEST(SharedWork, OfOneProcessIsUsedAtOnceAndInOrder) {
  std::vector<std::int64_t> used;
  SharedWork<std::int64_t> work(5, [&](std::int64_t item) { used.push_back(item); });
  EXPECT_EQ(work.first(), 0);
  EXPECT_EQ(work.step(), 1);
  for (std::int64_t i = 0; i < 5; ++i) {
    work.made(i == 2 ? std::nullopt : std::optional(i));
    EXPECT_EQ(used.size(), i < 2 ? i + 1 : i);
  }
  work.finish();
  EXPECT_EQ(used, (std::vector<std::int64_t>{0, 1, 3, 4}));
}

/// Two ranks of which this is the second: what the first says is known beforehand.
class SecondOfTwo : public Collective {
public:
  std::int64_t rank() const override { return 1; }
  std::int64_t size() const override { return 2; }
  void broadcast(std::span<std::byte> bytes, std::int64_t rank) override {
    if (rank == 1) return;
    ASSERT_LE(bytes.size(), said.size());
    std::memcpy(bytes.data(), said.data(), bytes.size());
    said.erase(0, bytes.size());
  }
  void say(const std::string& text) {
    pack(said, text.size());
    said += text;
  }
  std::string said;
};

TEST(SharedWork, IsHeardInTheOrderOfTheItemsWhoeverMadeThem) {
  using Turns = std::vector<std::optional<std::string>>;
  SecondOfTwo others;
  const auto say = [&](const Turns& turns) {
    std::string text;
    pack(text, turns);
    others.say(text);
  };
  // 11 items: this rank makes 1, 3, 5, 7, 9; the other has one more, and nothing of item 4.
  say({"0", "2", std::nullopt, "6"});
  say({"8", "10"});
  use_ranks(&others);
  std::vector<std::string> used;
  SharedWork<std::string> work(11, [&](std::string item) { used.push_back(std::move(item)); });
  for (auto i = work.first(); i < 11; i += work.step()) {
    work.made(i == 9 ? std::nullopt : std::optional(std::to_string(i)));
  }
  work.finish();
  {
    const Alone alone;
    EXPECT_EQ(ranks().size(), 1);
  }
  EXPECT_EQ(ranks().size(), 2);
  use_ranks(nullptr);
  EXPECT_EQ(used, (std::vector<std::string>{"0", "1", "2", "3", "5", "6", "7", "8", "10"}));
  EXPECT_TRUE(others.said.empty());
}

}  // namespace
}  // namespace convae::test_packing
