// trivet plan: what a job will take, before anything runs.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/trivet/resolve.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/infer/infer.h"
#include "trivet/plan/interconnect.h"
#include "trivet/train/trainer.h"

namespace trivet::cli {
namespace {

struct Options {
  std::string job;
  std::vector<std::string> overrides;
  bool json = false;
  bool dump = false;
  int ranks = 0;  // 0: as the job says
  std::string interconnect = "ethernet10";
};

struct Planned {
  PlanPtr plan;
  PlanPtr apply;  // where gradients are accumulated: it has the sums over ranks
  MemoryReport memory;
  std::int64_t samples = 0;         // of one step
  std::int64_t samples_in_all = 0;  // of the whole job, for its predicted time
};

Planned plan_any(const JobSpec& spec, const Device& device) {
  if (spec.kind == "train") {
    TrainJob job{spec.data, spec.model, spec.train, spec.seed};
    job.train.ranks = spec.ranks;  // of which this is rank 0
    const TrainData data = TrainData::load(job);
    const TrainPlan plan = plan_job(job, data, device);
    const auto [samples, main] = plan.plans.main_entry();
    return {main, plan.plans.apply, plan.memory, samples, data.counts().train * spec.train.epochs};
  }
  const ChosenCheckpoint chosen = choose_checkpoint(spec.infer);
  const std::optional<TrainJob> trained = training_job(spec.infer.run);
  const InferData data = InferData::load(spec.infer, chosen.state, trained ? &*trained : nullptr);
  const InferPlan plan = plan_inference(spec.infer, chosen.state, data, device);
  const auto& [samples, tile] = *plan.predict.plans.rbegin();
  return {tile.front(), nullptr, plan.memory, samples, data.samples->count()};
}

RanksPrediction over_ranks(const Planned& p, const Ceilings& ceilings, const Interconnect& way) {
  return predict_ranks(p.apply ? *p.apply : *p.plan, ceilings, way);
}

nlohmann::json ranks_json(const RanksPrediction& r, const Interconnect& way) {
  return {{"ranks", r.ranks},
          {"sums", r.sums},
          {"bytes_sent", r.bytes_sent},
          {"interconnect", way.name},
          {"bytes_per_second", way.bytes_per_second},
          {"latency_seconds", way.latency_seconds},
          {"sum_seconds", r.sum_seconds},
          {"compute_seconds", r.compute_seconds},
          {"predicted_step_seconds", r.step_seconds}};
}

std::string describe_ranks(const RanksPrediction& r, const Interconnect& way) {
  return fmt::format(
      "{} ranks: each sends {} a step in {} sums, {} on {} ({:.4g} GB/s, {} a message; {})\n"
      "predicted with {}: {} a step, of which {:.0f} % is waiting for other ranks\n",
      r.ranks, format_bytes(static_cast<std::uint64_t>(r.bytes_sent)), r.sums, format_seconds(r.sum_seconds), way.name,
      way.bytes_per_second / 1e9, format_seconds(way.latency_seconds), way.source, way.name,
      format_seconds(r.step_seconds), 100 * (1 - r.compute_seconds / r.step_seconds));
}

nlohmann::json as_json(const Planned& p, const Ceilings& ceilings) {
  nlohmann::json steps = nlohmann::json::array();
  for (const PlannedStep& s : p.plan->steps) {
    steps.push_back({{"node", s.node},
                     {"op", s.op},
                     {"flops", s.flops},
                     {"bytes", s.bytes},
                     {"workspace_bytes", s.workspace_bytes},
                     {"predicted_seconds", Plan::seconds(s, ceilings)}});
  }
  nlohmann::json memory;
  for (int c = 0; c < kMemoryClasses; ++c) {
    memory[memory_class_name(static_cast<MemoryClass>(c))] = p.memory.arena[static_cast<std::size_t>(c)];
  }
  memory["constants"] = p.memory.constants;
  memory["between_buffers"] = p.memory.fragmentation;
  memory["arena"] = p.memory.arena_total;
  memory["staging"] = p.memory.staging;
  memory["on_device"] = p.memory.on_device();
  memory["on_host"] = p.memory.on_host();
  memory["data_set"] = p.memory.data_set;
  memory["loader"] = p.memory.loader;
  memory["evaluation"] = p.memory.evaluation;
  memory["program"] = p.memory.program;
  memory["total"] = p.memory.total();
  const double seconds = p.plan->seconds(ceilings);
  return {{"plan", p.plan->name},
          {"target", p.plan->target},
          {"hash", p.plan->hash()},
          {"graph_hash", p.plan->graph_hash},
          {"steps", steps},
          {"memory", memory},
          {"flops", p.plan->flops()},
          {"bytes", p.plan->bytes()},
          {"samples", p.samples},
          {"predicted_step_seconds", seconds},
          {"ceilings",
           {{"matrix_flops", ceilings.matrix_flops},
            {"vector_flops", ceilings.vector_flops},
            {"memory_bytes", ceilings.memory_bytes},
            {"cache_bytes", ceilings.cache_bytes},
            {"launch_seconds", ceilings.launch_seconds},
            {"cache_size", ceilings.cache_size}}}};
}

void plan(const Options& options, Context& context) {
  std::vector<std::string> overrides = options.overrides;
  if (options.ranks > 0) overrides.push_back(fmt::format("ranks={}", options.ranks));
  const JobSpec spec = load_for_running(options.job, overrides, context.workspace);
  const auto device = open_device(spec.device, {spec.threads, {}});
  const Interconnect way = find_interconnect(options.interconnect);
  const Planned planned = plan_any(spec, *device);
  if (options.dump) {
    std::fputs(planned.plan->dump().c_str(), stdout);
    return;
  }
  const Ceilings ceilings = device->ceilings();
  if (options.json) {
    nlohmann::json json = as_json(planned, ceilings);
    if (spec.ranks > 1) json["ranks"] = ranks_json(over_ranks(planned, ceilings, way), way);
    std::printf("%s\n", json.dump(1).c_str());
    return;
  }
  std::fputs(describe_plan(*planned.plan, planned.memory, ceilings, planned.samples).c_str(), stdout);
  if (spec.ranks > 1) std::fputs(describe_ranks(over_ranks(planned, ceilings, way), way).c_str(), stdout);
  const double step = spec.ranks > 1 && !planned.apply ? over_ranks(planned, ceilings, way).step_seconds
                                                       : planned.plan->seconds(ceilings);
  const double seconds =
      step / static_cast<double>(planned.samples * spec.ranks) * static_cast<double>(planned.samples_in_all);
  std::printf("%s\n",
              fmt::format("predicted for all {} samples: {}", planned.samples_in_all, format_seconds(seconds)).c_str());
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.get_subcommand("plan");
  verb->add_option("job", options->job, "Job file")->required();
  verb->add_option("--set", options->overrides, "Override a key: train.batch=64")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  verb->add_flag("--json", options->json, "For programs");
  verb->add_flag("--dump", options->dump, "The plan's stable text: every buffer's place");
  verb->add_option("--ranks", options->ranks, "As if the job said so many ranks")->check(CLI::Range(1, 65536));
  verb->add_option("--interconnect", options->interconnect,
                   "The way between ranks: ethernet10, ib400, nvlink4 ... or BYTES_PER_SECOND:SECONDS (docs/ranks.md)")
      ->default_str("ethernet10");
  verb->footer(
      "Example:\n  trivet plan examples/fashion-cnn.yaml --set train.batch=256\n"
      "  trivet plan examples/fashion-resnet.yaml --set train.batch=65536 --ranks 1024 --interconnect ib400");
  verb->callback([options, &context] { plan(*options, context); });
}

}  // namespace trivet::cli
