#include "tests/tools/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "tests/formats/test_files.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Ends {
  int read = -1;
  int write = -1;
};

Ends make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  return {ends[0], ends[1]};
}

Ends make_terminal() {
  Ends ends;
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 100;
  if (::openpty(&ends.read, &ends.write, nullptr, nullptr, &size) != 0) throw std::runtime_error("no pseudo-terminal");
  ::fcntl(ends.read, F_SETFD, FD_CLOEXEC);
  ::fcntl(ends.write, F_SETFD, FD_CLOEXEC);
  return ends;
}

[[noreturn]] void run_child(char* const* arguments, int out, int err, const ProgramOptions& options) {
  ::setsid();
  if (options.file_limit) {
    const auto limit = static_cast<rlim_t>(*options.file_limit);
    const rlimit value{limit, limit};
    ::setrlimit(RLIMIT_FSIZE, &value);
    ::signal(SIGXFSZ, SIG_IGN);
  }
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_DFL);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  ::dup2(options.output.empty() ? out : ::open(options.output.c_str(), O_WRONLY), STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  ::execv(TRIVET_PROGRAM, arguments);
  ::_exit(127);
}

// Nothing more to read: the end of a pipe, or EIO of a terminal whose other side is closed.
bool read_into(int fd, std::string& text) {
  char buffer[4096];
  const ssize_t n = ::read(fd, buffer, sizeof buffer);
  if (n > 0) text.append(buffer, static_cast<std::size_t>(n));
  return n > 0 || (n < 0 && errno == EINTR);
}

void close_all(std::initializer_list<int> descriptors) {
  for (const int fd : descriptors) {
    if (fd >= 0) ::close(fd);
  }
}

// The third and fourth fields of /proc/PID/stat, behind the name in parentheses (proc(5)).
struct ProcessStat {
  char state = 0;  // 0 if there is no such process
  pid_t parent = 0;
};

ProcessStat stat_of(const fs::path& process) {
  const std::string text = slurp(process / "stat");
  const std::size_t close = text.rfind(')');
  ProcessStat stat;
  if (close == std::string::npos) return stat;
  std::istringstream rest(text.substr(close + 1));
  rest >> stat.state >> stat.parent;
  return stat;
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  std::vector<std::string> words = {"trivet"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const Ends out = options.terminal ? make_terminal() : make_pipe();
  const Ends err = options.terminal ? Ends{} : make_pipe();
  pid_ = ::fork();
  if (pid_ == 0) run_child(pointers.data(), out.write, options.terminal ? out.write : err.write, options);
  close_all({out.write, err.write});
  out_ = out.read;
  err_ = err.read;
  if (pid_ < 0) throw std::runtime_error("no process");
}

Program::~Program() {
  if (!collected_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_all({out_, err_});
}

void Program::signal(int number) const {
  if (!collected_) ::kill(pid_, number);
}

void Program::stop() const {
  signal(SIGSTOP);
  const fs::path process = fs::path("/proc") / std::to_string(pid_);
  const auto under_way = [&] {
    const char state = stat_of(process).state;
    return state == 'R' || state == 'S' || state == 'D';
  };
  while (running() && under_way()) std::this_thread::sleep_for(std::chrono::microseconds(100));
}

bool Program::running() const { return !collected_ && find_process(pid_).pid != 0; }

std::optional<ProcessId> Program::worker() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad != std::errc() || end != name.data() + name.size() || stat_of(entry.path()).parent != pid_) continue;
    const ProcessId found = find_process(pid);
    if (found.pid != 0) return found;
  }
  return std::nullopt;
}

