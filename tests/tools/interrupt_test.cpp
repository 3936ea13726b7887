// Ctrl-C and SIGTERM: a checkpoint, exit code 75, and the same bits after `trivet resume`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <regex>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// The value of a field of /proc/PID/status (proc(5)).
std::string status_of(const ProcessId& process, const std::string& field) {
  const std::string status = slurp(fs::path("/proc") / std::to_string(process.pid) / "status");
  const std::size_t at = status.find(field + ":\t");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + field.size() + 2;
  return status.substr(begin, status.find('\n', begin) - begin);
}

bool stopped(const ProcessId& process) { return status_of(process, "State").starts_with("T"); }

// Whether the signal was sent to the process and has not been handled yet.
bool pending(const ProcessId& process, int signal) {
  const std::string signals = status_of(process, "ShdPnd");
  return !signals.empty() && (std::stoull(signals, nullptr, 16) >> (signal - 1) & 1) != 0;
}

class InterruptedRun : public ::testing::Test {
 protected:
  static constexpr int kEpochs = 12;
  static constexpr int kTries = 8;  // a run may end before the signal is there

  void SetUp() override {
    write_small_set(folder_, "train", 240);
    job_ = folder_.write("job.yaml", micro_batch_job(kEpochs));
  }

  // Starts runs until one is met at work by `send`, which is called once there is a checkpoint.
  Ended interrupt(const std::function<void(const Program&)>& send) {
    Ended ended;
    for (int i = 1; i <= kTries; ++i) {
      id_ = "r000" + std::to_string(i);
      Program program(workspace_.command({"run", job_.string()}));
      wait_while_running(program, [&] { return !checkpoint_steps(workspace_.checkpoints(id_)).empty(); });
      send(program);
      ended = program.wait();
      if (ended.exit_code != 0) return ended;
    }
    ADD_FAILURE() << "no run was met at work";
    return ended;
  }

  nlohmann::json record() const { return workspace_.last_run(); }

  void expect_resumes_to_the_reference() const {
    const Workspace reference(folder_ / "reference");
    ASSERT_EQ(reference.trivet({"run", job_.string()}).exit_code, 0);
    const Ended resumed = workspace_.trivet({"resume", id_});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("going on from checkpoint"));
    EXPECT_EQ(record().at("state"), "COMPLETED");
    EXPECT_EQ(record().at("attempt"), 2);
    expect_same_outcome(reference.folder("r0001"), workspace_.folder(id_));
  }

  TempDir folder_;
  Workspace workspace_{folder_ / "runs"};
  std::string id_;
  fs::path job_;
};

class InterruptTest : public InterruptedRun, public ::testing::WithParamInterface<int> {};

TEST_P(InterruptTest, WritesACheckpointAndResumesToTheSameBits) {
  const Ended ended = interrupt([](const Program& program) { program.signal(GetParam()); });
  EXPECT_EQ(ended.exit_code, 75) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("stopping: writing a checkpoint (again to kill)"));
  EXPECT_THAT(ended.out, HasSubstr("go on with: trivet resume " + id_));
  EXPECT_EQ(record().at("state"), "CANCELLED");
  EXPECT_EQ(record().at("reason"), "interrupted, checkpointed");
  EXPECT_EQ(record().at("exit_code"), 75);

  std::smatch stopped;
  ASSERT_TRUE(std::regex_search(ended.out, stopped, std::regex("stopped at step ([0-9]+) with a checkpoint")))
      << ended.out;
  EXPECT_THAT(checkpoint_steps(workspace_.checkpoints(id_)), Contains(std::stoi(stopped[1])));
  EXPECT_EQ(half_written(workspace_.path()), std::vector<fs::path>{});
  expect_resumes_to_the_reference();
}

INSTANTIATE_TEST_SUITE_P(Signals, InterruptTest, ::testing::Values(SIGINT, SIGTERM, SIGHUP),
                         [](const auto& test) { return std::string("SIG") + sigabbrev_np(test.param); });

TEST_F(InterruptedRun, IsKilledByASecondSignalAndItsLastCheckpointStays) {
  // Stopped, the worker cannot react to the first signal, so the second one surely meets it.
  std::optional<ProcessId> worker;
  const Ended ended = interrupt([&](const Program& program) {
    worker = program.worker();
    if (!worker) return;
    ::kill(static_cast<pid_t>(worker->pid), SIGSTOP);
    wait_while_running(program, [&] { return stopped(*worker); });
    program.signal(SIGINT);
    // The kernel keeps one pending signal of a kind, so the second must not come before the first was taken.
    wait_while_running(program, [&] { return pending(*worker, SIGINT); });
    program.signal(SIGINT);
  });
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("killed: the last checkpoint stays"));
  EXPECT_EQ(record().at("state"), "CANCELLED");
  expect_resumes_to_the_reference();
}

}  // namespace
}  // namespace trivet::testing
