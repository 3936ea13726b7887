// The verbs of the command line, one file each. Each adds its subcommand; the callback does the work and sets the
// process's exit code (docs/exit-codes.md).
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace trivet::cli {

// What all verbs share.
struct Context {
  std::string workspace;  // --workspace; empty: see workspace_path()
  int exit_code = 0;
};

void add_run(CLI::App& app, Context& context);
void add_resume(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_runs(CLI::App& app, Context& context);
void add_show(CLI::App& app, Context& context);
void add_compare(CLI::App& app, Context& context);
void add_export(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_worker(CLI::App& app, Context& context);

}  // namespace trivet::cli
