#include "trivet/launcher/local_launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::string contents(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

class Recorder : public WorkerObserver {
 public:
  void on_start(const ProcessId& process) override {
    worker = process;
    if (at_start) at_start();
  }
  void on_event(const WorkerEvent& event) override {
    if (const auto* line = std::get_if<LineEvent>(&event)) {
      lines.push_back(line->text);
      if (at_line) at_line(line->text);
    }
  }
  void on_interrupt(int signal, bool forced) override {
    interrupts.push_back({signal, forced});
    if (at_interrupt) at_interrupt(forced);
  }

  void on_end(const WorkerEnd& worker_end) override {
    end = worker_end;
    if (at_end) at_end();
  }

  ProcessId worker;
  WorkerEnd end;
  std::vector<std::string> lines;
  std::vector<std::pair<int, bool>> interrupts;
  std::function<void()> at_start;
  std::function<void(const std::string&)> at_line;
  std::function<void(bool)> at_interrupt;
  std::function<void()> at_end;
};

class LocalLauncherTest : public testing::Test {
 protected:
  // `say TEXT` in the script sends a line event.
  WorkerEnd run(const std::string& script, Recorder& recorder) {
    LocalLauncher().run(command(script), recorder);
    return recorder.end;
  }
  WorkerEnd run(const std::string& script) {
    Recorder recorder;
    return run(script, recorder);
  }
  WorkerCommand command(const std::string& script) const {
    const std::string say = "say() { echo '{\"event\":\"line\",\"text\":\"'$1'\"}' >&$TRIVET_EVENTS_FD; }\n";
    return {"/bin/sh", {"-c", say + script}, log()};
  }
  fs::path log() const { return folder_.path() / "worker.log"; }

  TemporaryFolder folder_;
};

TEST_F(LocalLauncherTest, ReturnsTheWorkersExitCode) {
  for (const int code : {0, 1, 75, 255}) {
    const WorkerEnd end = run("exit " + std::to_string(code));
    EXPECT_EQ(end.exit_code, code);
    EXPECT_EQ(end.signal, 0);
    EXPECT_FALSE(end.interrupted);
  }
}

TEST_F(LocalLauncherTest, ReturnsTheSignalThatEndedTheWorker) {
  for (const int signal : {SIGKILL, SIGSEGV, SIGTERM}) {
    const WorkerEnd end = run("ulimit -c 0; kill -" + std::to_string(signal) + " $$; sleep 60");
    EXPECT_EQ(end.signal, signal);
    EXPECT_FALSE(end.interrupted);
  }
}

TEST_F(LocalLauncherTest, AppendsTheWorkersOutputToItsLog) {
  run("echo out; echo err >&2");
  run("echo more");
  EXPECT_EQ(contents(log()), "out\nerr\nmore\n");
}

TEST_F(LocalLauncherTest, GivesTheWorkerNoInput) {
  const WorkerEnd end = run("cat; exit 5");
  EXPECT_EQ(end.exit_code, 5);
  EXPECT_EQ(contents(log()), "");
}

TEST_F(LocalLauncherTest, GivesTheWorkerAProcessGroupOfItsOwn) {
  Recorder recorder;
  run("read -r pid comm state parent group rest < /proc/$$/stat; say $pid/$group", recorder);
  const std::string pid = std::to_string(recorder.worker.pid);
  EXPECT_THAT(recorder.lines, ElementsAre(pid + "/" + pid));
}

TEST_F(LocalLauncherTest, PassesOnEventsInOrder) {
  Recorder recorder;
  run("say one; say two; say three", recorder);
  EXPECT_THAT(recorder.lines, ElementsAre("one", "two", "three"));
}

TEST_F(LocalLauncherTest, PassesOnEveryOneOfManyEvents) {
  Recorder recorder;
  run("i=0; while [ $i -lt 5000 ]; do say $i; i=$((i+1)); done", recorder);
  ASSERT_EQ(recorder.lines.size(), 5000u);
  for (std::size_t i = 0; i < recorder.lines.size(); ++i) EXPECT_EQ(recorder.lines[i], std::to_string(i));
}

TEST_F(LocalLauncherTest, PassesOverGarbageWithAWordInTheLog) {
  Recorder recorder;
  run("echo hello >&3; say good; echo '{\"event\":' >&3; head -c 200000 /dev/zero | tr '\\0' x >&3; echo >&3; say end",
      recorder);
  EXPECT_THAT(recorder.lines, ElementsAre("good", "end"));
  EXPECT_THAT(contents(log()), HasSubstr("a line of 5 bytes from the worker is not an event"));
  EXPECT_THAT(contents(log()), HasSubstr("a line of 200000 bytes from the worker is longer than"));
}

