#include "trivet/store/process.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tests/store/forked.h"

namespace trivet {
namespace {

TEST(Process, ThisOneIsRunning) {
  const ProcessId self = this_process();
  EXPECT_EQ(self.pid, getpid());
  EXPECT_GT(self.start_time, 0u);
  EXPECT_TRUE(is_running(self));
}

TEST(Process, NoProcessIsNotRunning) {
  EXPECT_FALSE(is_running(ProcessId{}));
  EXPECT_EQ(find_process(-1), ProcessId{});
  EXPECT_EQ(find_process(0), ProcessId{});
}

TEST(Process, AnotherProcessWithTheSameNumberIsNotTheSame) {
  ProcessId earlier = this_process();
  earlier.start_time -= 1;
  EXPECT_FALSE(is_running(earlier));
}

TEST(Process, AnEndedOneIsNotRunningEvenBeforeItIsCollected) {
  const pid_t pid = start_child([] {
    pause();
    return 0;
  });
  const ProcessId child = find_process(pid);
  EXPECT_TRUE(is_running(child));
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_FALSE(is_running(child));
  EXPECT_EQ(wait_for(pid), 128 + SIGKILL);
  EXPECT_FALSE(is_running(child));
}

}  // namespace
}  // namespace trivet
