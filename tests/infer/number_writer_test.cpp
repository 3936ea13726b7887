#include "runtime/infer/number_writer.h"

#include "tests/formats/test_files.h"
#include "trivet/formats/npy.h"
#include "trivet/formats/table_writer.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::slurp;
using testing::TempDir;

const std::vector<double> kPredicted = {1.5, -2};
const std::vector<double> kTargets = {1.25, 1e-3};

TEST(NumberWriter, WritesAColumnForEachNumberAndItsTarget) {
  const TempDir dir;
  NumberWriter csv("csv", dir / "p.csv", 2, {"price", "a,\"b\""}, true);
  csv.add(7, kPredicted, kTargets);
  csv.add(8, kTargets, kPredicted);
  csv.commit();
  EXPECT_EQ(slurp(dir / "p.csv"),
            "index,price,\"a,\"\"b\"\"\",target.price,\"target.a,\"\"b\"\"\"\r\n"
            "7,1.5,-2,1.25,0.001\r\n8,1.25,0.001,1.5,-2\r\n");
  NumberWriter lines("jsonl", dir / "p.jsonl", 1, {"price", "a\"b"}, true);
  lines.add(7, kPredicted, kTargets);
  lines.commit();
  EXPECT_EQ(slurp(dir / "p.jsonl"),
            "{\"index\":7,\"price\":1.5,\"a\\\"b\":-2,\"target\":{\"price\":1.25,\"a\\\"b\":0.001}}\n");
  NumberWriter npy("npy", dir / "p.npy", 1, {"price", "size"}, false);
  npy.add(0, kPredicted, {});
  npy.commit();
  const Tensor read = read_npy(dir / "p.npy");
  EXPECT_EQ(read.type.shape, (Shape{1, 2}));
  EXPECT_EQ(read.as<float>()[1], -2.0F);
}

TEST(NumberWriter, LeavesNothingBeforeItIsDoneAndRefusesWhatIsNoNumber) {
  const TempDir dir;
  {
    NumberWriter csv("csv", dir / "p.csv", 2, {"error"}, false);
    csv.add(0, std::vector<double>{0.5}, {});
    expect_error(ErrorCode::diverged, {"sample 1", "nan"}, [&] { csv.add(1, std::vector<double>{std::nan("")}, {}); });
  }
  EXPECT_TRUE(dir.empty());
  expect_error(ErrorCode::usage, {"parquet"}, [&] { NumberWriter("parquet", dir / "p", 1, {"y"}, false); });
  EXPECT_TRUE(dir.empty());
}

TEST(PredictionWriter, WritesClassesByName) {
  const TempDir dir;
  const std::vector<float> p = {0.25F, 0.75F};
  const PredictionWriter::Table table{1, 2, true, {"no, thanks", "yes \"<b>\""}};
  const auto csv = PredictionWriter::create("csv", dir / "p.csv", table);
  csv->add(3, p, 0);
  csv->commit();
  EXPECT_EQ(slurp(dir / "p.csv"), "index,predicted,confidence,label\r\n3,\"yes \"\"<b>\"\"\",0.75,\"no, thanks\"\r\n");
  const auto lines = PredictionWriter::create("jsonl", dir / "p.jsonl", table);
  lines->add(3, p, 1);
  lines->commit();
  EXPECT_EQ(slurp(dir / "p.jsonl"),
            "{\"index\":3,\"predicted\":\"yes \\\"<b>\\\"\",\"confidence\":0.75,\"probabilities\":[0.25,0.75],"
            "\"label\":\"yes \\\"<b>\\\"\"}\n");
  expect_error(ErrorCode::internal, {"3 classes", "2 names"}, [&] {
    PredictionWriter::create("csv", dir / "q", {1, 3, false, {"a", "b"}});
  });
}

}  // namespace
}  // namespace trivet
