// Runs that fail at work, by divergence or a full disk: the checkpoint before stays and can be used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class FailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_set(folder_, "train", 240);
    write_small_set(folder_, "test", 50, 12, 6);
  }

  // The id of a run that was stopped at its first checkpoint.
  static std::string interrupted_run(const Workspace& workspace, const fs::path& job) {
    for (int i = 1; i < 8; ++i) {  // it may be done before the signal is there
      const std::string id = fmt::format("r{:04}", i);
      Program program(workspace.command({"run", job.string()}));
      wait_while_running(program, [&] { return !checkpoint_steps(workspace.checkpoints(id)).empty(); });
      program.signal(SIGINT);
      if (program.wait().exit_code == 75) return id;
    }
    return {};
  }

  // Each of the run's checkpoints predicts.
  void expect_usable_checkpoints(const Workspace& workspace, const std::string& id) const {
    const fs::path checkpoints = workspace.checkpoints(id);
    EXPECT_FALSE(checkpoint_steps(checkpoints).empty());
    for (const int step : checkpoint_steps(checkpoints)) {
      const fs::path job = folder_.write("infer.yaml", infer_job(checkpoint_path(checkpoints, step).string()));
      const Workspace other(folder_ / "predictions");
      const Ended ended = other.trivet({"run", job.string()});
      EXPECT_EQ(ended.exit_code, 0) << "step " << step << ": " << ended.err;
    }
    EXPECT_EQ(half_written(workspace.path()), std::vector<fs::path>{});
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

// Weight decay alone multiplies the weights by -100,000 in each step: the eighth makes them infinite, on any machine.
std::string diverging_job(int epochs, int batch, double validation) {
  return fmt::format(R"(kind: train
name: diverging
threads: 1
data: {{train: {{images: train.images, labels: train.labels}}, validation: {}}}
model: {{name: layers, layers: [{{type: flatten}}, {{type: dense, units: 10}}]}}
train:
  epochs: {}
  batch: {}
  optimizer: {{name: sgd, lr: 100, momentum: 0, weight_decay: 1000}}
)",
                     validation, epochs, batch);
}

TEST_F(FailureTest, ADivergedRunKeepsAUsableCheckpoint) {
  const fs::path job = folder_.write(
      "job.yaml", diverging_job(2, 20, 0.1) + "  checkpoint: {every_steps: 1, keep_last: 1, keep_best: false}\n");
  const Ended ended = workspace_.trivet({"run", job.string()});
  EXPECT_EQ(ended.exit_code, 9) << ended.out;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("step 8"), HasSubstr("lower train.optimizer.lr")));
  EXPECT_EQ(workspace_.last_run().at("state"), "FAILED");
  EXPECT_EQ(checkpoint_steps(workspace_.checkpoints("r0001")), std::vector<int>{7});
  expect_usable_checkpoints(workspace_, "r0001");
  // Its bits are the same, so it diverges again, at the same step.
  const Ended resumed = workspace_.trivet({"resume", "r0001"});
  EXPECT_EQ(resumed.exit_code, 9) << resumed.out;
  EXPECT_EQ(resumed.err, ended.err);
  EXPECT_THAT(resumed.out, HasSubstr("going on from checkpoint 7:"));
  expect_usable_checkpoints(workspace_, "r0001");
}

TEST_F(FailureTest, AModelThatTheLastUpdateRuinedIsNoResult) {
  const std::string jobs[] = {diverging_job(1, 27, 0.1), diverging_job(1, 30, 0)};  // eight steps each
  for (const std::string& text : jobs) {
    const Ended ended = workspace_.trivet({"run", folder_.write("job.yaml", text).string()});
    EXPECT_EQ(ended.exit_code, 9) << ended.out;
    EXPECT_EQ(workspace_.last_run().at("state"), "FAILED");
    EXPECT_FALSE(fs::exists(workspace_.folder("r0001") / "result.json"));
    EXPECT_EQ(workspace_.trivet({"show", "r0001"}).exit_code, 0);
  }
}

// Parameters and optimizer states of 590 kB each.
std::string large_job() {
  return R"(kind: train
name: large
threads: 1
data: {train: {images: train.images, labels: train.labels}}
model: {name: mlp, hidden: [950]}
train:
  epochs: 6
  batch: 32
  optimizer: {name: sgd, lr: 0.01}
  checkpoint: {keep_last: 1, keep_best: false}
)";
}

