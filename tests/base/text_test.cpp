#include "trivet/base/text.h"

#include <gtest/gtest.h>

namespace trivet {
namespace {

const std::vector<std::string> kKeys = {"learning_rate", "epochs", "batch", "seed", "weight_decay", "lr"};

TEST(Nearest, FindsTheWordMeantByATypingError) {
  EXPECT_EQ(nearest("learing_rate", kKeys), "learning_rate");  // a letter left out
  EXPECT_EQ(nearest("batchh", kKeys), "batch");                // one too many
  EXPECT_EQ(nearest("seef", kKeys), "seed");                   // another one
  EXPECT_EQ(nearest("epohcs", kKeys), "epochs");               // two changed round
  EXPECT_EQ(nearest("wieght-decay", kKeys), "weight_decay");   // two errors
  EXPECT_EQ(nearest("epochs", kKeys), "epochs");
}

TEST(Nearest, CountsATranspositionAsOneError) {
  EXPECT_EQ(nearest("rl", kKeys), "lr");  // as two errors it would be too far for two letters
  EXPECT_EQ(nearest("fomr", std::vector<std::string>{"foo", "form"}), "form");
}

TEST(Nearest, PrefersTheFewestErrorsAndThenTheFirst) {
  EXPECT_EQ(nearest("adam", std::vector<std::string>{"adamw", "adam", "adamax"}), "adam");
  EXPECT_EQ(nearest("cat", std::vector<std::string>{"bat", "hat"}), "bat");
}

TEST(Nearest, GivesNothingIfNothingIsNear) {
  EXPECT_EQ(nearest("momentum", kKeys), "");
  EXPECT_EQ(nearest("xy", kKeys), "");
  EXPECT_EQ(nearest("banana", std::vector<std::string>{}), "");
  EXPECT_EQ(nearest("", kKeys), "");
}

TEST(Nearest, GivesNothingForWordsTooLongToBeATypingError) {
  const std::vector<std::string> long_names = {std::string(64, 'a'), std::string(65, 'b')};
  EXPECT_EQ(nearest(std::string(63, 'a'), long_names), long_names[0]);
  EXPECT_EQ(nearest(std::string(64, 'a'), long_names), long_names[0]);
  EXPECT_EQ(nearest(std::string(65, 'b'), long_names), "");
  EXPECT_EQ(nearest(std::string(std::size_t{1} << 26, 'a'), long_names), "");
}

TEST(FormatBytes, ChoosesTheUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(3 << 19), "1.5 MiB");
  EXPECT_EQ(format_bytes(std::uint64_t{1} << 30), "1.0 GiB");
  EXPECT_EQ(format_bytes(std::uint64_t{1} << 40), "1.0 TiB");
  EXPECT_EQ(format_bytes(std::uint64_t{1} << 50), "1.0 PiB");
  EXPECT_EQ(format_bytes(~std::uint64_t{0}), "16384.0 PiB");
}

TEST(FormatBytes, TakesTheNextUnitWhereRoundingReachesIt) {
  EXPECT_EQ(format_bytes(1'048'524), "1023.9 KiB");  // 1023.949 KiB
  EXPECT_EQ(format_bytes(1'048'565), "1.0 MiB");     // 1023.99 KiB
  EXPECT_EQ(format_bytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes((std::uint64_t{1} << 30) - 1), "1.0 GiB");
}

TEST(FormatCount, ChoosesTheUnit) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1.00 k");
  EXPECT_EQ(format_count(25e6), "25.00 M");
  EXPECT_EQ(format_count(3.14159e9), "3.14 G");
  EXPECT_EQ(format_count(2e12), "2.00 T");
  EXPECT_EQ(format_count(5e15), "5.00 P");
  EXPECT_EQ(format_count(1e19), "10000.00 P");
  EXPECT_EQ(format_count(-1500), "-1.50 k");
}

TEST(FormatCount, TakesTheNextUnitWhereRoundingReachesIt) {
  EXPECT_EQ(format_count(999.4), "999");
  EXPECT_EQ(format_count(999.6), "1.00 k");
  EXPECT_EQ(format_count(999'994), "999.99 k");
  EXPECT_EQ(format_count(999'999), "1.00 M");
  EXPECT_EQ(format_count(-999'999), "-1.00 M");
}

TEST(FormatSeconds, ChoosesTheUnit) {
  EXPECT_EQ(format_seconds(0), "0.0 us");
  EXPECT_EQ(format_seconds(12.34e-6), "12.3 us");
  EXPECT_EQ(format_seconds(1e-3), "1.00 ms");
  EXPECT_EQ(format_seconds(1.234e-3), "1.23 ms");
  EXPECT_EQ(format_seconds(1), "1.0 s");
  EXPECT_EQ(format_seconds(59.94), "59.9 s");
  EXPECT_EQ(format_seconds(60), "1 m 00 s");
  EXPECT_EQ(format_seconds(245), "4 m 05 s");
  EXPECT_EQ(format_seconds(3600), "1 h 00 m");
  EXPECT_EQ(format_seconds(7260), "2 h 01 m");
  EXPECT_EQ(format_seconds(360'000), "100 h 00 m");
}

TEST(FormatSeconds, TakesTheNextUnitWhereRoundingReachesIt) {
  EXPECT_EQ(format_seconds(999.94e-6), "999.9 us");
  EXPECT_EQ(format_seconds(999.96e-6), "1.00 ms");
  EXPECT_EQ(format_seconds(0.999'994), "999.99 ms");
  EXPECT_EQ(format_seconds(0.999'996), "1.0 s");
  EXPECT_EQ(format_seconds(59.96), "1 m 00 s");
  EXPECT_EQ(format_seconds(119.6), "2 m 00 s");
  EXPECT_EQ(format_seconds(3599.4), "59 m 59 s");
  EXPECT_EQ(format_seconds(3599.9), "1 h 00 m");
}

TEST(Join, PutsTheSeparatorBetweenPartsOnly) {
  EXPECT_EQ(join(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(join(std::vector<std::string>{"a"}, ", "), "a");
  EXPECT_EQ(join(std::vector<std::string>{"a", "", "c"}, ", "), "a, , c");
  EXPECT_EQ(join(std::vector<std::string>{"{}", "%s"}, "{}"), "{}{}%s");
}

}  // namespace
}  // namespace trivet
