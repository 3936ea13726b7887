// Several ranks: the bits of one, the end of all when one ends, and going on with another number of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using ::testing::HasSubstr;

// The processes whose parent is `parent`.
std::vector<ProcessId> children_of(const ProcessId& parent) {
  std::vector<ProcessId> found;
  std::error_code error;
  const std::string task = fmt::format("/proc/{0}/task/{0}/children", parent.pid);
  std::istringstream list(slurp(task));
  for (int pid = 0; list >> pid;) {
    const ProcessId child = find_process(pid);
    if (child.pid != 0) found.push_back(child);
  }
  return found;
}

// Variables of the environment while it lives.
class Variables {
 public:
  explicit Variables(std::vector<std::pair<std::string, std::string>> values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;
  ~Variables() {
    for (const auto& [name, value] : values_) ::unsetenv(name.c_str());
  }

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

class RanksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_set(folder_, "train", 250);  // the last batch has 21 samples: shards of 6, 5, 5 and 5
    job_ = folder_.write("job.yaml", cnn_job());
  }

  // Runs the job and returns the run's folder.
  fs::path run(const std::string& name, const std::vector<std::string>& settings) {
    const Workspace workspace(folder_ / name);
    const Ended ended = workspace.trivet(with(settings));
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return workspace.folder("r0001");
  }

  std::vector<std::string> with(const std::vector<std::string>& settings) const {
    std::vector<std::string> words = {"run", job_.string()};
    for (const std::string& setting : settings) words.insert(words.end(), {"--set", setting});
    return words;
  }

  // Starts a run of three ranks that would take long, and kills or stops one of them at work.
  Ended lose_a_rank(const Workspace& workspace, int signal, const std::vector<std::string>& more = {}) {
    std::vector<std::string> settings = {"ranks=3", "train.epochs=100000", "train.checkpoint.every_steps=20"};
    settings.insert(settings.end(), more.begin(), more.end());
    Program program(workspace.command(with(settings)));
    wait_while_running(program, [&] { return checkpoint_steps(workspace.checkpoints("r0001")).size() > 1; });
    const std::optional<ProcessId> root = program.worker();
    const std::vector<ProcessId> others = root ? children_of(*root) : std::vector<ProcessId>{};
    EXPECT_EQ(others.size(), 2u);
    if (others.size() == 2) ::kill(static_cast<pid_t>(others[1].pid), signal);
    const Ended ended = program.wait();
    for (const ProcessId& other : others) EXPECT_TRUE(wait_until_gone(other));
    return ended;
  }

  TempDir folder_;
  fs::path job_;
};

TEST_F(RanksTest, WithShardsAnyNumberOfRanksGivesTheSameBits) {
  const fs::path one = run("one", {"train.shards=4"});
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    expect_same_outcome(one, run(fmt::format("ranks-{}", ranks), {"train.shards=4", fmt::format("ranks={}", ranks)}));
  }
}

TEST_F(RanksTest, TheSumsOfGlooHaveTheBitsOfSharedMemory) {
  const fs::path one = run("one", {"train.shards=4"});
  const Variables variables({std::pair<std::string, std::string>("TRIVET_COMMUNICATOR", "gloo")});
  const fs::path four = run("four", {"train.shards=4", "ranks=4"});
  expect_same_outcome(one, four);
  EXPECT_THAT(slurp(four / "log.txt"), HasSubstr("4 ranks have joined by gloo"));
}

TEST_F(RanksTest, ShardsGiveTheSameBitsWithClassWeightsAveragesAndBf16Weights) {
  const std::vector<std::string> settings = {"train.shards=4", "data.class_weights=balanced", "train.average.decay=0.9",
                                             "model.precision=bf16_weights"};
  const fs::path one = run("one", settings);
  std::vector<std::string> two = settings;
  two.emplace_back("ranks=2");
  expect_same_outcome(one, run("two", two));
}