TEST_F(FailureTest, OnAFullDiskTheLastCheckpointStaysAndTheRunCanGoOn) {
  const fs::path job = folder_.write("job.yaml", large_job());
  const Workspace reference(folder_ / "reference");
  ASSERT_EQ(reference.trivet({"run", job.string()}).exit_code, 0);

  const std::string id = interrupted_run(workspace_, job);
  ASSERT_NE(id, "");
  const std::vector<int> before = checkpoint_steps(workspace_.checkpoints(id));

  const Ended full = workspace_.trivet({"resume", id}, {.file_limit = 400'000});
  EXPECT_EQ(full.exit_code, 7) << full.out;
  EXPECT_THAT(full.err,
              AllOf(HasSubstr("model.safetensors"), HasSubstr("File too large"), HasSubstr("writing checkpoint")));
  EXPECT_EQ(checkpoint_steps(workspace_.checkpoints(id)), before);
  expect_usable_checkpoints(workspace_, id);

  const Ended resumed = workspace_.trivet({"resume", id});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  expect_same_outcome(reference.folder("r0001"), workspace_.folder(id));
}

TEST_F(FailureTest, AWorkerThatIsKilledIsToldAsTheReason) {
  const fs::path job = folder_.write("job.yaml", large_job());
  Ended ended;
  for (int i = 1; i < 8 && ended.exit_code != 128 + SIGKILL; ++i) {  // it may be done before
    Program program(workspace_.command({"run", job.string()}));
    const std::string id = fmt::format("r{:04}", i);
    wait_while_running(program, [&] { return !checkpoint_steps(workspace_.checkpoints(id)).empty(); });
    const std::optional<ProcessId> worker = program.worker();
    if (worker) ::kill(static_cast<pid_t>(worker->pid), SIGKILL);
    ended = program.wait();
  }
  EXPECT_EQ(ended.exit_code, 128 + SIGKILL) << ended.err;
  EXPECT_THAT(ended.err, AllOf(HasSubstr("the worker ended with SIGKILL"), HasSubstr("failed; its log is ")));
}

TEST_F(FailureTest, ARunIsNotResumedOnOtherData) {
  const fs::path job = folder_.write("job.yaml", diverging_job(2, 20, 0.1));
  ASSERT_EQ(workspace_.trivet({"run", job.string(), "--set", "train.checkpoint.every_steps=1"}).exit_code, 9);
  write_small_set(folder_, "train", 240, 12, 77);
  const Ended resumed = workspace_.trivet({"resume", "r0001"});
  EXPECT_EQ(resumed.exit_code, 6) << resumed.out;
  EXPECT_THAT(resumed.err, AllOf(HasSubstr("other data"), HasSubstr("step-")));
  expect_usable_checkpoints(workspace_, "r0001");
}

// A file system of its own, seen by this process and those that it starts.
class SmallDisk {
 public:
  explicit SmallDisk(fs::path path) : path_(std::move(path)) {
    fs::create_directories(path_);
    mounted_ = ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=2m") == 0;
    error_ = errno;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  std::string error() const { return std::strerror(error_); }
  bool grow() const { return remount(0, "size=16m"); }
  bool forbid_writing() const { return remount(MS_RDONLY, nullptr); }
  bool allow_writing() const { return remount(0, nullptr); }

 private:
  bool remount(unsigned long flags, const char* options) const {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | flags, options) == 0;
  }

  fs::path path_;
  bool mounted_ = false;
  int error_ = 0;
};

TEST_F(FailureTest, OnASmallDiskLikewise) {
  const fs::path job = folder_.write("job.yaml", large_job());
  const SmallDisk disk(folder_ / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "this process may not mount a file system: " << disk.error();
  const Workspace reference(folder_ / "reference");
  ASSERT_EQ(reference.trivet({"run", job.string()}).exit_code, 0);

  // One checkpoint fits, a second one beside it does not.
  const Workspace workspace(folder_ / "disk" / "runs");
  const Ended full = workspace.trivet({"run", job.string()});
  EXPECT_EQ(full.exit_code, 7) << full.out;
  EXPECT_THAT(full.err, AllOf(HasSubstr("No space left on device"), HasSubstr("free space")));
  EXPECT_EQ(checkpoint_steps(workspace.checkpoints("r0001")).size(), 1u);
  expect_usable_checkpoints(workspace, "r0001");

  ASSERT_TRUE(disk.grow());
  const Ended resumed = workspace.trivet({"resume", "r0001"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("going on from checkpoint"));
  expect_same_outcome(reference.folder("r0001"), workspace.folder("r0001"));
}

// Unlike permissions, this binds root as well.
TEST_F(FailureTest, OnADiskThatTurnsReadOnlyTheRunIsKeptAndCanGoOn) {
  const fs::path job = folder_.write("job.yaml", large_job());
  const SmallDisk disk(folder_ / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "this process may not mount a file system: " << disk.error();
  ASSERT_TRUE(disk.grow());
  const Workspace reference(folder_ / "reference");
  ASSERT_EQ(reference.trivet({"run", job.string()}).exit_code, 0);
  const Workspace workspace(folder_ / "disk" / "runs");
  const std::string id = interrupted_run(workspace, job);
  ASSERT_NE(id, "");

  ASSERT_TRUE(disk.forbid_writing());
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"resume", id}, {"run", job.string()}, {"report", id}}) {
    const Ended refused = workspace.trivet(arguments);
    EXPECT_EQ(refused.exit_code, 7) << arguments[0] << ": " << refused.out;
    EXPECT_THAT(refused.err, AllOf(HasSubstr(workspace.path().string()), HasSubstr("ead-only"), HasSubstr("hint: ")));
  }
  const Workspace fresh(folder_ / "disk" / "fresh");
  const Ended refused = fresh.trivet({"run", job.string()});
  EXPECT_EQ(refused.exit_code, 7) << refused.out;
  EXPECT_THAT(refused.err, AllOf(HasSubstr(fresh.path().string()), HasSubstr("Read-only file system")));

  ASSERT_TRUE(disk.allow_writing());
  const Ended resumed = workspace.trivet({"resume", id});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  expect_same_outcome(reference.folder("r0001"), workspace.folder(id));
}

}  // namespace
}  // namespace trivet::testing
