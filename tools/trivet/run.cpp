// trivet run, trivet resume: start a job and follow it to its end.
#include "trivet/service/run.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/trivet/ranks.h"
#include "tools/trivet/report.h"
#include "tools/trivet/resolve.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/error.h"
#include "trivet/base/progress.h"
#include "trivet/exec/device.h"

namespace trivet::cli {
namespace {

struct Options {
  std::string job;  // a file for run, a run for resume
  std::vector<std::string> overrides;
  bool json = false;
  int ranks = 0;  // resume: 0 is as the job says
};

// Shows what the worker tells: on standard error, so that --json has standard output for itself.
class Display final : public RunObserver {
 public:
  explicit Display(bool json) : out_(json ? stderr : stdout), bar_(progress_style(out_)) {}

  void on_started(const JobRecord& job) override {
    bar_.line(fmt::format("run {} ({}) in {}", job.id, job.name, job.directory.string()));
  }
  void on_event(const WorkerEvent& event) override {
    if (const auto* progress = std::get_if<Progress>(&event)) {
      bar_.update(*progress);
    } else if (const auto* line = std::get_if<LineEvent>(&event)) {
      bar_.line(line->text);
    } else if (const auto* error = std::get_if<ErrorEvent>(&event)) {
      explained_ = true;
      bar_.clear();
      std::fprintf(stderr, "trivet: %s\n", error->text.c_str());
    } else if (const auto* done = std::get_if<DoneEvent>(&event)) {
      bar_.line(done->text);
    }
  }
  void on_interrupt(int, bool forced) override {
    bar_.line(forced ? "killed: the last checkpoint stays" : "stopping: writing a checkpoint (again to kill)");
  }
  // Whether the worker said why it failed.
  bool explained() const { return explained_; }

 private:
  std::FILE* out_;
  ProgressBar bar_;
  bool explained_ = false;
};

void report(const RunResult& result, const Display& display, bool json, Context& context) {
  context.exit_code = result.exit_code;
  const JobRecord& job = result.job;
  if (job.state == JobState::failed && !display.explained()) {
    std::fprintf(stderr, "trivet: the worker ended with %s\n", job.reason.c_str());
  }
  write_final_report(job);
  if (json) {
    const nlohmann::json j = {{"id", job.id},           {"name", job.name},
                              {"kind", job.kind},       {"state", job_state_name(job.state)},
                              {"reason", job.reason},   {"directory", job.directory.string()},
                              {"attempt", job.attempt}, {"exit_code", result.exit_code}};
    std::printf("%s\n", j.dump().c_str());
  } else if (job.state == JobState::cancelled) {
    std::printf("run %s: %s; go on with: trivet resume %s\n", job.id.c_str(), job.reason.c_str(), job.id.c_str());
  } else if (job.state == JobState::failed) {
    std::fprintf(stderr, "run %s failed; its log is %s\n", job.id.c_str(), (job.directory / kWorkerLogName).c_str());
  }
}

// Of its job file; 0 if that cannot be read, which resume_job() will say.
int restarts_of(const JobRecord& job) {
  try {
    return load_job(job.directory / kJobFileName, {}).restarts;
  } catch (const Error&) {
    return 0;
  }
}

void run(const Options& options, Context& context) {
  const JobSpec spec = load_for_running(options.job, options.overrides, context.workspace);
  // Of ranks that torchrun, Slurm or Kubernetes started, the record of the run is rank 0's.
  if (const auto place = rank_place(); place && place->rank > 0) {
    context.exit_code = work_as_rank(spec, *place);
    return;
  }
  Store store(workspace_folder(context.workspace));
  recover(store);
  Display display(options.json);
  // Measured here if it is the first time on this machine: it takes memory that is not the worker's.
  RankPlace place;
  place.local_size = spec.ranks;
  open_device(spec.device, {threads_of(spec, place), {}})->ceilings();
  report(run_job(store, {spec.name, spec.kind, resolved_yaml(spec), spec.restarts}, display), display, options.json,
         context);
}

void resume(const Options& options, Context& context) {
  const std::filesystem::path folder = workspace_folder(context.workspace);
  if (!has_store(folder))
    throw Error(ErrorCode::usage, fmt::format("there is no workspace at {}", folder.string()), "give --workspace");
  Store store(folder);
  const JobRecord job = store.find(options.job);
  if (const auto place = rank_place(); place && place->rank > 0) {
    context.exit_code = work_as_rank(load_job(job.directory / kJobFileName, {}), *place);
    return;
  }
  recover(store);
  Display display(options.json);
  RunOptions run_options;
  run_options.ranks = options.ranks;
  report(resume_job(store, job.id, restarts_of(job), display, run_options), display, options.json, context);
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("run");
  verb->add_option("job", options->job, "Job file (docs/job-file.md)")->required();
  verb->add_option("--set", options->overrides, "Override a key: train.epochs=3")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  verb->add_flag("--json", options->json, "Print the result as JSON; the rest goes to standard error");
  verb->footer(
      "Example:\n  trivet run examples/fashion-cnn.yaml --set train.epochs=3 --set train.optimizer.lr=0.001\n"
      "Ctrl-C writes a checkpoint and ends with exit code 75; `trivet resume RUN` goes on.");
  verb->callback([options, &context] { run(*options, context); });
}

void add_resume(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("resume");
  verb->add_option("run", options->job, "Run: its id or name")->required();
  verb->add_flag("--json", options->json, "Print the result as JSON; the rest goes to standard error");
  verb->add_option("--ranks", options->ranks, "Go on with so many ranks, whatever the job says")
      ->check(CLI::Range(1, 65536));
  verb->footer("Example:\n  trivet resume r0001");
  verb->callback([options, &context] { resume(*options, context); });
}

}  // namespace trivet::cli
