#include "trivet/formats/line_reader.h"

#include "tests/formats/test_files.h"
#include "trivet/base/hash.h"
#include "trivet/base/utf8.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::gzip;
using testing::TempDir;

std::vector<std::string> lines_of(const std::filesystem::path& path, const TextLimits& limits = {}) {
  LineReader reader(path, limits);
  std::vector<std::string> lines;
  std::string_view line;
  while (reader.next(line)) lines.emplace_back(line);
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineReader, EndsLinesWithLfOrCrLfAndTheLastWithoutEither) {
  const TempDir dir;
  EXPECT_EQ(lines_of(dir.write("a", "one\ntwo\r\n\nlast")), (Lines{"one", "two", "", "last"}));
  EXPECT_EQ(lines_of(dir.write("a", "one\n")), Lines{"one"});
  EXPECT_EQ(lines_of(dir.write("a", "")), Lines{});
  EXPECT_EQ(lines_of(dir.write("a", "\r\n")), Lines{""});
}

TEST(LineReader, LeavesOutTheByteOrderMark) {
  const TempDir dir;
  EXPECT_EQ(lines_of(dir.write("a", "\xEF\xBB\xBFone\ntwo")), (Lines{"one", "two"}));
}

TEST(LineReader, ReadsLinesOfAnyLengthAcrossItsBuffer) {
  const TempDir dir;
  Lines lines;
  std::string text;
  for (std::size_t i = 0; i < 200; ++i) {
    lines.emplace_back(i * i * 13 % 70001, static_cast<char>('a' + i % 26));
    text += lines.back() + "\n";
  }
  EXPECT_EQ(lines_of(dir.write("a", text)), lines);
  EXPECT_EQ(lines_of(dir.write("a.gz", gzip(text))), lines);
}

TEST(LineReader, HasTheDigestOfTheTextItself) {
  const TempDir dir;
  const std::string text = "\xEF\xBB\xBFone\r\ntwo";
  for (const std::string& file : {text, gzip(text)}) {
    LineReader reader(dir.write("a", file));
    std::string_view line;
    while (reader.next(line)) {
    }
    EXPECT_EQ(reader.digest(), sha256_hex(text));
  }
}

TEST(LineReader, RefusesWhatIsNotTextInUtf8NamingThePlace) {
  const TempDir dir;
  const auto fails = [&](std::string_view text, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { lines_of(dir.write("a", text)); });
  };
  fails("one\nt\xFCr", {"a:2:2: ", "0xfc", "iconv"});
  fails(std::string_view("on\0e", 4), {"a:1:3: ", "zero byte"});
  fails("\xFF\xFEo", {"UTF-16"});
  fails("a\xED\xA0\x80", {":1:2: "});
  EXPECT_EQ(lines_of(dir.write("a", "t\xC3\xBCr \xE2\x82\xAC \xF0\x9F\x98\x80")).size(), 1u);
}

TEST(LineReader, RefusesTextBeyondItsLimits) {
  const TempDir dir;
  const TextLimits limits{1 << 20, 100, 10};
  EXPECT_EQ(lines_of(dir.write("a", std::string(100, 'x') + "\nb"), limits).size(), 2u);
  expect_error(ErrorCode::data, {"a:2:101: ", "100 B"},
               [&] { lines_of(dir.write("a", "b\n" + std::string(101, 'x') + "\n"), limits); });
  expect_error(ErrorCode::data, {"a:1:101: "}, [&] { lines_of(dir.write("a", std::string(5 << 20, 'x')), limits); });
  std::string many;
  for (int i = 0; i < 200000; ++i) many += "xxxxxxxxx\n";
  expect_error(ErrorCode::data, {"1.0 MiB", "split"}, [&] { lines_of(dir.write("a", gzip(many)), limits); });
}

TEST(Utf8, KnowsEveryFormOfOneToFourBytes) {
  EXPECT_EQ(
      first_invalid_utf8("az\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"),
      std::string_view::npos);
  for (const char* wrong : {"\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82", "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(first_invalid_utf8(std::string("ab") + wrong), 2u);
  }
}

}  // namespace
}  // namespace trivet