TEST_F(LocalLauncherTest, AFloodOfGarbageDoesNotFillTheLog) {
  run("i=0; while [ $i -lt 2000 ]; do echo garbage >&3; i=$((i+1)); done");
  EXPECT_LT(contents(log()).size(), 2000u);
}

TEST_F(LocalLauncherTest, PassesOverAnEventThatTheWorkersEndCutOff) {
  Recorder recorder;
  run("say whole; printf '{\"event\":\"line\",\"te' >&3", recorder);
  EXPECT_THAT(recorder.lines, ElementsAre("whole"));
}

TEST_F(LocalLauncherTest, AWorkerThatClosesItsEventsIsStillFollowedToItsEnd) {
  EXPECT_EQ(run("exec 3>&-; sleep 0.05; exit 4").exit_code, 4);
}

TEST_F(LocalLauncherTest, KillsWhatTheWorkerLeavesBehind) {
  Recorder recorder;
  run("sleep 600 & say $!", recorder);
  ASSERT_EQ(recorder.lines.size(), 1u);
  const std::int64_t left = std::stoll(recorder.lines[0]);
  // SIGKILL has been sent; the kernel may still be ending it.
  for (int i = 0; i < 1000 && is_running(find_process(left)); ++i) usleep(10'000);
  EXPECT_FALSE(is_running(find_process(left)));
}

TEST_F(LocalLauncherTest, TheWorkerBeginsOnlyAfterItsStartIsRecorded) {
  Recorder recorder;
  recorder.at_start = [&] {
    EXPECT_TRUE(is_running(recorder.worker));
    usleep(20'000);
    EXPECT_FALSE(fs::exists(folder_.path() / "began"));
  };
  run("touch " + (folder_.path() / "began").string(), recorder);
  EXPECT_TRUE(fs::exists(folder_.path() / "began"));
}

TEST_F(LocalLauncherTest, TheWorkerNeverBeginsIfItsStartCannotBeRecorded) {
  Recorder recorder;
  recorder.at_start = [] { throw std::runtime_error("disk full"); };
  EXPECT_THROW(run("touch " + (folder_.path() / "began").string(), recorder), std::runtime_error);
  EXPECT_FALSE(is_running(recorder.worker));
  EXPECT_FALSE(fs::exists(folder_.path() / "began"));
}

TEST_F(LocalLauncherTest, AnExceptionFromAnEventEndsTheWorker) {
  Recorder recorder;
  recorder.at_line = [](const std::string&) { throw std::runtime_error("no"); };
  EXPECT_THROW(run("say x; sleep 600", recorder), std::runtime_error);
  EXPECT_FALSE(is_running(recorder.worker));
}

TEST_F(LocalLauncherTest, NamesAProgramThatCannotBeRun) {
  Recorder recorder;
  WorkerCommand missing{folder_.path() / "missing", {}, log()};
  try {
    LocalLauncher().run(missing, recorder);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::io);
    EXPECT_THAT(e.what(), HasSubstr((folder_.path() / "missing").string()));
    EXPECT_THAT(e.what(), HasSubstr("No such file"));
  }
  EXPECT_FALSE(is_running(recorder.worker));
}

TEST_F(LocalLauncherTest, NamesALogThatCannotBeOpened) {
  Recorder recorder;
  const WorkerCommand bad{"/bin/sh", {"-c", "exit 0"}, folder_.path() / "missing" / "worker.log"};
  try {
    LocalLauncher().run(bad, recorder);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("worker.log"));
  }
}

TEST_F(LocalLauncherTest, PassesTheFirstSignalOnAndTheWorkerCheckpoints) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Recorder recorder;
    recorder.at_line = [&](const std::string& text) {
      if (text == "ready") raise(signal);
    };
    const WorkerEnd end =
        run("trap 'say checkpoint; exit 75' INT TERM HUP; say ready; while :; do sleep 0.01; done", recorder);
    EXPECT_EQ(end.exit_code, 75);
    EXPECT_TRUE(end.interrupted);
    EXPECT_THAT(recorder.lines, ElementsAre("ready", "checkpoint"));
    EXPECT_THAT(recorder.interrupts, ElementsAre(std::pair(signal, false)));
  }
}

TEST_F(LocalLauncherTest, TheSecondSignalKillsAWorkerThatIgnoresTheFirst) {
  Recorder recorder;
  recorder.at_line = [](const std::string&) { raise(SIGTERM); };
  recorder.at_interrupt = [](bool forced) {
    if (!forced) raise(SIGINT);
  };
  const WorkerEnd end = run("trap '' INT TERM; say ready; while :; do sleep 0.01; done", recorder);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_TRUE(end.interrupted);
  EXPECT_THAT(recorder.interrupts, ElementsAre(std::pair(SIGTERM, false), std::pair(SIGINT, true)));
}