Ended Program::wait() {
  Ended ended;
  while (out_ >= 0 || err_ >= 0) {
    pollfd waits[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) break;
    if (waits[0].revents != 0 && !read_into(out_, ended.out)) close_all({std::exchange(out_, -1)});
    if (waits[1].revents != 0 && !read_into(err_, ended.err)) close_all({std::exchange(err_, -1)});
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  collected_ = true;
  if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  return ended;
}

Ended trivet(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  return Program(arguments, options).wait();
}

bool wait_until_gone(const ProcessId& process) {
  const auto give_up = steady_clock::now() + std::chrono::seconds(30);
  while (is_running(process)) {
    if (steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

bool wait_while_running(const Program& program, const std::function<bool()>& condition) {
  while (!condition()) {
    if (!program.running()) return condition();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

std::vector<std::string> Workspace::command(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), {"--workspace", path_.string()});
  return arguments;
}

Ended Workspace::trivet(const std::vector<std::string>& arguments, const ProgramOptions& options) const {
  return testing::trivet(command(arguments), options);
}

json Workspace::runs() const {
  const Ended listed = trivet({"runs", "--json"});
  if (listed.exit_code == 2) return json::array();
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  const json all = json::parse(listed.out, nullptr, false);
  EXPECT_TRUE(all.is_array()) << listed.out;
  return all.is_array() ? all : json::array();
}

json Workspace::last_run() const {
  const json all = runs();
  return all.empty() ? json::object() : all.back();
}

fs::path Workspace::folder(const std::string& id) const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    if (entry.path().filename().string().starts_with(id + "-")) return entry.path();
  }
  return path_ / id;
}

fs::path Workspace::checkpoints(const std::string& id) const { return folder(id) / "checkpoints"; }

std::vector<int> checkpoint_steps(const fs::path& checkpoints) {
  std::vector<int> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && !name.ends_with(".damaged")) steps.push_back(std::stoi(name.substr(5)));
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

fs::path checkpoint_path(const fs::path& checkpoints, int step) {
  return checkpoints / fmt::format("step-{:09}", step);
}

void overwrite(const fs::path& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

void flip_last_byte(const fs::path& path) {
  std::string content = slurp(path);
  if (content.empty()) throw std::runtime_error("nothing to damage in " + path.string());
  content.back() = static_cast<char>(content.back() ^ 1);
  overwrite(path, content);
}

std::vector<fs::path> half_written(const fs::path& root) {
  std::vector<fs::path> found;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(root, error); it != fs::recursive_directory_iterator();
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.find(".tmp-") != std::string::npos || name.starts_with(".writing-") || name.starts_with(".removing-")) {
      found.push_back(it->path());
    }
  }
  return found;
}

namespace {

void erase_times(json& record) {
  for (const char* key : {"seconds", "images_per_second", "peak_resident_bytes", "planned_bytes"}) record.erase(key);
}

json comparable_file(const fs::path& path, std::initializer_list<const char*> without) {
  json record = json::parse(slurp(path), nullptr, false);
  EXPECT_TRUE(record.is_object()) << path;
  if (record.is_object()) erase_times(record);
  for (const char* key : without) record.erase(key);
  return record;
}

void expect_same_file(const fs::path& reference, const fs::path& file) {
  const std::string expected = slurp(reference);
  EXPECT_FALSE(expected.empty()) << reference;
  EXPECT_TRUE(expected == slurp(file)) << reference << " and " << file << " differ";
}

}  // namespace

std::vector<json> comparable_metrics(const fs::path& run) {
  std::vector<json> records;
  std::istringstream lines(slurp(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    records.push_back(json::parse(line, nullptr, false));
    EXPECT_TRUE(records.back().is_object()) << run << ": " << line;
    if (records.back().is_object()) erase_times(records.back());
  }
  return records;
}

void expect_same_outcome(const fs::path& reference, const fs::path& run) {
  const json result = comparable_file(reference / "result.json", {});
  EXPECT_EQ(result, comparable_file(run / "result.json", {}));
  for (const char* which : {"steps", "checkpoint"}) {  // the last one, the best one
    const int step = result.at(which).get<int>();
    const fs::path expected = checkpoint_path(reference / "checkpoints", step);
    const fs::path found = checkpoint_path(run / "checkpoints", step);
    expect_same_file(expected / "model.safetensors", found / "model.safetensors");
    expect_same_file(expected / "optimizer.safetensors", found / "optimizer.safetensors");
    // The lengths of the times in metrics.jsonl differ, and so does the digest of it all.
    EXPECT_EQ(comparable_file(expected / "state.json", {"metrics_bytes", "sha256"}),
              comparable_file(found / "state.json", {"metrics_bytes", "sha256"}));
  }
  const std::vector<json> expected = comparable_metrics(reference);
  EXPECT_GT(expected.size(), 1u);
  EXPECT_EQ(expected, comparable_metrics(run));
  EXPECT_EQ(half_written(run / "checkpoints"), std::vector<fs::path>{});
}

}  // namespace trivet::testing
