// trivet worker: the process that does a run's work. Started by the launcher, not by people.
#include <sys/utsname.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/trivet/ranks.h"
#include "tools/trivet/resolve.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/build_info.h"
#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/mapping_loss.h"
#include "trivet/base/text.h"
#include "trivet/infer/infer.h"
#include "trivet/job/spec.h"
#include "trivet/launcher/events.h"
#include "trivet/service/run.h"
#include "trivet/train/trainer.h"

namespace trivet::cli {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_requested = true; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

class EventSink final : public LogSink {
 public:
  explicit EventSink(EventWriter& events) : events_(events) {}
  void line(const std::string& text) override { events_.send(LineEvent{text}); }
  void progress(const Progress& progress) override { events_.send(progress); }

 private:
  EventWriter& events_;
};

std::string first_line_with(const char* path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
}

// What the results depend on beside the job file and the data.
nlohmann::json environment(const Device& device) {
  utsname system{};
  ::uname(&system);
  const BuildInfo build = build_info();
  char time[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&now, &utc));
  return {{"started", time},
          {"trivet",
           {{"version", build.version},
            {"commit", build.commit},
            {"compiler", build.compiler},
            {"build_type", build.build_type}}},
          {"host",
           {{"name", system.nodename},
            {"system", system.sysname},
            {"release", system.release},
            {"machine", system.machine},
            {"processor", first_line_with("/proc/cpuinfo", "model name")},
            {"cores", available_cores()},
            {"memory_bytes", device.memory_bytes()}}},
          {"device", device.description()}};
}

std::string train_summary(const TrainResult& r) {
  std::string text = fmt::format("done: {} steps in {}", r.steps, format_seconds(r.seconds));
  if (r.validation) text += "; " + metrics_text("validation", *r.validation, 0);
  if (r.test) text += "; " + metrics_text("test", *r.test, 0);
  return text + fmt::format(" (checkpoint {})", r.checkpoint);
}

std::string infer_summary(const InferResult& r, const fs::path& output) {
  std::string text =
      fmt::format("done: {} predictions in {}, {:.0f} samples/s, in {}", r.samples, format_seconds(r.seconds),
                  static_cast<double>(r.samples) / r.seconds, output.string());
  if (!r.metrics) return text;
  if (r.metrics->accuracy) text += fmt::format("; accuracy {:.2f} %", 100 * *r.metrics->accuracy);
  if (r.metrics->r2) text += fmt::format("; R2 {:.4f}", *r.metrics->r2);
  if (r.metrics->mae) text += fmt::format("; mean absolute error {:.4g}", *r.metrics->mae);
  return text;
}

int fail(EventWriter& events, const char* code, const std::string& text, int exit) {
  events.send(ErrorEvent{code, text});
  std::fprintf(stderr, "trivet: %s\n", text.c_str());  // worker.log
  return exit;
}

int fail(EventWriter& events, const Error& error) {
  return fail(events, error_code_name(error.code()), error.what(), exit_code(error.code()));
}

int train(const JobSpec& spec, const fs::path& directory, bool resume, EventWriter& events) {
  EventSink sink(events);
  RunLog log(directory, sink);
  LocalRanks ranks(spec, directory, [&](const std::string& failure) {
    // Checkpoints and results are there whole or not at all, so nothing needs to be undone.
    std::_Exit(fail(events, Error(ErrorCode::rank, failure, "worker.log in the run's folder has its last words")));
  });
  const auto device = open_device(device_of(spec, ranks.place()), {threads_of(spec, ranks.place()), {}});
  log.line(fmt::format("reading the data and planning for {}", device->description()));
  Trainer trainer({spec.data, spec.model, spec.train, spec.seed}, device, directory, log,
                  join_ranks(spec, ranks.place(), log));
  const TrainPlan& plan = trainer.plan();
  nlohmann::json record = environment(*device);
  record["data_digest"] = trainer.data().digest();
  record["plan_hash"] = plan.plans.main().hash();
  write_file_atomic(directory / "environment.json", record.dump(1) + "\n");
  const Ceilings ceilings = device->ceilings();
  write_file_atomic(directory / "plan.txt",
                    describe_plan(plan.plans.main(), plan.memory, ceilings, plan.plans.main_samples()));
  const SampleCounts counts = trainer.data().counts();
  log.line(fmt::format("{} training, {} validation, {} test samples", counts.train, counts.validation, counts.test));
  log.line(fmt::format("planned: arena {}, process at most {}", format_bytes(plan.memory.arena_total),
                       format_bytes(plan.memory.total())));
  const TrainResult result = trainer.run(stop_requested, resume);
  ranks.finish();
  if (result.interrupted) return kExitInterrupted;
  events.send(DoneEvent{train_summary(result)});
  return 0;
}

