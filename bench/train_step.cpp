// One optimizer step of the demo's models through plan and session, against what the plan predicts from the machine's
// measured ceilings. Threads: 1 and all cores. Data are random and stay in place: this times the step alone.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <random>

#include "trivet/train/plans.h"

namespace trivet {
namespace {

constexpr std::int64_t kBatch = 128;

ModelTask task(const std::string& model) {
  ModelConfig config;
  config.name = model;
  config.hidden = {model == "mlp" ? 256 : 128};
  config.dropout = model == "mlp" ? 0.0 : 0.25;
  config.classes = 10;
  return label_task(config, {28, 28, 1}, 1);
}

template <class T>
void set(Session& session, const char* name, const std::vector<T>& values) {
  if (session.plan().inputs.contains(name)) session.set_input(name, values.data(), values.size() * sizeof(T));
}

void train_step(benchmark::State& state, const std::string& model, int threads) {
  const auto device = open_device("cpu", {threads, {}});
  TrainConfig config;
  config.batch = kBatch;
  config.top_k = 5;
  const TrainPlans plans = plan_training(task(model), config, {kBatch, 0, 0}, *device);
  const auto arena = std::make_shared<Arena>(device, plans.states, plans.all());
  arena->initialize(1);
  Session session(arena, plans.step.at(kBatch));

  std::mt19937 rng(1);
  std::vector<float> x(static_cast<std::size_t>(kBatch * 28 * 28));
  for (float& v : x) v = static_cast<float>(rng() % 2001) / 1000.0F - 1.0F;
  std::vector<std::int32_t> y(kBatch);
  for (auto& label : y) label = static_cast<std::int32_t>(rng() % 10);
  std::vector<std::int64_t> sample(kBatch);
  for (std::size_t i = 0; i < sample.size(); ++i) sample[i] = static_cast<std::int64_t>(i);
  std::int64_t step = 0;
  for (auto _ : state) {
    set(session, "x", x);
    set(session, "y", y);
    set(session, "sample", sample);
    set(session, "inv_count", std::vector<float>{1.0F / kBatch});
    set(session, "lr", std::vector<float>{1e-4F});
    set(session, "step", std::vector<std::int64_t>{++step});
    session.run();
  }
  const Plan& plan = session.plan();
  const double predicted = plan.seconds(device->ceilings());
  const auto steps = static_cast<double>(state.iterations());
  state.counters["samples/s"] = benchmark::Counter(steps * kBatch, benchmark::Counter::kIsRate);
  state.counters["FLOP/s"] = benchmark::Counter(steps * plan.flops(), benchmark::Counter::kIsRate);
  state.counters["predicted_ms"] = predicted * 1e3;
  state.counters["of_predicted"] = benchmark::Counter(steps * predicted, benchmark::Counter::kIsRate);
}

void add(const std::string& model, int threads) {
  benchmark::RegisterBenchmark(fmt::format("train_step/{}/threads:{}", model, threads).c_str(),
                               [=](benchmark::State& state) { train_step(state, model, threads); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace
}  // namespace trivet

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (const char* model : {"mlp", "cnn"}) {
    trivet::add(model, 1);
    if (trivet::available_cores() > 1) trivet::add(model, trivet::available_cores());
  }
  benchmark::RunSpecifiedBenchmarks();
}
