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

const std::string kHeader =
    "% a comment\n@RELATION 'some data'\n\n@attribute 'the age' real % years\n@ATTRIBUTE job {cook,'night nurse', "
    "\"it's\" }\n"
    "@attribute note string\n@attribute day date 'yyyy-MM-dd'\n@attribute n integer\n@data\n";

class Arff : public ::testing::Test {
 protected:
  ReadTable read(const std::string& text) const {
    const auto reader = open_arff(dir_.write("t.arff", text));
    return read_all(*reader);
  }
  Rows rows(const std::string& text) const { return read(kHeader + text).rows; }
  void fails(const std::string& text, std::initializer_list<std::string_view> parts) const {
    expect_error(ErrorCode::data, parts, [&] { read(text); });
  }
  TempDir dir_;
};

TEST_F(Arff, ReadsTheDeclarations) {
  const auto reader = open_arff(dir_.write("t.arff", kHeader));
  const std::vector<TableColumn>& columns = reader->columns();
  ASSERT_EQ(columns.size(), 5u);
  EXPECT_EQ(columns[0].name, "the age");
  EXPECT_EQ(columns[0].declared, Declared::number);
  EXPECT_EQ(columns[1].declared, Declared::nominal);
  EXPECT_EQ(columns[1].values, (std::vector<std::string>{"cook", "night nurse", "it's"}));
  EXPECT_EQ(columns[2].declared, Declared::text);
  EXPECT_EQ(columns[3].declared, Declared::date);
  EXPECT_EQ(columns[4].declared, Declared::number);
}

TEST_F(Arff, ReadsDenseRowsWithQuotesEscapesAndComments) {
  EXPECT_EQ(rows("31,cook,'it\\'s\\n\\\\ 5%',\"2001-02-03\",7 % the first\n\n% nothing\n?, 'night nurse' ,'?',?,\t8\n"),
            (Rows{{"31", "cook", "'it's\n\\ 5%'", "'2001-02-03'", "7"}, {"-", "'night nurse'", "'?'", "-", "8"}}));
  // Weka takes blanks for commas.
  EXPECT_EQ(rows("1 cook x ? 2\n"), (Rows{{"1", "cook", "x", "-", "2"}}));
}

TEST_F(Arff, FillsSparseRowsWithZeroAndTheFirstValue) {
  EXPECT_EQ(
      rows("{0 5, 4 6}\n{}\n{1 'night nurse',2 x,3 ?}\n"),
      (Rows{{"5", "'cook'", "-", "-", "6"}, {"0", "'cook'", "-", "-", "0"}, {"0", "'night nurse'", "x", "-", "0"}}));
}

TEST_F(Arff, ReadsGzip) { EXPECT_EQ(read(gzip(kHeader + "1,cook,x,?,2\r\n")).rows.size(), 1u); }

TEST_F(Arff, RefusesWrongRowsNamingThePlace) {
  fails(kHeader + "1,cook,x,?\n", {"t.arff:10: ", "found 4 values, expected 5"});
  fails(kHeader + "1,cook,x,?,2,3\n", {"t.arff:10:14: ", "more values than the 5 attributes"});
  fails(kHeader + "1,,x,?,2\n", {"t.arff:10:3: ", "missing value is written ?"});
  fails(kHeader + "1,cook,x,?,\n", {"t.arff:10:12: ", "the line ends here"});
  fails(kHeader + "1,'cook,x,?,2\n", {"t.arff:10:3: ", "never closed"});
  fails(kHeader + "1,cook,x,?,2,{3}\n", {"weights"});
  fails(kHeader + "{0 1}, {3}\n", {"weights"});
  fails(kHeader + "{5 1}\n", {"index \"5\"", "0 to 4"});
  fails(kHeader + "{2 x, 1 cook}\n", {"index 1 follows 2"});
  fails(kHeader + "{2 x, 2 y}\n", {"index 2 follows 2"});
  fails(kHeader + "{0 1\n", {"a comma or }"});
}

TEST_F(Arff, RefusesWrongHeadersNamingThePlace) {
  fails("", {"ends before @data"});
  fails("@relation r\n@attribute a real\n", {"ends before @data"});
  fails("@data\n1\n", {"no @attribute"});
  fails("a,b\n1,2\n", {"t.arff:1:1: ", "\"a\""});
  fails("@attribute a relational\n@data\n", {"\"relational\"", "numeric, real"});
  fails("@attribute a {x,y,x}\n@data\n", {"\"x\" is declared twice"});
  fails("@attribute a {x y}\n@data\n", {"t.arff:1:17: ", "a comma"});
  fails("@attribute a real\n@attribute a real\n@data\n", {"same name, \"a\""});
  fails("@attribute a real 5\n@data\n", {"more follows"});
}

TEST_F(Arff, SurvivesEveryDamage) {
  expect_no_crash(dir_, "@attribute 'a' {x,'y \\' z'}\n@attribute b real\n@data\nx,1\n{0 'y \\' z',1 2}\n",
                  [](const auto& path) {
                    const auto reader = open_arff(path);
                    read_all(*reader);
                  });
}

}  // namespace
}  // namespace trivet
