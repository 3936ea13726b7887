// trivet plan: what a job will take, before anything runs.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/trivet/resolve.h"
#include "tools/trivet/verbs.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/infer/infer.h"
#include "trivet/train/trainer.h"

namespace trivet::cli {
namespace {

struct Options {
  std::string job;
  std::vector<std::string> overrides;
  bool json = false;
  bool dump = false;
};

struct Planned {
  PlanPtr plan;
  MemoryReport memory;
  std::int64_t samples = 0;         // of one step
  std::int64_t samples_in_all = 0;  // of the whole job, for its predicted time
};

Planned plan_any(const JobSpec& spec, const Device& device) {
  if (spec.kind == "train") {
    const TrainJob job{spec.data, spec.model, spec.train, spec.seed};
    const TrainData data = TrainData::load(job);
    const TrainPlan plan = plan_job(job, data, device);
    const auto& [samples, main] = plan.plans.main_entry();
    return {main, plan.memory, samples, data.counts().train * spec.train.epochs};
  }
  const ChosenCheckpoint chosen = choose_checkpoint(spec.infer);
  const std::optional<TrainJob> trained = training_job(spec.infer.run);
  const InferData data = InferData::load(spec.infer, chosen.state, trained ? &*trained : nullptr);
  const InferPlan plan = plan_inference(spec.infer, chosen.state, data, device);
  const auto& [samples, tile] = *plan.predict.plans.rbegin();
  return {tile.front(), plan.memory, samples, data.samples->count()};
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
  const JobSpec spec = load_for_running(options.job, options.overrides, context.workspace);
  const auto device = open_device(spec.device, {spec.threads, {}});
  const Planned planned = plan_any(spec, *device);
  if (options.dump) {
    std::fputs(planned.plan->dump().c_str(), stdout);
    return;
  }
  const Ceilings ceilings = device->ceilings();
  if (options.json) {
    std::printf("%s\n", as_json(planned, ceilings).dump(1).c_str());
    return;
  }
  std::fputs(describe_plan(*planned.plan, planned.memory, ceilings, planned.samples).c_str(), stdout);
  const double seconds = planned.plan->seconds(ceilings) / static_cast<double>(planned.samples) *
                         static_cast<double>(planned.samples_in_all);
  std::printf("%s\n",
              fmt::format("predicted for all {} samples: {}", planned.samples_in_all, format_seconds(seconds)).c_str());
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("plan", "Show the operations, memory and predicted time of a job; nothing runs");
  verb->add_option("job", options->job, "Job file")->required();
  verb->add_option("--set", options->overrides, "Override a key: train.batch=64")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  verb->add_flag("--json", options->json, "For programs");
  verb->add_flag("--dump", options->dump, "The plan's stable text: every buffer's place");
  verb->footer("Example:\n  trivet plan examples/fashion-cnn.yaml --set train.batch=256");
  verb->callback([options, &context] { plan(*options, context); });
}

}  // namespace trivet::cli
