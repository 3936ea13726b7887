// Runs as pages: report.html at a run's end, trivet report, trivet compare of several.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Weight decay alone multiplies the weights by -100,000 in each step, so that they are soon infinite on any machine.
std::string diverging_job() {
  return R"(kind: train
name: diverging
threads: 1
data: {train: {images: train.images, labels: train.labels}, validation: 0.1}
model: {name: layers, layers: [{type: flatten}, {type: dense, units: 10}]}
train:
  epochs: 2
  batch: 20
  optimizer: {name: sgd, lr: 100, momentum: 0, weight_decay: 1000}
)";
}

class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override { write_small_set(folder_, "train", 240); }

  Ended run(const std::vector<std::string>& settings = {}) const {
    std::vector<std::string> arguments = {"run", folder_.write("job.yaml", cnn_job()).string()};
    for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return workspace_.trivet(arguments);
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

TEST_F(ReportTest, EveryRunHasItsPageWhenItEnds) {
  ASSERT_EQ(run().exit_code, 0);
  const std::string page = slurp(workspace_.folder("r0001") / "report.html");
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>cnn</h1>"), HasSubstr("run r0001"), HasSubstr("COMPLETED"),
                          HasSubstr("aria-label=\"loss\""), HasSubstr("<section id=\"plan\">"),
                          HasSubstr("One step, by op"), HasSubstr("<section id=\"environment\">")));
  EXPECT_THAT(page, AllOf(HasSubstr("Memory at the peak"), HasSubstr("train.images"), HasSubstr("epoch 3/3")));
}

TEST_F(ReportTest, ARunThatDivergedHasAPageWithTheReason) {
  EXPECT_EQ(workspace_.trivet({"run", folder_.write("job.yaml", diverging_job()).string()}).exit_code, 9);
  EXPECT_EQ(workspace_.last_run().at("state"), "FAILED");
  EXPECT_THAT(slurp(workspace_.folder("r0001") / "report.html"),
              AllOf(HasSubstr("FAILED"), HasSubstr("class=\"reason\""), HasSubstr("exit code 9")));
}

TEST_F(ReportTest, TheVerbWritesThePageWhereItIsToldTo) {
  ASSERT_EQ(run().exit_code, 0);
  const fs::path own = workspace_.folder("r0001") / "report.html";
  const std::string first = slurp(own);
  fs::remove(own);
  const Ended again = workspace_.trivet({"report", "r0001"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("r0001-cnn/report.html\n"));
  EXPECT_EQ(slurp(own), first);
  const fs::path other = folder_ / "page.html";
  EXPECT_EQ(workspace_.trivet({"report", "cnn", "--output", other.string()}).exit_code, 0);
  EXPECT_EQ(slurp(other), first);
  const Ended nowhere = workspace_.trivet({"report", "r0001", "--output", (folder_ / "no" / "page.html").string()});
  EXPECT_EQ(nowhere.exit_code, 7);
  EXPECT_THAT(nowhere.err, HasSubstr("no/page.html"));
  EXPECT_EQ(workspace_.trivet({"report", "r0007"}).exit_code, 2);
}

TEST_F(ReportTest, APageThatCannotBeWrittenDoesNotChangeHowTheRunEnds) {
  EXPECT_EQ(workspace_.trivet({"run", folder_.write("job.yaml", diverging_job()).string()}).exit_code, 9);
  // A folder in the page's place: renaming onto it fails.
  const fs::path page = workspace_.folder("r0001") / "report.html";
  fs::remove(page);
  fs::create_directories(page / "in the way");
  const Ended resumed = workspace_.trivet({"resume", "r0001"});
  EXPECT_EQ(resumed.exit_code, 9);
  EXPECT_THAT(resumed.err, HasSubstr("no report.html: "));
  EXPECT_THAT(workspace_.last_run().at("reason").get<std::string>(), HasSubstr("exit code 9"));
  EXPECT_EQ(workspace_.trivet({"report", "r0001"}).exit_code, 7);
  EXPECT_EQ(half_written(workspace_.folder("r0001")), std::vector<fs::path>{});
}

TEST_F(ReportTest, SeveralRunsAreComparedInOneTableAndOnePage) {
  for (const char* lr : {"0.05", "0.02", "0.001"}) {
    ASSERT_EQ(run({"train.optimizer.lr=" + std::string(lr), "name=lr-" + std::string(lr)}).exit_code, 0);
  }
  const fs::path page = folder_ / "compare.html";
  const Ended table = workspace_.trivet({"compare", "r0001", "r0002", "lr-0.001", "--output", page.string()});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("r0001"), HasSubstr("r0002"), HasSubstr("r0003"), HasSubstr("best"),
                               HasSubstr("train.optimizer.lr"), Not(HasSubstr("train.batch"))));
  EXPECT_THAT(slurp(page), AllOf(HasSubstr("3 runs compared"), HasSubstr("lr-0.001"), HasSubstr("aria-label=\"loss\""),
                                 HasSubstr("Settings that differ")));

  const Ended text = workspace_.trivet({"compare", "r0001", "r0002", "r0003", "--json"});
  const json j = json::parse(text.out, nullptr, false);
  ASSERT_TRUE(j.is_object()) << text.out;
  EXPECT_EQ(j.at("runs").size(), 3u);
  EXPECT_EQ(j.at("settings").at("train.optimizer.lr"), (json{"0.05", "0.02", "0.001"}));
  const json& loss = j.at("results").at("validation.loss");
  ASSERT_EQ(loss.at("values").size(), 3u);
  ASSERT_FALSE(loss.at("best").empty());
  std::size_t least = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    if (loss.at("values").at(i) < loss.at("values").at(least)) least = i;
  }
  EXPECT_EQ(loss.at("best").at(0), fmt::format("r000{}", least + 1));
  EXPECT_EQ(workspace_.trivet({"compare", "r0001"}).exit_code, 2);
}

}  // namespace
}  // namespace trivet::testing