int infer(const JobSpec& spec, const fs::path& directory, EventWriter& events) {
  EventSink sink(events);
  RunLog log(directory, sink);
  const auto device = open_device(spec.device, {spec.threads, {}});
  write_file_atomic(directory / "environment.json", environment(*device).dump(1) + "\n");
  InferConfig config = spec.infer;
  if (config.output.empty()) config.output = fs::absolute(directory / ("predictions." + config.format));
  const std::optional<TrainJob> trained = training_job(config.run);
  const InferResult result = run_inference(config, device, stop_requested, log, trained ? &*trained : nullptr);
  if (result.interrupted) return kExitInterrupted;
  events.send(DoneEvent{infer_summary(result, config.output)});
  return 0;
}

// Files that an attempt which was killed had not finished (AtomicFile): nobody else writes in this directory.
void remove_unfinished(const fs::path& directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    if (entry.path().filename().string().find(".tmp-") != std::string::npos) fs::remove(entry.path(), ignored);
  }
}

Error mapping_loss(const char* path, std::size_t bytes) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (!error && size >= bytes) {
    return {ErrorCode::io, fmt::format("{} could not be read any more", path),
            "see the system's log about the disk or the network that it is on, then resume the run"};
  }
  const std::string found = error ? error.message() : fmt::format("it has {} bytes", size);
  return {ErrorCode::data, fmt::format("{} was cut short while it was in use: {}, expected {}", path, found, bytes),
          "put it back as it was and resume the run; write new data to another file and rename it"};
}

EventWriter* mapping_loss_events = nullptr;

// Nothing can be undone from here, and nothing needs to be: checkpoints and results are there whole or not at all.
[[noreturn]] void end_on_mapping_loss(const char* path, std::size_t bytes) {
  std::_Exit(fail(*mapping_loss_events, mapping_loss(path, bytes)));
}

// Calls `body` and reports what it throws.
int guarded(EventWriter& events, const std::function<int()>& body) {
  catch_stop_signals();
  mapping_loss_events = &events;
  on_mapping_loss(end_on_mapping_loss);
  try {
    return body();
  } catch (const Error& e) {
    return fail(events, e);
  } catch (const std::bad_alloc&) {
    return fail(events, "memory", "out of memory", exit_code(ErrorCode::memory));
  } catch (const std::exception& e) {
    return fail(events, "internal", fmt::format("internal error: {}", e.what()), exit_code(ErrorCode::internal));
  }
}

int work(const fs::path& directory, bool resume, int ranks) {
  EventWriter events;
  return guarded(events, [&] {
    const std::optional<RankPlace> place = rank_place();
    const bool is_root = !place || place->rank == 0;
    if (is_root) remove_unfinished(directory);
    std::vector<std::string> overrides;
    if (ranks > 0) overrides.push_back(fmt::format("ranks={}", ranks));
    const JobSpec spec = load_job(directory / kJobFileName, overrides);
    if (!is_root) return work_as_rank(spec, *place);
    return spec.kind == "train" ? train(spec, directory, resume, events) : infer(spec, directory, events);
  });
}

}  // namespace

int work_as_rank(const JobSpec& spec, const RankPlace& place) {
  class Silent final : public LogSink {
   public:
    void line(const std::string&) override {}
    void progress(const Progress&) override {}
  };
  EventWriter events;
  return guarded(events, [&] {
    Silent sink;
    RunLog log(sink);
    const auto device = open_device(device_of(spec, place), {threads_of(spec, place), {}});
    Trainer trainer({spec.data, spec.model, spec.train, spec.seed}, device, {}, log, join_ranks(spec, place, log));
    return trainer.run(stop_requested, false).interrupted ? kExitInterrupted : 0;
  });
}

void add_worker(CLI::App& app, Context& context) {
  struct Options {
    std::string directory;
    bool resume = false;
    int ranks = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("worker", "");
  verb->group("");  // hidden
  verb->add_option("--directory", options->directory)->required();
  verb->add_flag("--resume", options->resume);
  verb->add_option("--ranks", options->ranks);
  verb->callback(
      [options, &context] { context.exit_code = work(options->directory, options->resume, options->ranks); });
}

}  // namespace trivet::cli
