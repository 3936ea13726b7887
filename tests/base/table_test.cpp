#include "trivet/base/table.h"

#include <gtest/gtest.h>

#include "trivet/base/error.h"

namespace trivet {
namespace {

TEST(DisplayWidth, CountsColumnsAndNotBytes) {
  EXPECT_EQ(display_width(""), 0u);
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("é"), 1u);
  EXPECT_EQ(display_width("e\u0301"), 1u);  // e and a combining acute accent
  EXPECT_EQ(display_width("日本"), 4u);
  EXPECT_EQ(display_width("█▌"), 2u);
  EXPECT_EQ(display_width("🚀"), 2u);
}

TEST(DisplayWidth, CountsABrokenByteAsOneColumn) {
  EXPECT_EQ(display_width("a\xFFz"), 3u);
  EXPECT_EQ(display_width("\xE6\x97"), 2u);  // the third byte is missing
}

TEST(FitWidth, NeverCutsInsideACharacter) {
  EXPECT_EQ(fit_width("日本", 3), "日");
  EXPECT_EQ(fit_width("日本", 4), "日本");
  EXPECT_EQ(fit_width("abc", 0), "");
  EXPECT_EQ(fit_width("ae\u0301z", 2), "ae\u0301");
}

TEST(Printable, RemovesWhatWouldChangeTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\r\n\tc\x7f"), "a [2Jb   c ");
  EXPECT_EQ(printable("\u009b31mred"), " 31mred");
  EXPECT_EQ(printable("é日"), "é日");
}

TEST(Table, AlignsTextLeftAndNumbersRight) {
  Table table({"job", "epochs", "state"});
  table.add_row({"r0001", "9", "COMPLETED"});
  table.add_row({"r0002", "120", "RUNNING"});
  EXPECT_EQ(table.str(),
            "job    epochs  state\n"
            "r0001       9  COMPLETED\n"
            "r0002     120  RUNNING\n");
}

TEST(Table, TakesUnitsSignsAndMissingNumbersForNumbers) {
  Table table({"size", "accuracy", "change", "time"});
  table.add_row({"1.5 MiB", "98.1 %", "-0.25", "4 m 05 s"});
  table.add_row({"12 KiB", "-", "", "1e-3"});
  EXPECT_EQ(table.str(),
            "   size  accuracy  change      time\n"
            "1.5 MiB    98.1 %   -0.25  4 m 05 s\n"
            " 12 KiB         -              1e-3\n");
}

TEST(Table, TakesDatesAndNamesThatBeginWithADigitForText) {
  Table table({"created", "name"});
  table.add_row({"2026-01-02", "3layers"});
  table.add_row({"2026", "x"});
  EXPECT_EQ(table.str(),
            "created     name\n"
            "2026-01-02  3layers\n"
            "2026        x\n");
}

TEST(Table, AlignsByDisplayWidth) {
  Table table({"name", "state"});
  table.add_row({"日本", "A"});
  table.add_row({"é", "B"});
  EXPECT_EQ(table.str(),
            "name  state\n"
            "日本  A\n"
            "é     B\n");
}

TEST(Table, KeepsEachRowOnOneLine) {
  Table table({"reason"});
  table.add_row({"first\nsecond\x1b[0m"});
  EXPECT_EQ(table.str(), "reason\nfirst second [0m\n");
}

TEST(Table, ShowsTheHeaderAloneWithoutRows) { EXPECT_EQ(Table({"a", "b"}).str(), "a  b\n"); }

TEST(Table, RefusesARowOfTheWrongLength) {
  Table table({"a", "b"});
  EXPECT_THROW(table.add_row({"1"}), Error);
}

}  // namespace
}  // namespace trivet