TEST_F(LocalLauncherTest, PutsTheSignalHandlersBack) {
  struct sigaction mine {};
  struct sigaction before {};
  struct sigaction after {};
  mine.sa_handler = [](int) {};
  sigaction(SIGINT, &mine, &before);
  run("exit 0");
  Recorder failing;
  failing.at_start = [] { throw std::runtime_error("no"); };
  EXPECT_THROW(run("exit 0", failing), std::runtime_error);
  sigaction(SIGINT, &before, &after);
  EXPECT_EQ(after.sa_handler, mine.sa_handler);
}

TEST_F(LocalLauncherTest, ASignalCannotStopTheEndFromBeingRecorded) {
  Recorder recorder;
  bool recorded = false;
  recorder.at_end = [&] {
    raise(SIGINT);
    raise(SIGTERM);
    recorded = true;
  };
  EXPECT_EQ(run("exit 75", recorder).exit_code, 75);
  EXPECT_TRUE(recorded);
}

TEST_F(LocalLauncherTest, LeavesIgnoredSignalsIgnored) {
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGHUP, &ignore, &before);
  Recorder recorder;
  recorder.at_line = [](const std::string&) { raise(SIGHUP); };
  const WorkerEnd end = run("say ready; kill -HUP $$; exit 6", recorder);
  sigaction(SIGHUP, &before, nullptr);
  EXPECT_EQ(end.exit_code, 6);
  EXPECT_FALSE(end.interrupted);
}

// A launcher in a child process is killed; the worker must be told, and its event after that must not end it.
TEST_F(LocalLauncherTest, AKilledLaunchersWorkerIsAskedToEnd) {
  // Orphans come to this process, so that it can wait for the worker.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t launcher = start_child([&] {
    Recorder recorder;
    recorder.at_line = [&](const std::string&) {
      if (write(ends[1], &recorder.worker, sizeof(recorder.worker)) < 0) _exit(1);
    };
    run("trap 'say gone; echo told; exit 75' TERM; say ready; while :; do sleep 0.01; done", recorder);
    return 0;
  });
  ProcessId worker;
  ASSERT_EQ(read(ends[0], &worker, sizeof(worker)), static_cast<ssize_t>(sizeof(worker)));
  ASSERT_TRUE(is_running(worker));
  ASSERT_EQ(kill(launcher, SIGKILL), 0);
  EXPECT_EQ(wait_for(launcher), 128 + SIGKILL);
  EXPECT_EQ(wait_for(static_cast<pid_t>(worker.pid)), 75);
  EXPECT_THAT(contents(log()), HasSubstr("told\n"));
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(LocalLauncherTest, ALauncherKilledBeforeTheStartIsRecordedLeavesNoWorker) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t launcher = start_child([&] {
    Recorder recorder;
    recorder.at_start = [&] {
      if (write(ends[1], &recorder.worker, sizeof(recorder.worker)) < 0) _exit(1);
      kill(getpid(), SIGKILL);
    };
    run("touch " + (folder_.path() / "began").string(), recorder);
    return 0;
  });
  ProcessId worker;
  ASSERT_EQ(read(ends[0], &worker, sizeof(worker)), static_cast<ssize_t>(sizeof(worker)));
  EXPECT_EQ(wait_for(launcher), 128 + SIGKILL);
  EXPECT_NE(wait_for(static_cast<pid_t>(worker.pid)), 0);
  EXPECT_FALSE(fs::exists(folder_.path() / "began"));
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(LocalLauncherTest, LeavesNoDescriptorsOpen) {
  const auto open_descriptors = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{});
  };
  run("exit 0");
  const auto before = open_descriptors();
  for (int i = 0; i < 3; ++i) run("say x");
  Recorder failing;
  failing.at_start = [] { throw std::runtime_error("no"); };
  EXPECT_THROW(run("exit 0", failing), std::runtime_error);
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(LocalLauncherTest, GivesTheWorkerNoDescriptorsButItsOwn) {
  Recorder recorder;
  LocalLauncher().run({"/bin/ls", {"/proc/self/fd"}, log()}, recorder);
  std::istringstream listed(contents(log()));
  int unexpected = 0;
  for (int fd = 0; listed >> fd;) {
    // What this process itself was given by whoever started it is handed on.
    const int flags = fcntl(fd, F_GETFD);
    const bool handed_on = flags >= 0 && (flags & FD_CLOEXEC) == 0;
    if (fd > 3 && !handed_on) ++unexpected;
  }
  EXPECT_LE(unexpected, 1);  // the folder that ls reads
}

}  // namespace
}  // namespace trivet
