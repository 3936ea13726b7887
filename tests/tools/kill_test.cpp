// A run that is killed and resumed, wherever it is killed and however often, ends with the bits of one that never was.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <random>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using std::chrono::duration;
using std::chrono::steady_clock;

constexpr int kKills = 25;           // of runs at work, for each of the two jobs
constexpr int kMostRuns = 200;       // a kill that comes after the end does not count
constexpr int kMostKillsOfARun = 4;  // the first attempt and three resumed ones

enum class Victim { worker, both, parent };

class KillTest : public ::testing::Test {
 protected:
  void kill_and_resume(const std::string& text, std::uint32_t seed);

 private:
  void measure_reference();
  void one_run(int number);
  std::vector<std::string> next_command(const Workspace& workspace) const;
  bool kill_somewhere(const Program& program, const Workspace& workspace);
  bool wait_for_checkpoint_write(const Program& program, const Workspace& workspace);
  bool kill_victim(const Program& program);
  double uniform(double limit) { return std::uniform_real_distribution<double>(0, limit)(random_); }

  TempDir folder_;
  fs::path job_;
  fs::path reference_;
  double seconds_ = 0;  // of a whole run
  int last_step_ = 0;
  std::mt19937 random_;
  int kills_ = 0;
  int killed_while_writing_ = 0;
};

void KillTest::measure_reference() {
  const Workspace workspace(folder_ / "reference");
  const auto began = steady_clock::now();
  const Ended ended = workspace.trivet({"run", job_.string()});
  seconds_ = duration<double>(steady_clock::now() - began).count();
  ASSERT_EQ(ended.exit_code, 0) << ended.err;
  reference_ = workspace.folder("r0001");
  last_step_ = checkpoint_steps(workspace.checkpoints("r0001")).back();
}

// Kills the worker, the process that watches it, or both; false if the run had ended by then.
bool KillTest::kill_victim(const Program& program) {
  const auto victim = static_cast<Victim>(std::uniform_int_distribution<int>(0, 2)(random_));
  program.stop();  // or it might start a worker once that was looked for, and the orphan would not be waited for
  const std::optional<ProcessId> worker = program.worker();
  if (!program.running()) return false;
  if (victim != Victim::parent && worker) ::kill(static_cast<pid_t>(worker->pid), SIGKILL);
  if (victim != Victim::worker || !worker) program.signal(SIGKILL);
  program.signal(SIGCONT);
  // An orphan is told by the kernel to end; it checkpoints first.
  if (worker) {
    EXPECT_TRUE(wait_until_gone(*worker));
  }
  return true;
}

bool KillTest::wait_for_checkpoint_write(const Program& program, const Workspace& workspace) {
  const int from = std::uniform_int_distribution<int>(1, last_step_)(random_);
  return wait_while_running(program, [&] {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(workspace.checkpoints("r0001"), error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(".writing-") && std::stoi(name.substr(9)) >= from) return true;
    }
    return false;
  });
}

// A third of the kills come while a checkpoint is written, the others at any time.
bool KillTest::kill_somewhere(const Program& program, const Workspace& workspace) {
  const bool aimed = uniform(1) < 1.0 / 3;
  if (aimed && !wait_for_checkpoint_write(program, workspace)) return false;
  const auto began = steady_clock::now();
  const duration<double> delay(uniform(aimed ? 0.005 : seconds_));
  wait_while_running(program, [&] { return steady_clock::now() - began >= delay; });
  if (!kill_victim(program)) return false;
  ++kills_;
  for (const fs::path& path : half_written(workspace.path())) {
    if (path.filename().string().starts_with(".writing-")) {
      ++killed_while_writing_;
      break;
    }
  }
  return true;
}

// What a user would do now; nothing if the run is completed.
std::vector<std::string> KillTest::next_command(const Workspace& workspace) const {
  const nlohmann::json runs = workspace.runs();
  if (runs.empty()) return workspace.command({"run", job_.string()});
  const nlohmann::json& last = runs.back();
  if (last.at("state") == "COMPLETED") return {};
  EXPECT_TRUE(last.at("state") == "FAILED" || last.at("state") == "CANCELLED") << last;
  // Killed before its job file was there, a run cannot be resumed and says so.
  const std::string id = last.at("id").get<std::string>();
  if (!fs::exists(workspace.folder(id) / "job.yaml")) return workspace.command({"run", job_.string()});
  return workspace.command({"resume", id});
}

void KillTest::one_run(int number) {
  SCOPED_TRACE(fmt::format("run {}", number));
  const Workspace workspace(folder_ / fmt::format("killed-{}", number));
  std::vector<std::string> command = workspace.command({"run", job_.string()});
  const int kills = std::uniform_int_distribution<int>(1, kMostKillsOfARun)(random_);
  for (int attempt = 0; !command.empty(); ++attempt) {
    ASSERT_LE(attempt, kills) << "not completed, although nothing killed it";
    const auto began = steady_clock::now();
    Program program(command);
    const bool killed = attempt < kills && kill_somewhere(program, workspace);
    const Ended ended = program.wait();
    if (!killed) {
      ASSERT_EQ(ended.exit_code, 0) << ended.err;
      // The reference may have met a busy disk.
      if (attempt == 0) seconds_ = std::min(seconds_, duration<double>(steady_clock::now() - began).count());
    }
    command = next_command(workspace);
  }
  const std::string id = workspace.last_run().at("id").get<std::string>();
  expect_same_outcome(reference_, workspace.folder(id));
  fs::remove_all(workspace.path());
}

void KillTest::kill_and_resume(const std::string& text, std::uint32_t seed) {
  random_.seed(seed);
  write_small_set(folder_, "train", 240);
  job_ = folder_.write("job.yaml", text);
  ASSERT_NO_FATAL_FAILURE(measure_reference());
  int runs = 0;
  while (kills_ < kKills && runs < kMostRuns) {
    ASSERT_NO_FATAL_FAILURE(one_run(runs++));
    if (HasFailure()) return;
  }
  EXPECT_GE(kills_, kKills) << "in " << runs << " runs";
  RecordProperty("kills", kills_);
  RecordProperty("killed_while_writing", killed_while_writing_);
}

TEST_F(KillTest, AKilledAndResumedRunEndsWithTheSameBits) { kill_and_resume(cnn_job(), 1); }

TEST_F(KillTest, SoDoesOneThatAccumulatesGradients) { kill_and_resume(micro_batch_job(), 2); }

}  // namespace
}  // namespace trivet::testing
