#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "tools/trivet/top_level.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/error.h"

namespace {

// What was printed is written only now, perhaps to a full disk.
void finish_output() {
  const bool lost = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !lost) return;
  throw trivet::Error(trivet::ErrorCode::io, fmt::format("cannot write to standard output: {}",
                                                         lost ? "an earlier write failed" : std::strerror(errno)));
}

}  // namespace

int main(int argc, char** argv) {
  // `trivet run | head` must not kill this process before it has recorded the run's end.
  std::signal(SIGPIPE, SIG_IGN);
  // Beyond `ulimit -f` a write then fails with a reason, where the signal would end the process without a word.
  std::signal(SIGXFSZ, SIG_IGN);
  CLI::App app;
  trivet::cli::Context context;
  trivet::cli::add_top_level(app, context.workspace);
  for (auto add : {trivet::cli::add_run, trivet::cli::add_resume, trivet::cli::add_plan, trivet::cli::add_runs,
                   trivet::cli::add_show, trivet::cli::add_compare, trivet::cli::add_export, trivet::cli::add_report,
                   trivet::cli::add_doctor, trivet::cli::add_worker}) {
    add(app, context);
  }
  try {
    app.parse(argc, argv);
    if (context.exit_code == 0) finish_output();
    return context.exit_code;
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : trivet::exit_code(trivet::ErrorCode::usage);
  } catch (const trivet::Error& e) {
    std::fprintf(stderr, "trivet: %s\n", e.what());
    return trivet::exit_code(e.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "trivet: out of memory\n");
    return trivet::exit_code(trivet::ErrorCode::memory);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "trivet: internal error: %s\n", e.what());
    return trivet::exit_code(trivet::ErrorCode::internal);
  }
}
