// Ranks as processes, for tests of communicators.
#pragma once

#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/comm/communicator.h"

namespace trivet::testing {

// Options for one rank of a run of its own.
CommunicatorOptions options_for(int size, const std::string& kind);

// The ranks of a run. What a rank throws is its `said`.
class Ranks {
 public:
  // Starts `work` in a process, which joins before unless `joins` is false.
  using Work = std::function<void(Communicator&)>;
  void start(const CommunicatorOptions& options, const Work& work);
  void start_all(CommunicatorOptions options, const Work& work);
  // In a process that has not joined.
  void start_alone(const std::function<void()>& work);

  // For a rank's work: tells the parent that it has come to this place, or waits until `count` have.
  void reach(const std::string& place) const;
  void wait_until(const std::string& place, int count = 1) const;

  // In the order in which they were started.
  void signal(int index, int number) const { kill(pids_[static_cast<std::size_t>(index)], number); }
  int wait(int index);  // the exit code: 0, or 1 if it threw
  std::string said(int index) const;

  // Waits for all; a text that names those that threw.
  std::string failures();
  // Ends those that still run.
  ~Ranks();

 private:
  TemporaryFolder folder_;
  std::vector<pid_t> pids_;
  std::vector<int> codes_;
};

// Throws if it does not hold.
void require(bool holds, const std::string& what);

}  // namespace trivet::testing
