#include "trivet/service/run.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string contents(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

class Recorder : public RunObserver {
 public:
  void on_started(const JobRecord& job) override {
    started.push_back(job);
    if (at_start) at_start();
  }
  void on_event(const WorkerEvent& event) override {
    events.push_back(event);
    if (at_event) at_event();
  }
  void on_interrupt(int, bool) override {}

  std::vector<JobRecord> started;
  std::vector<WorkerEvent> events;
  std::function<void()> at_start;
  std::function<void()> at_event;
};

class RunTest : public testing::Test {
 protected:
  // The worker for the jobs of this test: a script that is given the same arguments as the real one.
  void worker(const std::string& script) {
    const fs::path file = folder_.path() / "worker.sh";
    std::ofstream(file) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(file, fs::perms::owner_all);
    options_.worker_executable = file;
  }
  RunResult run() { return run_job(store_, {"mnist", "train", "name: mnist\n"}, recorder_, options_); }
  RunResult resume(const std::string& id) { return resume_job(store_, id, 0, recorder_, options_); }

  ErrorCode resume_error(const std::string& id, const std::string& words) {
    try {
      resume(id);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(words));
      return e.code();
    }
    ADD_FAILURE() << "resumed";
    return ErrorCode::internal;
  }

  TemporaryFolder folder_;
  double now_ = 1000;
  Store store_{folder_.path() / "runs", [this] { return now_++; }};
  Recorder recorder_;
  RunOptions options_;
};

TEST_F(RunTest, ACompletedJobIsRecordedWithItsTimes) {
  worker("exit 0");
  const RunResult result = run();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.job.id, "r0001");
  EXPECT_EQ(result.job.state, JobState::completed);
  EXPECT_EQ(result.job.exit_code, 0);
  EXPECT_EQ(result.job.reason, "");
  EXPECT_EQ(result.job.owner, this_process());
  EXPECT_EQ(result.job.created, 1000);
  EXPECT_EQ(result.job.started, 1001);
  EXPECT_EQ(result.job.ended, 1002);
  ASSERT_EQ(recorder_.started.size(), 1u);
  EXPECT_EQ(recorder_.started[0].state, JobState::running);
  EXPECT_EQ(recorder_.started[0].worker, result.job.worker);
}

TEST_F(RunTest, TheWorkerFindsTheJobFileInItsFolder) {
  worker("echo \"$@\"; cat \"$3/job.yaml\"");
  const RunResult result = run();
  const fs::path directory = folder_.path() / "runs" / "r0001-mnist";
  EXPECT_EQ(result.job.directory, directory);
  EXPECT_EQ(contents(directory / "worker.log"), "worker --directory " + directory.string() + "\nname: mnist\n");
  EXPECT_EQ(result.job.spec_digest, sha256_hex("name: mnist\n"));
}

TEST_F(RunTest, AFailedJobKeepsTheExitCodeAndTheWorkersError) {
  worker(R"(echo '{"event":"error","code":"data","text":"train.idx: 12 bytes are missing"}' >&3; exit 5)");
  const RunResult result = run();
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(result.job.state, JobState::failed);
  EXPECT_EQ(result.job.exit_code, 5);
  EXPECT_EQ(result.job.reason, "exit code 5: train.idx: 12 bytes are missing");
  EXPECT_EQ(recorder_.events.size(), 1u);
}

TEST_F(RunTest, WithoutAnErrorEventTheLogsLastLineIsTheReason) {
  worker("echo first; echo 'terminate called'; echo; exit 3");
  EXPECT_EQ(run().job.reason, "exit code 3: terminate called");
}

TEST_F(RunTest, ACrashedJobKeepsTheSignalsName) {
  worker("ulimit -c 0; kill -SEGV $$");
  const RunResult result = run();
  EXPECT_EQ(result.exit_code, 128 + SIGSEGV);
  EXPECT_EQ(result.job.state, JobState::failed);
  EXPECT_EQ(result.job.reason, "SIGSEGV");
  EXPECT_FALSE(result.job.exit_code);
}

TEST_F(RunTest, AReasonIsOneLineOfBoundedLength) {
  worker(R"(printf 'x%.0s' $(seq 5000); printf '\033[2J\n'; exit 3)");
  const std::string reason = run().job.reason;
  EXPECT_LE(reason.size(), 1000u);
  EXPECT_EQ(reason.find('\x1b'), std::string::npos);
}

