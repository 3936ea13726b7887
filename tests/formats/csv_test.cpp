#include "tests/formats/tables.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::expect_no_crash;
using testing::gzip;
using testing::read_all;
using testing::ReadTable;
using testing::Rows;
using testing::TempDir;

class Csv : public ::testing::Test {
 protected:
  ReadTable read(const std::string& text, const TextLimits& limits = {}) const {
    const auto reader = open_csv(dir_.write("t.csv", text), limits);
    return read_all(*reader);
  }
  Rows rows(const std::string& text) const { return read(text).rows; }
  void fails(const std::string& text, std::initializer_list<std::string_view> parts) const {
    expect_error(ErrorCode::data, parts, [&] { read(text); });
  }
  using Names = std::vector<std::string>;
  TempDir dir_;
};

TEST_F(Csv, ReadsQuotesAsRfc4180SaysThem) {
  const ReadTable table = read("a,b,c\r\n\"x, y\",\"say \"\"no\"\"\",1\r\n\"two\r\nlines\",\"\",2\r\n");
  EXPECT_EQ(table.names, (Names{"a", "b", "c"}));
  EXPECT_EQ(table.rows, (Rows{{"x, y", "say \"no\"", "1"}, {"two\nlines", "-", "2"}}));
}

TEST_F(Csv, TakesQuotesInsideACellAsTheyAre) {
  EXPECT_EQ(rows("size,n\n5\" tube,1\nO'Hara \"x\",2\n"), (Rows{{"5\" tube", "1"}, {"O'Hara \"x\"", "2"}}));
}

TEST_F(Csv, LeavesOutBlanksAroundCellsAndEmptyLines) {
  EXPECT_EQ(rows("a, b\n\n 1 ,\t2\n  \n3, \"x\" \n"), (Rows{{"1", "2"}, {"3", "x"}}));
}

TEST_F(Csv, KnowsTheWordsForMissing) {
  EXPECT_EQ(rows("a,b,c,d,e,f,g,h\n,?,NA,n/a,NaN,null,none,0\n"), (Rows{{"-", "-", "-", "-", "-", "-", "none", "0"}}));
}

TEST_F(Csv, FindsTheDelimiter) {
  const Rows expected{{"1", "x"}, {"2", "y"}};
  for (const char* d : {",", ";", "\t", "|"}) {
    const std::string delimiter(d);
    EXPECT_EQ(rows("a" + delimiter + "b\n1" + delimiter + "x\n2" + delimiter + "y\n"), expected) << d;
    EXPECT_EQ(rows("1" + delimiter + "x\n2" + delimiter + "y\n"), expected) << d;
  }
  EXPECT_EQ(rows("a;b\n1,5;x\n2,5;y\n"), (Rows{{"1,5", "x"}, {"2,5", "y"}}));
  EXPECT_EQ(rows("a\tb\nx, y\t1\nz, w\t2\n"), (Rows{{"x, y", "1"}, {"z, w", "2"}}));
  EXPECT_EQ(rows("a,b\n\"x;y;z\",1\n\"u;v;w\",2\n"), (Rows{{"x;y;z", "1"}, {"u;v;w", "2"}}));
  EXPECT_EQ(rows("price\n1\n2\n"), (Rows{{"1"}, {"2"}}));
}

TEST_F(Csv, TellsAHeaderFromARow) {
  EXPECT_EQ(read("1,x\n2,y\n").names, (Names{"column_1", "column_2"}));
  EXPECT_EQ(read("n,x\n2,y\n").names, (Names{"n", "x"}));
  EXPECT_EQ(read("outlook,windy\nsunny,yes\nrainy,yes\n").names, (Names{"outlook", "windy"}));
  // A first line whose values come again below is a row.
  EXPECT_EQ(read("sunny,yes\nrainy,yes\nsunny,no\n").rows.size(), 3u);
  EXPECT_EQ(read("y,y\nn,y\n").rows.size(), 2u);
  // An index without a name, as pandas writes it, and the symbol of sodium.
  EXPECT_EQ(read(",Na,b\n0,1,2\n").names, (Names{"column_1", "Na", "b"}));
  EXPECT_EQ(read("a,b\n").rows.size(), 0u);
  EXPECT_EQ(read("1,2").rows, (Rows{{"1", "2"}}));
}

TEST_F(Csv, HasNoRowsWithoutContent) {
  for (const char* text : {"", "\n\n", "  \n", "\xEF\xBB\xBF"}) {
    EXPECT_TRUE(read(text).rows.empty());
    EXPECT_TRUE(read(text).names.empty());
  }
}

TEST_F(Csv, ReadsGzipAndAByteOrderMark) {
  EXPECT_EQ(read("\xEF\xBB\xBF"
                 "a,b\n1,2\n")
                .names,
            (Names{"a", "b"}));
  EXPECT_EQ(rows(gzip("a,b\n1,2\n")), (Rows{{"1", "2"}}));
}

