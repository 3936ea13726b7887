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

class JsonLines : public ::testing::Test {
 protected:
  ReadTable read(const std::string& text, const TextLimits& limits = {}) const {
    const auto reader = open_json_lines(dir_.write("t.jsonl", text), limits);
    return read_all(*reader);
  }
  void fails(const std::string& text, std::initializer_list<std::string_view> parts) const {
    expect_error(ErrorCode::data, parts, [&] { read(text); });
  }
  TempDir dir_;
};

TEST_F(JsonLines, KeepsTheSpellingOfValues) {
  const ReadTable table =
      read(R"({"a": 1, "b": "x", "c": true, "d": null, "e": 1.50, "f": -3})"
           "\n\n"
           R"({"a": 18446744073709551615, "b": "007", "c": false, "d": "\u00fc\n", "e": 1e3, "f": ""})");
  EXPECT_EQ(table.names, (std::vector<std::string>{"a", "b", "c", "d", "e", "f"}));
  EXPECT_EQ(table.rows, (Rows{{"1", "'x'", "'true'", "-", "1.50", "-3"},
                              {"18446744073709551615", "'007'", "'false'", "'\xC3\xBC\n'", "1e3", "''"}}));
}

TEST_F(JsonLines, TakesKeysInAnyOrderAndThoseLeftOutForMissing) {
  EXPECT_EQ(read("{\"a\": 1}\n{\"b\": 2, \"a\": 3}\n{}\n").rows, (Rows{{"1"}, {"3", "2"}, {"-", "-"}}));
  EXPECT_EQ(read(gzip("{\"a\": 1}\r\n")).rows, (Rows{{"1"}}));
}

TEST_F(JsonLines, RefusesWhatIsNoFlatObject) {
  fails("{\"a\": 1}\n{\"a\": [1]}\n", {"t.jsonl:2: ", "a list under \"a\""});
  fails("{\"a\": {\"b\": 1}}\n", {"an object under \"a\""});
  fails("[1]\n", {"a list, expected an object"});
  fails("5\n", {"\"5\", expected an object"});
  fails("null\n", {"null, expected an object"});
  fails("{\"a\": 1} {\"a\": 2}\n", {"t.jsonl:1:10: ", "no JSON"});
  fails("{\"a\": 1},\n", {"t.jsonl:1:9: "});
  fails("{\"a\": NaN}\n", {"NaN is written null"});
  fails("{\"a\": 1e999}\n", {"t.jsonl:1"});
  fails("{\"a\": 1, \"a\": 2}\n", {"\"a\" occurs twice"});
  fails("{\"\": 1}\n", {"a key is empty"});
  fails("{\"a\": 1\n", {"t.jsonl:1:"});
  fails(std::string(100000, '['), {"a list, expected an object"});
}

TEST_F(JsonLines, HoldsItsLimitOfColumns) {
  expect_error(ErrorCode::data, {"more than 2 different keys"}, [&] {
    read("{\"a\": 1}\n{\"b\": 1}\n{\"c\": 1}\n", {1 << 20, 100, 2});
  });
}

TEST_F(JsonLines, SurvivesEveryDamage) {
  expect_no_crash(dir_, "{\"a\": 1.5, \"b\": \"x\\u00fc\\\"\", \"c\": null}\n{\"a\": true}\n", [](const auto& path) {
    const auto reader = open_json_lines(path);
    read_all(*reader);
  });
}

}  // namespace
}  // namespace trivet