TEST_F(RunTest, ACheckpointedJobIsCancelledAndCanBeResumed) {
  worker("[ \"$4\" = --resume ] && exit 0; exit 75");
  const RunResult first = run();
  EXPECT_EQ(first.exit_code, 75);
  EXPECT_EQ(first.job.state, JobState::cancelled);
  EXPECT_EQ(first.job.reason, "interrupted, checkpointed");
  const RunResult second = resume("r0001");
  EXPECT_EQ(second.exit_code, 0);
  EXPECT_EQ(second.job.state, JobState::completed);
  EXPECT_EQ(second.job.attempt, 2);
  EXPECT_EQ(second.job.directory, first.job.directory);
  EXPECT_EQ(store_.list().size(), 1u);
}

TEST_F(RunTest, AnInterruptReachesTheWorkerAndTheRecord) {
  worker("trap 'exit 75' TERM; echo '{\"event\":\"line\",\"text\":\"ready\"}' >&3; while :; do sleep 0.01; done");
  recorder_.at_event = [] { raise(SIGTERM); };
  EXPECT_EQ(run().job.reason, "interrupted, checkpointed");
}

TEST_F(RunTest, AnInterruptedJobWithoutACheckpointIsCancelledToo) {
  worker("echo '{\"event\":\"line\",\"text\":\"ready\"}' >&3; sleep 600");
  recorder_.at_event = [] { raise(SIGTERM); };
  const RunResult result = run();
  EXPECT_EQ(result.job.state, JobState::cancelled);
  EXPECT_EQ(result.job.reason, "interrupted, ended by SIGTERM");
  EXPECT_EQ(result.exit_code, 128 + SIGTERM);
}

TEST_F(RunTest, AnErrorOfALaterAttemptIsNotTakenFromAnEarliersLog) {
  worker("[ \"$4\" = --resume ] && exit 4; echo 'old words'; exit 3");
  EXPECT_EQ(run().job.reason, "exit code 3: old words");
  EXPECT_EQ(resume("r0001").job.reason, "exit code 4");
}

TEST_F(RunTest, AWorkerThatCannotStartIsInTheRecord) {
  options_.worker_executable = folder_.path() / "missing";
  EXPECT_THROW(run(), Error);
  const JobRecord job = store_.get("r0001");
  EXPECT_EQ(job.state, JobState::failed);
  EXPECT_THAT(job.reason, HasSubstr("missing"));
}

TEST_F(RunTest, AFolderThatIsInTheWayIsInTheRecordAndLeftAlone) {
  worker("exit 0");
  fs::create_directory(folder_.path() / "runs" / "r0001-mnist");
  EXPECT_THROW(run(), Error);
  EXPECT_EQ(store_.get("r0001").state, JobState::failed);
  EXPECT_THAT(recorder_.started, IsEmpty());
  EXPECT_TRUE(fs::is_empty(folder_.path() / "runs" / "r0001-mnist"));
}

TEST_F(RunTest, AnObserversExceptionEndsTheAttemptAndTheRecordSaysSo) {
  worker("sleep 600");
  recorder_.at_start = [] { throw std::runtime_error("the screen is gone"); };
  EXPECT_THROW(run(), std::runtime_error);
  const JobRecord job = store_.get("r0001");
  EXPECT_EQ(job.state, JobState::failed);
  EXPECT_EQ(job.reason, "the screen is gone");
  EXPECT_FALSE(is_running(job.worker));
}

TEST_F(RunTest, OnlyAFailedOrCancelledJobIsResumed) {
  worker("exit 0");
  run();
  EXPECT_EQ(resume_error("r0001", "COMPLETED"), ErrorCode::state);
  const std::string live = store_.create_job({"live", "train", "abc"}, this_process()).id;
  EXPECT_EQ(resume_error(live, "PENDING"), ErrorCode::state);
  store_.mark_started(live, 1, this_process());
  EXPECT_EQ(resume_error(live, "RUNNING"), ErrorCode::state);
  EXPECT_EQ(resume_error("r0009", "r0009"), ErrorCode::usage);
}

