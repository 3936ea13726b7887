// What is shown: runs, show, compare, help, and the progress of a run on a terminal and elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <regex>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class RecordTest : public ::testing::Test {
 protected:
  void SetUp() override { write_small_set(folder_, "train", 240); }

  std::string train_job() const { return folder_.write("job.yaml", cnn_job()).string(); }

  json parsed(const std::vector<std::string>& arguments) const {
    const Ended ended = workspace_.trivet(arguments);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    json value = json::parse(ended.out, nullptr, false);
    EXPECT_FALSE(value.is_discarded()) << ended.out;
    return value;
  }
  std::string text(const std::vector<std::string>& arguments) const {
    const Ended ended = workspace_.trivet(arguments);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    EXPECT_EQ(ended.err, "");
    return ended.out;
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

bool has_control_characters(const std::string& output) {
  return std::any_of(output.begin(), output.end(),
                     [](char c) { return c != '\n' && std::iscntrl(static_cast<unsigned char>(c)) != 0; });
}

TEST_F(RecordTest, RunsShowAndCompareHaveTheRun) {
  const std::string job = train_job();
  const json first = parsed({"run", job, "--json"});
  EXPECT_EQ(first.at("id"), "r0001");
  EXPECT_EQ(first.at("state"), "COMPLETED");
  EXPECT_EQ(first.at("exit_code"), 0);
  const json second = parsed({"run", job, "--json", "--set", "train.optimizer.lr=0.02", "--set", "name=slower"});
  EXPECT_EQ(second.at("id"), "r0002");
  const json result = json::parse(slurp(workspace_.folder("r0001") / "result.json"));

  const json runs = parsed({"runs", "--json"});
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].at("result"), result);
  EXPECT_EQ(runs[1].at("name"), "slower");
  const std::string accuracy = fmt::format("{:.2f} %", 100 * result.at("validation").at("accuracy").get<double>());
  EXPECT_THAT(text({"runs"}), AllOf(HasSubstr("r0001"), HasSubstr("cnn"), HasSubstr("COMPLETED"), HasSubstr(accuracy),
                                    HasSubstr("slower")));

  const json show = parsed({"show", "cnn", "--json"});
  EXPECT_EQ(show.at("id"), "r0001");
  EXPECT_EQ(show.at("result"), result);
  EXPECT_EQ(show.at("epochs").size(), 3u);
  EXPECT_EQ(show.at("settings").at("train.optimizer.lr"), "0.05");
  for (const json& checkpoint : show.at("checkpoints")) {
    EXPECT_TRUE(fs::exists(fs::path(checkpoint.at("path").get<std::string>()) / "model.safetensors")) << checkpoint;
  }
  EXPECT_EQ(show.at("checkpoints").back().at("step"), result.at("steps"));
  EXPECT_THAT(text({"show", "r0001"}),
              AllOf(HasSubstr("train.batch = 32"), HasSubstr("data.augment.flip = true"), HasSubstr(accuracy)));

  const json compare = parsed({"compare", "r0001", "slower", "--json"});
  EXPECT_EQ(compare.at("settings").at("train.optimizer.lr"), (json{"0.05", "0.02"}));
  EXPECT_FALSE(compare.at("settings").contains("train.batch"));
  const json loss = compare.at("results").at("validation.loss");
  ASSERT_EQ(loss.at("values").size(), 2u);
  EXPECT_EQ(loss.at("values").at(0), result.at("validation").at("loss"));
  EXPECT_EQ(loss.at("best").at(0), loss.at("values").at(0) < loss.at("values").at(1) ? "r0001" : "r0002");
  EXPECT_THAT(text({"compare", "r0001", "slower"}),
              AllOf(HasSubstr("train.optimizer.lr"), HasSubstr("0.02"), HasSubstr("validation.loss")));
}

TEST_F(RecordTest, ARunWhoseRecordIsDamagedDoesNotHideTheOthers) {
  const std::string job = train_job();
  ASSERT_EQ(workspace_.trivet({"run", job}).exit_code, 0);
  ASSERT_EQ(workspace_.trivet({"run", job, "--set", "name=whole"}).exit_code, 0);
  const char* const records[] = {
      R"({"kind":"epoch","epoch":1,"step":7,"seconds":0.1,"train":{"loss":null,"accuracy":0.1},"validation":{"loss":null}})",
      R"({"kind":"final","validation":{"loss":null,"accuracy":null}})",
      R"({"kind":5})",
      R"({"kind":"final","test":[]})",
      R"({"kind":"epoch"})",
      "",
      "\x01\x02"};
  for (const char* record : records) {
    SCOPED_TRACE(record);
    folder_.write("runs/r0001-cnn/metrics.jsonl", std::string(record) + "\n");
    EXPECT_THAT(text({"runs"}), AllOf(HasSubstr("r0001"), HasSubstr("whole")));
    EXPECT_EQ(parsed({"runs", "--json"}).size(), 2u);
    EXPECT_THAT(text({"show", "r0001"}), HasSubstr("train.batch = 32"));
    parsed({"show", "r0001", "--json"});
    parsed({"compare", "r0001", "r0002", "--json"});
    text({"compare", "r0001", "r0002"});
  }
}

