// The command `trivet`. `trivet --help` and `--version` are answered here, by a small program without libraries,
// because the one that does the work needs twenty of them: 60 ms from a cold disk. All else is handed to that one, in
// the same process.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>

#include "tools/trivet/top_level.h"

namespace {

// docs/exit-codes.md
constexpr int kUsage = 2;
constexpr int kIo = 7;

std::string folder_of_this_program() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0 || static_cast<std::size_t>(length) >= sizeof(path)) return {};
  const std::string_view file(path, static_cast<std::size_t>(length));
  return std::string(file.substr(0, file.rfind('/')));
}

int answer(int argc, char** argv) {
  CLI::App app;
  std::string workspace;
  trivet::cli::add_top_level(app, workspace);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    std::cout.flush();
    if (!std::cout) {
      std::fprintf(stderr, "trivet: cannot write to standard output: %s\n", std::strerror(errno));
      return kIo;
    }
    return code == 0 ? 0 : kUsage;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view only = argc == 2 ? argv[1] : "";
  if (argc < 2 || only == "--help" || only == "-h" || only == "--version") return answer(argc, argv);

  const std::string program = folder_of_this_program() + "/../libexec/trivet/trivet-main";
  ::execv(program.c_str(), argv);
  std::fprintf(stderr,
               "trivet: cannot start %s: %s\n  bin/trivet and libexec/trivet/trivet-main belong together: unpack or "
               "install both\n",
               program.c_str(), std::strerror(errno));
  return kIo;
}
