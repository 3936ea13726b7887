#include "trivet/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

namespace trivet {
namespace {

constexpr std::array kCodes = {ErrorCode::internal, ErrorCode::usage,      ErrorCode::job, ErrorCode::graph,
                               ErrorCode::data,     ErrorCode::checkpoint, ErrorCode::io,  ErrorCode::memory,
                               ErrorCode::diverged, ErrorCode::state,      ErrorCode::rank};

TEST(Error, WithAMessageAloneSaysTheMessageAlone) {
  const Error e(ErrorCode::data, "label 12 is out of range");
  EXPECT_STREQ(e.what(), "label 12 is out of range");
  EXPECT_EQ(e.code(), ErrorCode::data);
  EXPECT_EQ(e.message(), "label 12 is out of range");
  EXPECT_EQ(e.hint(), "");
  EXPECT_FALSE(e.place().has_value());
}

TEST(Error, PutsThePlaceBeforeTheMessageAndTheHintOnALineAfterIt) {
  const Error e(ErrorCode::job, SourcePlace{"job.yaml", 3, 7}, "unknown key 'epohcs'", "did you mean 'epochs'?");
  EXPECT_STREQ(e.what(), "job.yaml:3:7: unknown key 'epohcs'\n  hint: did you mean 'epochs'?");
  ASSERT_TRUE(e.place().has_value());
  EXPECT_EQ(e.place()->file, "job.yaml");
  EXPECT_EQ(e.place()->line, 3);
  EXPECT_EQ(e.place()->column, 7);
}

TEST(Error, LeavesOutAnUnknownLine) {
  EXPECT_STREQ(Error(ErrorCode::job, SourcePlace{"--set", 0, 0}, "no value").what(), "--set: no value");
}

TEST(Error, LeavesOutAnUnknownColumn) {
  EXPECT_STREQ(Error(ErrorCode::data, SourcePlace{"labels.csv", 3, 0}, "no label").what(), "labels.csv:3: no label");
}

TEST(Error, ListsContextInnermostFirstBetweenMessageAndHint) {
  Error e(ErrorCode::io, SourcePlace{"a.idx"}, "too short", "download it again");
  e.add_context("reading the training images").add_context("starting run r0001");
  EXPECT_STREQ(e.what(),
               "a.idx: too short\n"
               "  while reading the training images\n"
               "  while starting run r0001\n"
               "  hint: download it again");
  EXPECT_EQ(e.message(), "too short");
  EXPECT_EQ(e.hint(), "download it again");
}

TEST(Error, KeepsBracesAndPercentSignsAsTheyAre) {
  Error e(ErrorCode::job, SourcePlace{"{}.yaml", 1, 2}, "bad value '{0} %s'", "use {a: 1}");
  e.add_context("expanding {name}");
  EXPECT_STREQ(e.what(), "{}.yaml:1:2: bad value '{0} %s'\n  while expanding {name}\n  hint: use {a: 1}");
}

TEST(Error, IsCaughtAsAStandardExceptionWithItsWholeText) {
  try {
    try {
      throw Error(ErrorCode::memory, "does not fit", "lower train.batch");
    } catch (Error& e) {
      e.add_context("compiling the plan");
      throw;
    }
  } catch (const std::exception& e) {
    EXPECT_STREQ(e.what(), "does not fit\n  while compiling the plan\n  hint: lower train.batch");
  }
}

TEST(ErrorCode, HasANameAndAnExitCodeOfItsOwn) {
  std::set<std::string> names;
  std::set<int> exits = {0, 1, kExitInterrupted};  // success, what a shell or library may give, interruption
  for (const ErrorCode code : kCodes) {
    EXPECT_TRUE(names.insert(error_code_name(code)).second) << error_code_name(code);
    EXPECT_TRUE(exits.insert(exit_code(code)).second) << error_code_name(code);
    EXPECT_LT(exit_code(code), 126) << "the shell's own codes begin at 126";
  }
}

// The rows "| code | `name` | ..." of the table.
TEST(ErrorCode, IsDocumentedWithItsExitCodeAndNothingElseIs) {
  std::ifstream file(TRIVET_SOURCE_DIR "/docs/exit-codes.md");
  if (!file) GTEST_SKIP() << "docs/exit-codes.md is not there";
  const std::regex row(R"(^\|\s*(\d+)\s*\|\s*`([a-z]+)`\s*\|.*)");
  std::map<int, std::string> documented;
  std::string line;
  while (std::getline(file, line)) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    EXPECT_TRUE(documented.emplace(std::stoi(match[1]), match[2]).second) << "twice: " << line;
  }
  std::map<int, std::string> expected = {{0, "done"}, {kExitInterrupted, "interrupted"}};
  for (const ErrorCode code : kCodes) expected[exit_code(code)] = error_code_name(code);
  EXPECT_THAT(documented, ::testing::ContainerEq(expected));
}

}  // namespace
}  // namespace trivet
