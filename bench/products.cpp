// Each matrix product and convolution of the models' training steps by itself, on random data that stay where they are:
// GFLOP/s, and which part of the measured rate of matrix products of their type that is ("of_peak"). The name says the
// model, the op and the types of its inputs.
//   bench/products --benchmark_filter=cnn     --threads=N before other options: default all cores
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

#include "bench/models.h"
#include "kernels/math/small_float.h"
#include "trivet/ops/registry.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

void fill(Tensor& tensor, std::mt19937& rng) {
  std::uniform_real_distribution<float> draw(-1, 1);
  const auto n = static_cast<std::size_t>(tensor.type.elements());
  for (std::size_t i = 0; i < n && is_float(tensor.type.dtype); ++i) {
    const float value = draw(rng);
    if (tensor.type.dtype == DType::f32) tensor.as<float>()[i] = value;
    if (tensor.type.dtype == DType::bf16)
      tensor.as<kernels::BFloat16>()[i] = kernels::from_f32<kernels::BFloat16>(value);
  }
}

void measure(benchmark::State& state, const Graph& graph, int threads) {
  const auto device = open_device("cpu", {threads, {}});
  StateLayout states(device->alignment());
  const auto plan = compile(graph, states, *device);
  Session session(std::make_shared<Arena>(device, states, std::vector{plan}), plan, false);
  std::mt19937 rng(1);
  for (const auto& [name, value] : plan->inputs) {
    Tensor tensor(plan->values[static_cast<std::size_t>(value)].type);
    fill(tensor, rng);
    session.set_input(name, tensor.data.data(), tensor.data.size());
  }
  session.run();
  for (auto _ : state) session.run();
  const PlannedStep& step = plan->steps.at(0);
  const double flops = step.flops * static_cast<double>(state.iterations());
  const double peak = device->ceilings().matrix_rate(step.dtype);
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(flops / peak, benchmark::Counter::kIsRate);
}

// A graph of this node alone, whose inputs outlive it; its name says what it is.
Graph alone(const Graph& graph, const Node& node, std::string& name) {
  Graph result(node.op->name);
  std::vector<ValueId> inputs;
  for (const ValueId v : node.inputs) {
    inputs.push_back(v == kNoValue ? kNoValue : result.input(fmt::format("in{}", inputs.size()), graph.type(v)));
    if (v != kNoValue) name += fmt::format("/{}", to_string(graph.type(v)));
  }
  const auto outputs = apply_all(result, node.op->name, inputs, node.attrs, node.name);
  for (std::size_t i = 0; i < outputs.size(); ++i) result.set_output(fmt::format("out{}", i), outputs[i]);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] != kNoValue) result.set_output(fmt::format("kept{}", i), inputs[i]);
  }
  return result;
}

void add(const std::string& work, const std::string& precision, int threads) {
  const std::int64_t batch = work == "mlp" || work == "cnn" ? 128 : 64;
  TrainConfig config;
  config.top_k = 1;
  const Graph graph = optimized(step_graph(bench::task_of(work, precision), config, batch));
  const auto device = open_device("cpu", {1, {}});
  StateLayout states(device->alignment());
  states.add(graph);
  const auto plan = compile(graph, states, *device);
  std::set<std::string> known;
  for (const PlannedStep& step : plan->steps) {
    if (!step.matrix) continue;
    const auto node = std::find_if(graph.nodes().begin(), graph.nodes().end(),
                                   [&](const Node& n) { return n.name == step.node && n.op->name == step.op; });
    std::string name = fmt::format("{}/{}", work, step.op);
    Graph piece = alone(graph, *node, name);
    if (!known.insert(name).second) continue;
    benchmark::RegisterBenchmark(name.c_str(), [piece = std::move(piece), threads](benchmark::State& state) {
      measure(state, piece, threads);
    })->UseRealTime();
  }
}

}  // namespace
}  // namespace trivet

int main(int argc, char** argv) {
  int threads = 0;
  if (argc > 1 && std::strncmp(argv[1], "--threads=", 10) == 0) {
    threads = std::atoi(argv[1] + 10);
    argv[1] = argv[0];
    ++argv;
    --argc;
  }
  for (const char* work : trivet::bench::kWorks) {
    for (const char* precision : {"f32", "bf16"}) trivet::add(work, precision, threads);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