TEST_F(RanksTest, ShardsGiveTheSameBitsInF16) {
  const fs::path one = run("one", {"train.shards=4", "model.precision=f16"});
  expect_same_outcome(one, run("two", {"train.shards=4", "model.precision=f16", "ranks=2"}));
}

// Two runs of the same job, of which one shares its memory out, end in the same bits.
class ZeroTest : public RanksTest, public ::testing::WithParamInterface<int> {
 protected:
  void expect_same_bits(const std::string& name, std::vector<std::string> settings) {
    SCOPED_TRACE(name);
    const fs::path plain = run(name, settings);
    settings.push_back(fmt::format("train.zero={}", GetParam()));
    expect_same_outcome(plain, run(name + "-shared-out", settings));
  }
};

TEST_P(ZeroTest, GivesTheBitsOfRanksThatKeepEverything) {
  expect_same_bits("clipped", {"ranks=2"});
  expect_same_bits("three", {"ranks=3", "train.average.decay=0.9", "train.average.start_step=4"});
  expect_same_bits("bf16", {"ranks=2", "model.precision=bf16_weights", "train.average.decay=0.9", "train.clip_norm=0"});
  expect_same_bits("f16", {"ranks=2", "model.precision=f16", "train.average.decay=0.9"});
  expect_same_bits("shards", {"ranks=2", "train.shards=4", "data.class_weights=balanced"});
  expect_same_bits("muon", {"ranks=2", "train.optimizer.name=muon", "model.precision=bf16_weights"});
  job_ = folder_.write("micro.yaml", micro_batch_job());
  expect_same_bits("accumulated", {"ranks=2"});
  job_ = folder_.write("easy.yaml", easy_job());
  for (const char* optimizer : {"adafactor", "lion"}) {
    expect_same_bits(optimizer, {"ranks=4", fmt::format("train.optimizer.name={}", optimizer), "train.epochs=3"});
  }
}

TEST_P(ZeroTest, GivesThemByGlooToo) {
  const fs::path one = run("one", {"train.shards=4", "train.average.decay=0.9"});
  const fs::path two = run("two", {"ranks=2", "train.average.decay=0.9"});
  const Variables variables({std::pair<std::string, std::string>("TRIVET_COMMUNICATOR", "gloo")});
  const std::string zero = fmt::format("train.zero={}", GetParam());
  expect_same_outcome(one, run("four-gloo", {"train.shards=4", "train.average.decay=0.9", "ranks=4", zero}));
  expect_same_outcome(two, run("two-gloo", {"ranks=2", "train.average.decay=0.9", zero}));
}

TEST_P(ZeroTest, ACheckpointIsReadByAnyNumberOfRanks) {
  const std::vector<std::string> plain = {"train.shards=4", "train.epochs=40", "train.average.decay=0.9"};
  const fs::path reference = run("reference", plain);
  std::vector<std::string> settings = plain;
  settings.insert(settings.end(), {"ranks=4", fmt::format("train.zero={}", GetParam())});
  for (const char* ranks : {"2", "1"}) {  // on two the states are shared out otherwise, one has all of them
    SCOPED_TRACE(ranks);
    const Workspace workspace(folder_ / (std::string("interrupted-") + ranks));
    Program program(workspace.command(with(settings)));
    wait_while_running(program, [&] { return !checkpoint_steps(workspace.checkpoints("r0001")).empty(); });
    program.signal(SIGTERM);
    const Ended ended = program.wait();
    ASSERT_EQ(ended.exit_code, 75) << ended.err;
    const Ended resumed = workspace.trivet({"resume", "r0001", "--ranks", ranks});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    expect_same_outcome(reference, workspace.folder("r0001"));
  }
}