TEST_F(RunTest, AJobWhoseFileWasChangedIsNotResumed) {
  worker("exit 3");
  const RunResult result = run();
  std::ofstream(result.job.directory / "job.yaml") << "name: other\n";
  EXPECT_EQ(resume_error("r0001", "was changed"), ErrorCode::state);
  fs::remove(result.job.directory / "job.yaml");
  EXPECT_EQ(resume_error("r0001", "is gone"), ErrorCode::state);
  EXPECT_EQ(store_.get("r0001").attempt, 1);
  EXPECT_EQ(store_.get("r0001").state, JobState::failed);
}

// A process that has ended, with the number it had.
ProcessId ended_process() {
  const pid_t pid = start_child([] {
    pause();
    return 0;
  });
  const ProcessId process = find_process(pid);
  kill(pid, SIGKILL);
  wait_for(pid);
  return process;
}

TEST_F(RunTest, RecoveryMarksJobsWhoseProcessesHaveVanished) {
  const ProcessId gone = ended_process();
  const std::string pending = store_.create_job({"a", "train", "abc"}, gone).id;
  const std::string running = store_.create_job({"b", "train", "abc"}, gone).id;
  store_.mark_started(running, 1, gone);
  std::vector<std::string> marked;
  for (const JobRecord& job : recover(store_)) marked.push_back(job.id);
  EXPECT_THAT(marked, ElementsAre(pending, running));
  for (const std::string& id : {pending, running}) {
    EXPECT_EQ(store_.get(id).state, JobState::failed);
    EXPECT_EQ(store_.get(id).reason, "process vanished");
  }
  EXPECT_THAT(recover(store_), IsEmpty());
}

TEST_F(RunTest, RecoveryLeavesLiveAndEndedJobsAlone) {
  const ProcessId gone = ended_process();
  const std::string owned = store_.create_job({"a", "train", "abc"}, this_process()).id;
  store_.mark_started(owned, 1, gone);  // its launcher is about to record the end
  const std::string orphan = store_.create_job({"b", "train", "abc"}, gone).id;
  store_.mark_started(orphan, 1, this_process());  // it is about to checkpoint and end
  const std::string ended = store_.create_job({"c", "train", "abc"}, gone).id;
  store_.mark_ended(ended, 1, JobState::completed, "", 0);
  EXPECT_THAT(recover(store_), IsEmpty());
}

TEST_F(RunTest, RecoveryIsNotFooledByAnotherProcessWithTheSameNumber) {
  ProcessId reused = this_process();
  reused.start_time -= 1;
  const std::string id = store_.create_job({"a", "train", "abc"}, reused).id;
  store_.mark_started(id, 1, reused);
  EXPECT_EQ(recover(store_).size(), 1u);
  EXPECT_EQ(store_.get(id).reason, "process vanished");
}

TEST_F(RunTest, AJobWhoseLauncherWasKilledIsResumedOnceItsWorkerIsGone) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  worker(
      "[ \"$4\" = --resume ] && exit 0; trap 'exit 75' TERM; echo '{\"event\":\"line\",\"text\":\"x\"}' >&3; "
      "while :; do sleep 0.01; done");
  // SQLite's connections do not survive a fork, so this workspace is opened here only after it.
  const fs::path workspace = folder_.path() / "other";
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t launcher = start_child([&] {
    Store store(workspace);
    Recorder recorder;
    recorder.at_event = [&] {
      if (write(ends[1], "x", 1) != 1) _exit(1);
    };
    run_job(store, {"mnist", "train", "name: mnist\n"}, recorder, options_);
    return 0;
  });
  close(ends[1]);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  Store store(workspace);
  const JobRecord before = store.get("r0001");
  EXPECT_EQ(before.state, JobState::running);
  EXPECT_THROW(resume_job(store, "r0001", 0, recorder_, options_), Error);
  ASSERT_EQ(kill(launcher, SIGKILL), 0);
  EXPECT_EQ(wait_for(launcher), 128 + SIGKILL);
  EXPECT_EQ(wait_for(static_cast<pid_t>(before.worker.pid)), 75);
  const RunResult result = resume_job(store, "r0001", 0, recorder_, options_);
  EXPECT_EQ(result.job.state, JobState::completed);
  EXPECT_EQ(result.job.attempt, 2);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  close(ends[0]);
}

}  // namespace
}  // namespace trivet
