#include "tools/trivet/top_level.h"

#include <CLI/CLI.hpp>

#include "trivet/base/build_info.h"

namespace trivet::cli {

namespace {

constexpr const char* kFooter = R"(Example:
  trivet plan examples/fashion-cnn.yaml     what it will take, before anything runs
  trivet run examples/fashion-cnn.yaml      train it
  trivet runs                               what ran in this workspace

Exit codes: 0 done, 2 command line, 3 job file, 4 graph, 5 data, 6 checkpoint, 7 files, 8 memory, 9 diverged,
10 state, 11 rank, 70 internal, 75 interrupted with a checkpoint (docs/exit-codes.md).)";

std::string version() {
  const BuildInfo b = build_info();
  return std::string("trivet ") + b.version + " (" + b.commit + ", " + b.compiler + ", " + b.build_type + ")";
}

}  // namespace

void add_top_level(CLI::App& app, std::string& workspace) {
  app.name("trivet");
  app.description("Trivet: train models and run them in batches, from one plan.");
  app.set_version_flag("--version", version);
  app.add_option("--workspace", workspace, "Folder of the runs [env TRIVET_WORKSPACE, else ./runs]");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_subcommand("run", "Run a job file: training or batch inference");
  app.add_subcommand("resume", "Go on with a run that was interrupted or failed, from its last checkpoint");
  app.add_subcommand("plan", "Show the operations, memory and predicted time of a job; nothing runs");
  app.add_subcommand("runs", "List the runs of the workspace");
  app.add_subcommand("show", "Show one run: settings, epochs, results, checkpoints");
  app.add_subcommand("compare", "Compare runs: settings that differ, and results");
  app.add_subcommand("export", "Write a trained model without what only training needs");
  app.add_subcommand("report", "Write a run as one HTML page: curves, confusions, samples, plan");
  app.add_subcommand("doctor", "Show what this machine has, and why CUDA cannot be used");
  app.footer(kFooter);
}

}  // namespace trivet::cli