TEST_P(ZeroTest, AfterALostRankTheRunGoesOnToTheSameBits) {
  const std::vector<std::string> settings = {"ranks=3", "train.epochs=40", "train.average.decay=0.9"};
  const fs::path reference = run("reference", settings);
  std::vector<std::string> more = settings;
  more.insert(more.end(), {"restarts=2", fmt::format("train.zero={}", GetParam())});
  const Workspace workspace(folder_ / "restarted");
  Program program(workspace.command(with(more)));
  wait_while_running(program, [&] { return !checkpoint_steps(workspace.checkpoints("r0001")).empty(); });
  const std::optional<ProcessId> root = program.worker();
  const std::vector<ProcessId> others = root ? children_of(*root) : std::vector<ProcessId>{};
  ASSERT_EQ(others.size(), 2u);
  ::kill(static_cast<pid_t>(others[1].pid), SIGKILL);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(workspace.last_run().at("attempt"), 2);
  expect_same_outcome(reference, workspace.folder("r0001"));
}

TEST_P(ZeroTest, ThePlanShowsAPartOfTheOptimizersStates) {
  const Workspace workspace(folder_ / "plan");
  const auto bytes = [&](int zero) {
    const Ended ended = workspace.trivet({"plan", job_.string(), "--json", "--ranks", "4", "--set",
                                          fmt::format("train.zero={}", zero), "--set", "model.hidden=[64, 64, 64]"});
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return nlohmann::json::parse(ended.out).at("memory").at("optimizer").get<double>();
  };
  EXPECT_LT(bytes(GetParam()), 0.75 * bytes(0));
}

INSTANTIATE_TEST_SUITE_P(Levels, ZeroTest, ::testing::Values(1, 2), ::testing::PrintToStringParamName());

TEST_F(RanksTest, OneRankKeepsEverythingWhateverZeroSays) {
  expect_same_outcome(run("plain", {}), run("zero", {"train.zero=2"}));
}

TEST_F(RanksTest, AZeroThatThereIsNotIsRefused) {
  const Workspace workspace(folder_ / "runs");
  const Ended ended = workspace.trivet(with({"train.zero=3"}));
  EXPECT_EQ(ended.exit_code, 3);
  EXPECT_THAT(ended.err, HasSubstr("train.zero"));
  EXPECT_THAT(ended.err, HasSubstr("3"));
}

TEST_F(RanksTest, ThreeRanksLearnAsMuchAsOne) {
  // 250 samples leave 213 for training; the last batch of 21 is cut into 7, 7 and 6.
  const nlohmann::json one = nlohmann::json::parse(slurp(run("one", {"train.epochs=8"}) / "result.json"));
  const nlohmann::json three =
      nlohmann::json::parse(slurp(run("three", {"train.epochs=8", "ranks=3"}) / "result.json"));
  EXPECT_EQ(one.at("steps"), three.at("steps"));
  EXPECT_NEAR(one.at("train").at("loss").get<double>(), three.at("train").at("loss").get<double>(), 0.25);
  EXPECT_EQ(one.at("validation").at("samples"), three.at("validation").at("samples"));
}

TEST_F(RanksTest, AccumulatedGradientsOfTwoRanksAreThoseOfOneUpToRounding) {
  folder_.write("job.yaml", micro_batch_job());
  const std::vector<std::string> plain = {"model.dropout=0", "train.micro_batch=4"};
  std::vector<std::string> two = plain;
  two.emplace_back("ranks=2");
  const nlohmann::json a = nlohmann::json::parse(slurp(run("one", plain) / "result.json"));
  const nlohmann::json b = nlohmann::json::parse(slurp(run("two", two) / "result.json"));
  EXPECT_NEAR(a.at("train").at("loss").get<double>(), b.at("train").at("loss").get<double>(), 1e-3);
}

TEST_F(RanksTest, ALastBatchWithFewerSamplesThanRanksIsTrainedOnToo) {
  // 213 training samples in batches of 53: one is left for three ranks.
  const nlohmann::json result =
      nlohmann::json::parse(slurp(run("three", {"train.batch=53", "ranks=3"}) / "result.json"));
  EXPECT_EQ(result.at("train").at("samples"), 213);
  EXPECT_EQ(result.at("steps"), 3 * 5);
}