TEST_F(RecordTest, DeepJsonAndAJobFileThatIsNoneArePassedOver) {
  const std::string job = train_job();
  ASSERT_EQ(workspace_.trivet({"run", job}).exit_code, 0);
  ASSERT_EQ(workspace_.trivet({"run", job, "--set", "name=whole"}).exit_code, 0);
  const std::string deep = R"({"kind":"final","a":)" + std::string(200'000, '[') + std::string(200'000, ']') + "}\n";
  folder_.write("runs/r0001-cnn/metrics.jsonl", deep);
  folder_.write("runs/r0001-cnn/job.yaml", ":\n- :\n- a: 1\n- b:\n- c\n  - d: 2\n:: 3\n  -\n[:\n  - e: 4\na:");
  for (const char* verb : {"show", "report"}) text({verb, "r0001"});
  parsed({"show", "r0001", "--json"});
  parsed({"compare", "r0001", "r0002", "--json"});
}

TEST_F(RecordTest, EachLayerOfAJobHasItsSettings) {
  const std::string text_of_job = R"(kind: train
name: by-layers
data: {train: {images: train.images, labels: train.labels}}
model:
  name: layers
  layers: [{type: conv, filters: 2}, {type: flatten}, {type: dense, units: 10}]
train: {epochs: 1}
)";
  ASSERT_EQ(workspace_.trivet({"run", folder_.write("layers.yaml", text_of_job).string()}).exit_code, 0);
  EXPECT_THAT(text({"show", "r0001"}),
              AllOf(HasSubstr("model.layers[0].filters = 2"), HasSubstr("model.layers[1].type = flatten"),
                    HasSubstr("model.layers[2].units = 10"), HasSubstr("train.epochs = 1")));
}

TEST_F(RecordTest, OnAPipeThereAreNoControlCharacters) {
  const Ended ended = workspace_.trivet({"run", train_job()});
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_FALSE(has_control_characters(ended.out)) << ended.out;
  EXPECT_EQ(ended.err, "");
  EXPECT_THAT(ended.out, AllOf(HasSubstr("run r0001 (cnn) in "), HasSubstr("epoch 3/3: train loss "),
                               HasSubstr("done: 21 steps")));
}

TEST_F(RecordTest, OnATerminalThereIsAProgressBar) {
  ::setenv("TERM", "xterm", 1);
  ::setenv("LC_ALL", "C", 1);
  ::unsetenv("NO_COLOR");
  const Ended ended = workspace_.trivet({"run", train_job()}, {.terminal = true});
  ASSERT_EQ(ended.exit_code, 0) << ended.out;
  EXPECT_THAT(ended.out, HasSubstr("\r\x1b[K"));
  EXPECT_TRUE(std::regex_search(ended.out, std::regex(R"(train[^\n]*\[[#.]+\])"))) << ended.out;
  EXPECT_THAT(ended.out, HasSubstr("done: 21 steps"));
}

TEST_F(RecordTest, OutputThatCannotBeWrittenIsAnError) {
  const std::string job = train_job();
  ASSERT_EQ(workspace_.trivet({"run", job}).exit_code, 0);
  const std::vector<std::string> commands[] = {
      {"runs", "--json"}, {"show", "r0001"}, {"compare", "r0001", "r0001"}, {"plan", job}};
  for (const std::vector<std::string>& command : commands) {
    const Ended ended = workspace_.trivet(command, {.output = "/dev/full"});
    EXPECT_EQ(ended.exit_code, 7) << command.front();
    EXPECT_THAT(ended.err, HasSubstr("standard output"));
  }
}

TEST_F(RecordTest, AWorkspaceWhosePathIsNoTextIsRefused) {
  const Workspace workspace(folder_ / "runs\xff");
  for (const std::vector<std::string>& command : {std::vector<std::string>{"run", train_job()}, {"runs", "--json"}}) {
    const Ended ended = workspace.trivet(command);
    EXPECT_EQ(ended.exit_code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("UTF-8"));
  }
  EXPECT_FALSE(fs::exists(workspace.path()));
}

TEST_F(RecordTest, EveryVerbsHelpHasAnExample) {
  for (const char* verb : {"run", "resume", "plan", "runs", "show", "compare", "report"}) {
    const Ended ended = trivet({verb, "--help"});
    EXPECT_EQ(ended.exit_code, 0) << verb;
    EXPECT_THAT(ended.out, HasSubstr(fmt::format("Example:\n  trivet {}", verb)));
    EXPECT_EQ(ended.err, "");
  }
  const std::string help = trivet({"--help"}).out;
  EXPECT_THAT(help, AllOf(HasSubstr("trivet run "), HasSubstr("Exit codes"), Not(HasSubstr("worker"))));
  // `trivet --help` is answered by a program of its own, this by the one behind it.
  EXPECT_EQ(help, trivet({"--workspace", "elsewhere", "--help"}).out);
}

TEST_F(RecordTest, TheVersionNamesTheBuild) {
  const Ended ended = trivet({"--version"});
  EXPECT_EQ(ended.exit_code, 0);
  EXPECT_TRUE(std::regex_match(ended.out, std::regex(R"(trivet [0-9]+\.[0-9]+\.[0-9]+ \([^\n]+\)\n)"))) << ended.out;
}

}  // namespace
}  // namespace trivet::testing
