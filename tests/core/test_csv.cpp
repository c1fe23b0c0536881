#include "convae/core/csv.h"
#include "convae/tests/support.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

namespace convae::test_csv {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;
using test::write_text;

TEST(CsvTest, ReadsFieldsByTheNamesOfTheirColumns) {
  TemporaryFolder folder;
  write_text(folder / "t.csv",
             "\xef\xbb\xbfpath,size,mse\r\n\"a, \"\"b\"\".png\",7,0.5\r\n\nlast,-3,\n");
  CsvReader table(folder / "t.csv");
  ASSERT_TRUE(table.next());
  EXPECT_EQ(table.text("path"), "a, \"b\".png");
  EXPECT_EQ(table.integer("size", 0), 7);
  EXPECT_EQ(table.number("mse"), 0.5);
  ASSERT_TRUE(table.next()) << "a blank line is passed over";
  EXPECT_EQ(table.text("path"), "last");
  EXPECT_TRUE(std::isnan(table.number("mse"))) << "an empty field";
  EXPECT_FALSE(table.next());
  EXPECT_TRUE(table.has("mse"));
  EXPECT_FALSE(table.has("ssim"));
}

TEST(CsvTest, SaysInWhichLineAndColumnSomethingIsWrong) {
  TemporaryFolder folder;
  write_text(folder / "t.csv", "path,size\na.png,1\nb.png,many\nc.png\n");
  CsvReader table(folder / "t.csv");
  ASSERT_TRUE(table.next() && table.next());
  const auto reason = [](const auto& read) { return message_of<std::runtime_error>(read); };
  const std::string message = reason([&] { table.integer("size", 0); });
  EXPECT_TRUE(contains(message, "t.csv', line 3: size is 'many'")) << message;
  EXPECT_TRUE(contains(reason([&] { table.number("size"); }), "line 3"));
  EXPECT_TRUE(contains(reason([&] { table.text("mse"); }), "there is no 'mse'"));
  ASSERT_TRUE(table.next());
  EXPECT_TRUE(contains(reason([&] { table.text("size"); }), "line 4"));
}

TEST(CsvTest, NumbersMayBeInfiniteAndWholeOnesHaveBounds) {
  TemporaryFolder folder;
  write_text(folder / "t.csv", "a\ninf\n5\n");
  CsvReader table(folder / "t.csv");
  ASSERT_TRUE(table.next());
  EXPECT_EQ(table.number("a"), std::numeric_limits<double>::infinity());
  ASSERT_TRUE(table.next());
  EXPECT_EQ(table.integer("a", 5, 5), 5);
  EXPECT_THROW(table.integer("a", 6), std::runtime_error);
  EXPECT_THROW(table.integer("a", 0, 4), std::runtime_error);
}

TEST(CsvField, IsQuotedOnlyWhereNeeded) {
  EXPECT_EQ(csv_field("plain name.png"), "plain name.png");
  EXPECT_EQ(csv_field(""), "");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"a\""), "\"say \"\"a\"\"\"");
  EXPECT_EQ(csv_field("\xC3\xA4"), "\xC3\xA4");
}

TEST(CsvField, NeverHoldsALineBreakOrAControlCharacter) {
  EXPECT_EQ(csv_field("a\nb,c\r\t"), "\"a\\nb,c\\x0d\\t\"");
  EXPECT_EQ(csv_field("\xFF\x1B[31m"), "\\xff\\x1b[31m");
}

TEST(CsvNumber, ReadsBackAsTheSameDouble) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> mantissa(-1, 1);
  for (int i = 0; i < 2000; ++i) {
    const double value = std::ldexp(mantissa(random), static_cast<int>(random() % 2000) - 1000);
    EXPECT_EQ(std::strtod(csv_number(value).c_str(), nullptr), value);
  }
}

TEST(CsvNumber, IsAsShortAsItCanBe) {
  EXPECT_EQ(csv_number(0.1), "0.1");
  EXPECT_EQ(csv_number(30), "30");
  EXPECT_EQ(csv_number(-2.5), "-2.5");
  EXPECT_EQ(csv_number(0), "0");
  EXPECT_EQ(csv_number(1e-5), "1e-05");
  EXPECT_EQ(csv_number(std::numeric_limits<double>::quiet_NaN()), "");
}

}  // namespace
}  // namespace convae::test_csv
