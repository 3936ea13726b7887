// trivet report: a run as one page for people.
#include "tools/trivet/report.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/trivet/verbs.h"
#include "trivet/service/run.h"

namespace trivet::cli {
namespace {

namespace fs = std::filesystem;
constexpr const char* kReportName = "report.html";

struct Options {
  std::string run;
  std::string output;
};

void report(const Options& options, Context& context) {
  Store store = open_store(context.workspace);
  recover(store);
  const RunRecord run = read_run(store.find(options.run));
  const fs::path output = options.output.empty() ? run.job.directory / kReportName : fs::path(options.output);
  write_report(reported(run), output);
  std::printf("%s\n", fs::absolute(output).c_str());
}

}  // namespace

ReportedRun reported(const RunRecord& run) {
  const JobRecord& job = run.job;
  return {job.directory,
          job.id,
          job.name,
          job.kind,
          job_state_name(job.state),
          job.reason,
          time_text(job.created),
          duration_text(job),
          run.settings};
}

void write_final_report(const JobRecord& job) {
  try {
    write_report(reported(read_run(job)), job.directory / kReportName);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "trivet: no %s: %s\n", kReportName, e.what());
  }
}

void add_report(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("report");
  verb->add_option("run", options->run, "Run: its id or name")->required();
  verb->add_option("--output", options->output, "File to write; else report.html in the run's folder");
  verb->footer(
      "Example:\n  trivet report r0001\nThe page is also written when a run ends; this renews it, and shows a run that "
      "is under way.");
  verb->callback([options, &context] { report(*options, context); });
}

}  // namespace trivet::cli