TEST_F(RanksTest, AKilledRankEndsTheRunAndIsNamed) {
  const Workspace workspace(folder_ / "killed");
  const Ended ended = lose_a_rank(workspace, SIGKILL);
  EXPECT_EQ(ended.exit_code, 11) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("rank 2"));
  EXPECT_EQ(workspace.last_run().at("state"), "FAILED");
}

TEST_F(RanksTest, AStoppedRankEndsTheRunAtTheDeadline) {
  const Workspace workspace(folder_ / "stopped");
  const Ended ended = lose_a_rank(workspace, SIGSTOP, {"rank_deadline=5"});
  EXPECT_EQ(ended.exit_code, 11) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("rank 2"));
}

TEST_F(RanksTest, AfterALostRankARunGoesOnByItselfToTheSameBits) {
  const std::vector<std::string> settings = {"train.shards=4", "train.epochs=40"};
  const fs::path reference = run("reference", settings);
  std::vector<std::string> more = settings;
  more.insert(more.end(), {"ranks=4", "restarts=2"});
  const Workspace workspace(folder_ / "restarted");
  Program program(workspace.command(with(more)));
  wait_while_running(program, [&] { return !checkpoint_steps(workspace.checkpoints("r0001")).empty(); });
  const std::optional<ProcessId> root = program.worker();
  const std::vector<ProcessId> others = root ? children_of(*root) : std::vector<ProcessId>{};
  ASSERT_EQ(others.size(), 3u);
  ::kill(static_cast<pid_t>(others[0].pid), SIGKILL);
  const Ended ended = program.wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(workspace.last_run().at("attempt"), 2);
  expect_same_outcome(reference, workspace.folder("r0001"));
}

TEST_F(RanksTest, AnInterruptedRunWritesACheckpointAndGoesOnWithMoreRanks) {
  const std::vector<std::string> settings = {"train.shards=4", "train.epochs=40", "ranks=2"};
  const fs::path reference = run("reference", settings);
  const Workspace workspace(folder_ / "interrupted");
  Program program(workspace.command(with(settings)));
  wait_while_running(program, [&] { return !checkpoint_steps(workspace.checkpoints("r0001")).empty(); });
  program.signal(SIGTERM);
  const Ended ended = program.wait();
  ASSERT_EQ(ended.exit_code, 75) << ended.err;
  const Ended resumed = workspace.trivet({"resume", "r0001", "--ranks", "4"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  expect_same_outcome(reference, workspace.folder("r0001"));
}

TEST_F(RanksTest, RanksThatSomethingElseStartsFindEachOtherByItsVariables) {
  const fs::path reference = run("reference", {"train.shards=4"});
  const Workspace workspace(folder_ / "runs");
  const std::string port = std::to_string(20'000 + ::getpid() % 20'000);
  const auto start = [&](const std::string& rank) {
    const Variables variables({{"RANK", rank},
                               {"WORLD_SIZE", "2"},
                               {"LOCAL_WORLD_SIZE", "2"},
                               {"MASTER_ADDR", "127.0.0.1"},
                               {"MASTER_PORT", port},
                               {"TORCHELASTIC_RUN_ID", "test"}});
    return std::make_unique<Program>(workspace.command(with({"train.shards=4"})));
  };
  const std::unique_ptr<Program> second = start("1");
  const std::unique_ptr<Program> first = start("0");
  const Ended ended = first->wait();
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(second->wait().exit_code, 0);
  EXPECT_EQ(workspace.runs().size(), 1u);
  expect_same_outcome(reference, workspace.folder("r0001"));
}

TEST_F(RanksTest, VariablesThatMakeNoSenseAreNamed) {
  const Workspace workspace(folder_ / "runs");
  const Variables variables(
      {{"RANK", "0"}, {"WORLD_SIZE", "two"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29500"}});
  const Ended ended = workspace.trivet(with({}));
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("WORLD_SIZE is 'two', expected an integer"));
}

}  // namespace
}  // namespace trivet::testing
