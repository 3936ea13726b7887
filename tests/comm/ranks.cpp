#include "tests/comm/ranks.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace trivet::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kRunning = -1000;
constexpr unsigned kLimit = 240;  // seconds after which a process that hangs ends by itself

fs::path file_of(const fs::path& folder, std::size_t index) { return folder / fmt::format("said-{}", index); }

}  // namespace

CommunicatorOptions options_for(int size, const std::string& kind) {
  CommunicatorOptions options;
  options.size = size;
  options.kind = kind;
  options.port = free_port();
  options.token = random_token();
  return options;
}

void Ranks::start_alone(const std::function<void()>& work) {
  const fs::path file = file_of(folder_.path(), pids_.size());
  pids_.push_back(start_child([&] {
    alarm(kLimit);
    try {
      work();
      return 0;
    } catch (const std::exception& e) {
      std::ofstream(file) << e.what();
      return 1;
    }
  }));
  codes_.push_back(kRunning);
}

void Ranks::start(const CommunicatorOptions& options, const Work& work) {
  start_alone([&] { work(*join(options)); });
}

void Ranks::start_all(CommunicatorOptions options, const Work& work) {
  for (options.rank = 0; options.rank < options.size; ++options.rank) start(options, work);
}

void Ranks::reach(const std::string& place) const {
  std::ofstream(folder_.path() / fmt::format("{}-{}", place, getpid())) << "here";
}

void Ranks::wait_until(const std::string& place, int count) const {
  for (;;) {
    int found = 0;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      found += entry.path().filename().string().starts_with(place + "-") ? 1 : 0;
    }
    if (found >= count) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

int Ranks::wait(int index) {
  int& code = codes_[static_cast<std::size_t>(index)];
  if (code == kRunning) code = wait_for(pids_[static_cast<std::size_t>(index)]);
  return code;
}

std::string Ranks::said(int index) const {
  std::ifstream file(file_of(folder_.path(), static_cast<std::size_t>(index)));
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Ranks::failures() {
  std::string text;
  for (int i = 0; i < static_cast<int>(pids_.size()); ++i) {
    const int code = wait(i);
    if (code != 0) text += fmt::format("process {} ended with {}: {}\n", i, code, said(i));
  }
  return text;
}

Ranks::~Ranks() {
  for (int i = 0; i < static_cast<int>(pids_.size()); ++i) {
    if (codes_[static_cast<std::size_t>(i)] != kRunning) continue;
    signal(i, SIGKILL);
    wait(i);
  }
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace trivet::testing
