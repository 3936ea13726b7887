#include "trivet/formats/table_writer.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/formats/test_files.h"
#include "trivet/formats/npy.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::slurp;
using testing::TempDir;

constexpr std::array<float, 3> kFirst{0.25f, 0.5f, 0.25f};
constexpr std::array<float, 3> kSecond{0.1f, 1e-12f, 0.9f};

void write(const std::string& format, const std::filesystem::path& path, bool labels) {
  const auto writer = PredictionWriter::create(format, path, {2, 3, labels});
  writer->add(7, kFirst, labels ? std::optional(1) : std::nullopt);
  writer->add(9, kSecond, labels ? std::optional(0) : std::nullopt);
  writer->commit();
}

TEST(PredictionWriter, WritesCsvWithAndWithoutLabels) {
  const TempDir dir;
  write("csv", dir / "a", false);
  EXPECT_EQ(slurp(dir / "a"), "index,predicted,confidence\r\n7,1,0.5\r\n9,2,0.9\r\n");
  write("csv", dir / "a", true);
  EXPECT_EQ(slurp(dir / "a"), "index,predicted,confidence,label\r\n7,1,0.5,1\r\n9,2,0.9,0\r\n");
}

TEST(PredictionWriter, WritesAnObjectALine) {
  const TempDir dir;
  write("jsonl", dir / "a", true);
  std::ifstream file(dir / "a");
  std::string line;
  std::vector<nlohmann::json> rows;
  while (std::getline(file, line)) rows.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["index"], 7);
  EXPECT_EQ(rows[0]["predicted"], 1);
  EXPECT_EQ(rows[0]["label"], 1);
  EXPECT_EQ(rows[1]["confidence"].get<float>(), 0.9f);
  EXPECT_EQ(rows[1]["probabilities"].get<std::vector<float>>(), std::vector<float>(kSecond.begin(), kSecond.end()));
  write("jsonl", dir / "a", false);
  EXPECT_EQ(slurp(dir / "a").find("label"), std::string::npos);
}

TEST(PredictionWriter, WritesProbabilitiesForNumPy) {
  const TempDir dir;
  write("npy", dir / "a", true);
  const Tensor tensor = read_npy(dir / "a");
  EXPECT_EQ(tensor.type, (TensorType{DType::f32, {2, 3}}));
  EXPECT_TRUE(std::ranges::equal(tensor.as<float>().first(3), kFirst));
  EXPECT_TRUE(std::ranges::equal(tensor.as<float>().last(3), kSecond));
}

TEST(PredictionWriter, PredictsTheFirstOfEqualProbabilities) {
  const TempDir dir;
  const auto writer = PredictionWriter::create("csv", dir / "a", {1, 4, false});
  writer->add(0, std::array{0.1f, 0.4f, 0.4f, 0.1f});
  writer->commit();
  EXPECT_EQ(slurp(dir / "a"), "index,predicted,confidence\r\n0,1,0.4\r\n");
}

TEST(PredictionWriter, LeavesNothingWithoutCommitAndKeepsTheOldFile) {
  for (const std::string format : {"csv", "jsonl", "npy"}) {
    const TempDir dir;
    const auto path = dir.write("a", "old");
    {
      const auto writer = PredictionWriter::create(format, path, {2, 3, false});
      writer->add(0, kFirst);
      expect_error(ErrorCode::internal, {"1 rows were written, 2 expected"}, [&] { writer->commit(); });
    }
    EXPECT_EQ(slurp(path), "old");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  }
}

TEST(PredictionWriter, RefusesWhatDoesNotFitTheTable) {
  const TempDir dir;
  const auto writer = PredictionWriter::create("csv", dir / "a", {2, 3, false});
  expect_error(ErrorCode::internal, {"2 probabilities"}, [&] { writer->add(0, std::array{0.5f, 0.5f}); });
  expect_error(ErrorCode::internal, {"a label"}, [&] { writer->add(0, kFirst, 1); });
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorCode::diverged, {"sample 5", "class 1", "nan"}, [&] {
    writer->add(5, std::array{0.5f, nan, 0.5f});
  });
  expect_error(ErrorCode::usage, {"parquet", "csv, jsonl and npy"}, [&] {
    PredictionWriter::create("parquet", dir / "b", {2, 3, false});
  });
}

}  // namespace
}  // namespace trivet