TEST_F(Csv, RefusesRaggedRowsNamingTheLine) {
  fails("a,b,c\n1,2,3\n\n4,5\n", {"t.csv:4: ", "found 2 cells, expected 3 as on line 1"});
  fails("a,b\n\"1\n1\",2\n4,5,6\n", {"t.csv:4: ", "found 3 cells"});
}

TEST_F(Csv, RefusesBrokenQuotesWhereTheyBegin) {
  fails("a,b\n1,\"x\n2,y\n", {"t.csv:2:3: ", "never closed"});
  fails("a,b\n1,\"x\"y\n", {"t.csv:2:6: ", "after the closing quote"});
}

TEST_F(Csv, RefusesNamesThatOccurTwice) {
  fails("a,b,a\n1,2,3\n", {"t.csv:1: ", "columns 1 and 3", "\"a\""});
  fails("column_2,\n1,2\n", {"column_2"});
}

TEST_F(Csv, RefusesBareCarriageReturns) { fails("a,b\r1,2\r3,4\r", {"carriage return"}); }

TEST_F(Csv, HoldsItsLimits) {
  const TextLimits limits{1 << 20, 50, 3};
  expect_error(ErrorCode::data, {"more than 3 columns"}, [&] { read("a,b,c,d\n1,2,3,4\n", limits); });
  expect_error(ErrorCode::data, {"longest"}, [&] { read("a,b\n1," + std::string(80, 'x'), limits); });
  // A quote that spans lines is bounded as a line is.
  std::string open = "a,b\n1,\"";
  for (int i = 0; i < 100; ++i) open += "xxxxxxxx\n";
  expect_error(ErrorCode::data, {"t.csv:2:3: ", "never closed"}, [&] { read(open + "\"\n", limits); });
}

TEST_F(Csv, ReadsTheFirstLineOfScikitLearn) {
  const auto reader = open_csv(dir_.write("t.csv", "3,2,red,blue\n1.5,2,0\n2.5,3,1\n3.5,4,1\n"));
  EXPECT_EQ(read_all(*reader).rows, (Rows{{"1.5", "2", "red"}, {"2.5", "3", "blue"}, {"3.5", "4", "blue"}}));
  EXPECT_EQ(reader->columns()[2].declared, Declared::nominal);
  EXPECT_EQ(reader->columns()[2].values, (Names{"red", "blue"}));
  EXPECT_EQ(read("2,2,\n\"A\",\"B\",\"C\"\n1,2,3\n4,5,6\n").names, (Names{"A", "B", "C"}));
  fails("3,2,red,blue\n1.5,2,0\n2.5,3,1\n", {"announces 3 rows, found 2"});
  fails("2,2,red,blue\n1.5,2,0\n2.5,3,2\n", {"t.csv:3:7: ", "\"2\"", "0 to 1"});
  // Rows that only look alike.
  EXPECT_EQ(rows("5,2,a\n6,3,b\n").size(), 2u);
  EXPECT_EQ(rows("3,1\n4,2\n").size(), 2u);
}

TEST_F(Csv, NamesThePlaceOfACell) {
  const auto reader = open_csv(dir_.write("t.csv", "a,b\n1, x\n\"1\n2\",yy\n"));
  std::span<const Cell> row;
  ASSERT_TRUE(reader->next(row));
  EXPECT_EQ(row[1].line, 2);
  EXPECT_EQ(row[1].column, 4u);
  ASSERT_TRUE(reader->next(row));
  EXPECT_EQ(row[0].line, 3);
  EXPECT_EQ(row[1].line, 4);
  EXPECT_EQ(row[1].column, 4u);
  expect_error(ErrorCode::data, {"t.csv:4:4: what"}, [&] { reader->fail(row[1], "what", {}); });
}

TEST_F(Csv, SurvivesEveryDamage) {
  expect_no_crash(dir_, "a,b\n\"x \"\"q\"\" y\",1\n\n3,\"t\nu\"\n", [](const auto& path) {
    const auto reader = open_csv(path);
    read_all(*reader);
  });
}

TEST(ParseNumber, TakesWhatSpellsANumberAndNothingElse) {
  EXPECT_EQ(parse_number("1.5"), 1.5);
  EXPECT_EQ(parse_number("+2"), 2.0);
  EXPECT_EQ(parse_number("-.5e-3"), -0.0005);
  EXPECT_EQ(parse_number("1e400"), HUGE_VAL);
  EXPECT_EQ(parse_number("-inf"), -HUGE_VAL);
  EXPECT_EQ(parse_number("1e-400"), 0.0);
  for (const char* text : {"", "+", "-", "1,5", "1 2", "0x10", "nan", "1.5.2", "e5", "+-1", "12a"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace trivet
