// The corpus of the fuzz targets, inputs that once found a fault among them, in every build of the tests.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/targets.h"

namespace trivet::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::uint8_t> read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class FuzzCorpus : public ::testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzCorpus, GivesNothingOrAnErrorWithAMessage) {
  const fs::path folder = fs::path(TRIVET_SOURCE_DIR) / "tests/fuzz/corpus" / GetParam().name;
  ASSERT_TRUE(fs::is_directory(folder)) << folder << ": every target has a corpus";
  int inputs = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::vector<std::uint8_t> bytes = read(entry.path());
    SCOPED_TRACE(entry.path());
    run_fuzz_target(GetParam(), bytes);
    // Cut short and damaged as well: what a crash or a bad disk leaves.
    for (const std::size_t part : {bytes.size() / 3, bytes.size() / 2, bytes.size() - bytes.size() / 8}) {
      run_fuzz_target(GetParam(), std::span(bytes).first(part));
    }
    ++inputs;
  }
  EXPECT_GT(inputs, 0);
}

INSTANTIATE_TEST_SUITE_P(All, FuzzCorpus, ::testing::ValuesIn(fuzz_targets().begin(), fuzz_targets().end()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace trivet::testing
