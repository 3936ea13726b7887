// Each op's kernel on the inputs of its op case, enlarged along the first axis: in the level-2 cache ("/cache") and
// larger than all caches ("/memory"). Ops that go by rows are measured with rows of 4096 elements as well, because rows
// of a few dozen are bound by arithmetic. Prints GB/s and GFLOP/s as the op's cost counts them: each operand once.
// Beside them stand the bytes that had to be moved, operands being read again where that cannot be avoided
// ("moved_GB/s"), and which part of what the machine was measured to do at best these figures are: of a copy in memory
// ("of_copy" and "moved_of_copy"), and of the bandwidth or the matrix or vector rate, whichever is nearer ("of_limit").
// Optimizer steps write over their inputs, as in training; other ops write to memory of their own, as the copy does.
//   bench/ops --benchmark_filter='^(softmax|add)/'
// Before other options: --threads=N (default all cores) or --device=cuda, where the bandwidth is that of a copy
// measured now, the other limits follow from the clocks, and ops without a kernel are left out.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "bench/on_device.h"
#include "kernels/math/small_float.h"
#include "tests/op_cases/op_case.h"
#include "trivet/base/error.h"
#include "trivet/exec/device.h"
#include "trivet/exec/session.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using testing::CaseInput;
using testing::Fill;
using testing::OpCase;
using testing::Variant;

constexpr double kCacheBytes = 512e3;
constexpr double kMemoryBytes = 256e6;
constexpr double kDeviceMemoryBytes = 512e6;  // a GPU's cache has 50 MB, and a kernel is to take longer than its start
constexpr std::int64_t kLongRow = 4096;
constexpr int kLaunches = 20;  // on a GPU, between two waits

// Where it is measured, and the machine's limits.
struct Place {
  std::shared_ptr<const Device> device;
  Ceilings ceilings;
};

Place place_of(const std::string& name, int threads) {
  Place place{open_device(name, {threads, {}}), {}};
  place.ceilings = place.device->ceilings();
  if (place.device->asynchronous()) place.ceilings.memory_bytes = bench::measured_copy(*place.device);
  return place;
}

double draw(const Fill& fill, std::mt19937& rng, std::size_t i) {
  switch (fill.kind) {
    case Fill::Kind::normal:
      return std::normal_distribution<double>(fill.a, fill.b)(rng);
    case Fill::Kind::uniform:
      return std::uniform_real_distribution<double>(fill.a, fill.b)(rng);
    case Fill::Kind::index:
      return std::floor(std::uniform_real_distribution<double>(fill.a, fill.b)(rng));
    case Fill::Kind::values:
      return fill.values[i % fill.values.size()];
  }
  return 0;
}

// The first thousand elements are drawn, the others repeat them: drawing 64 million would take longer than measuring.
Tensor filled(const CaseInput& input, const TensorType& type, std::mt19937& rng) {
  Tensor t(type);
  const std::size_t size = dtype_size(type.dtype);
  const std::size_t count = t.data.size() / size;
  const std::size_t drawn = std::min<std::size_t>(count, 1021);
  for (std::size_t i = 0; i < drawn; ++i) {
    const double v = draw(input.fill, rng, i);
    if (type.dtype == DType::f32) t.as<float>()[i] = static_cast<float>(v);
    if (type.dtype == DType::f64) t.as<double>()[i] = v;
    if (type.dtype == DType::bf16)
      t.as<kernels::BFloat16>()[i] = kernels::from_f32<kernels::BFloat16>(static_cast<float>(v));
    if (type.dtype == DType::i32) t.as<std::int32_t>()[i] = static_cast<std::int32_t>(v);
    if (type.dtype == DType::i64) t.as<std::int64_t>()[i] = static_cast<std::int64_t>(v);
    if (size == 1) t.as<std::int8_t>()[i] = static_cast<std::int8_t>(v);
  }
  for (std::size_t i = drawn; i < count; i += drawn) {
    std::memcpy(t.data.data() + i * size, t.data.data(), std::min(drawn, count - i) * size);
  }
  return t;
}

struct Sized {
  Graph graph;
  std::vector<TensorType> types;
  double bytes = 0;
};

// Inputs that an op reads again, because every element of its output depends on sums over all of them.
const std::vector<std::size_t>& read_again(const std::string& op) {
  static const std::map<std::string, std::vector<std::size_t>> all = {{"batch_norm_train", {0}},
                                                                      {"batch_norm_backward", {0, 1}},
                                                                      {"adafactor_step", {1, 1}},
                                                                      {"reduce_log_sum_exp", {0}}};
  static const std::vector<std::size_t> none;
  const auto found = all.find(op);
  return found == all.end() ? none : found->second;
}

bool is_optimizer_step(const std::string& op) { return op.ends_with("_step"); }

// The variant with the first dimension of every input that shares the first input's multiplied; nothing if the op does
// not take that.
std::optional<Sized> enlarged(const OpCase& op_case, const Variant& variant, std::int64_t factor) {
  if (variant.inputs.empty() || variant.inputs[0].type.rank() == 0) return std::nullopt;
  const std::int64_t first = variant.inputs[0].type.dim(0);
  Sized sized;
  std::vector<ValueId> inputs;
  for (std::size_t i = 0; i < variant.inputs.size(); ++i) {
    TensorType type = variant.inputs[i].type;
    if (type.rank() > 0 && type.dim(0) == first) type.shape[0] *= factor;
    sized.types.push_back(type);
    if (variant.inputs[i].absent) {
      inputs.push_back(kNoValue);
      continue;
    }
    inputs.push_back(sized.graph.input(fmt::format("in{}", i), type));
    sized.bytes += static_cast<double>(type.bytes());
  }
  try {
    const auto outputs = apply_all(sized.graph, op_case.op, inputs, variant.attrs, op_case.op);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      sized.graph.set_output(fmt::format("out{}", o), outputs[o]);
      sized.bytes += static_cast<double>(sized.graph.type(outputs[o]).bytes());
    }
    // Inputs that outlive the step are not written over.
    for (std::size_t i = 0; i < inputs.size() && !is_optimizer_step(op_case.op); ++i) {
      if (inputs[i] != kNoValue) sized.graph.set_output(fmt::format("kept{}", i), inputs[i]);
    }
  } catch (const std::exception&) {
    return std::nullopt;
  }
  return sized;
}

// The factor that brings the variant to about `bytes`.
std::optional<Sized> of_size(const OpCase& op_case, const Variant& variant, double bytes) {
  const std::optional<Sized> one = enlarged(op_case, variant, 1);
  if (!one || one->bytes <= 0) return std::nullopt;
  return enlarged(op_case, variant, std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes / one->bytes)));
}

template <class Set>
void set_inputs(const Variant& variant, const Sized& sized, const Set& set) {
  std::mt19937 rng(1);
  for (std::size_t i = 0; i < sized.types.size(); ++i) {
    if (!variant.inputs[i].absent) set(fmt::format("in{}", i), filled(variant.inputs[i], sized.types[i], rng));
  }
}

void measure(benchmark::State& state, const OpCase& op_case, const Variant& variant, double bytes, const Place& place) {
  const std::optional<Sized> sized = of_size(op_case, variant, bytes);
  StateLayout states(place.device->alignment());
  std::shared_ptr<const Plan> plan;
  try {
    plan = compile(sized->graph, states, *place.device);
  } catch (const Error& e) {
    state.SkipWithError(e.message().c_str());
    return;
  }
  if (place.device->asynchronous()) {
    bench::KernelsOnDevice kernels(place.device, plan);
    set_inputs(variant, *sized, [&](const std::string& name, const Tensor& t) { kernels.set_input(name, t); });
    kernels.run(1);
    while (state.KeepRunningBatch(kLaunches)) kernels.run(kLaunches);
  } else {
    Session session(std::make_shared<Arena>(place.device, states, std::vector{plan}), plan, false);
    set_inputs(variant, *sized, [&](const std::string& name, const Tensor& t) {
      session.set_input(name, t.data.data(), t.data.size());
    });
    session.run();
    for (auto _ : state) session.run();
  }
  const Ceilings& ceilings = place.ceilings;
  const double runs = static_cast<double>(state.iterations());
  const PlannedStep& step = plan->steps.at(0);
  const double predicted = Plan::seconds(step, ceilings);
  double moved = step.bytes;
  for (const std::size_t i : read_again(op_case.op)) moved += static_cast<double>(sized->types[i].bytes());
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(step.bytes * runs / 1e9, Counter::kIsRate);
  state.counters["GFLOP/s"] = Counter(step.flops * runs / 1e9, Counter::kIsRate);
  state.counters["of_copy"] = Counter(step.bytes * runs / ceilings.memory_bytes, Counter::kIsRate);
  if (moved > step.bytes) {
    state.counters["moved_GB/s"] = Counter(moved * runs / 1e9, Counter::kIsRate);
    state.counters["moved_of_copy"] = Counter(moved * runs / ceilings.memory_bytes, Counter::kIsRate);
  }
  state.counters["of_limit"] = Counter(predicted * runs, Counter::kIsRate);
}

// The variant without special values that has the most columns: the last dimension of the first input.
const Variant* typical(const OpCase& op_case) {
  const Variant* best = nullptr;
  for (const Variant& v : op_case.variants) {
    if (v.inputs.empty() || v.inputs[0].absent || v.inputs[0].type.rank() == 0 || !enlarged(op_case, v, 4)) continue;
    if (v.inputs[0].fill.kind == Fill::Kind::values) continue;
    if (!best || v.inputs[0].type.elements() > best->inputs[0].type.elements()) best = &v;
  }
  return best;
}

// Whether the op takes its input row by row, and the variant has rows.
bool goes_by_rows(const std::string& op, const Variant& variant) {
  static const std::set<std::string> all = {
      "softmax",    "softmax_backward",    "log_softmax", "log_softmax_backward", "cross_entropy",
      "layer_norm", "layer_norm_backward", "rms_norm",    "rms_norm_backward",    "cross_entropy_backward",
      "dropout",    "dropout_backward"};
  return all.contains(op) && variant.inputs[0].type.rank() == 2;
}

// The variant with rows of so many elements.
Variant with_rows_of(std::int64_t elements, Variant variant) {
  variant.name = fmt::format("rows_of_{}", elements);
  const std::int64_t own = variant.inputs[0].type.shape.back();
  for (CaseInput& input : variant.inputs) {
    if (input.type.rank() > 0 && input.type.shape.back() == own) input.type.shape.back() = elements;
  }
  return variant;
}

// Whether the op's time is that of a message, which bench/comm measures: with one rank it has nothing to do.
bool between_ranks(const std::string& op) { return op.find("_ranks_") != std::string::npos; }

void add_benchmark(const OpCase& op_case, const Variant& variant, const char* size, double bytes, const Place& place) {
  benchmark::RegisterBenchmark(
      fmt::format("{}/{}/{}", op_case.op, variant.name, size).c_str(),
      [&op_case, variant, bytes, place](benchmark::State& state) { measure(state, op_case, variant, bytes, place); })
      ->UseRealTime();
}

void add_benchmarks(const Place& place) {
  static const std::vector<OpCase> cases = testing::all_cases();
  for (const OpCase& op_case : cases) {
    const OpDef* op = find_op(op_case.op);
    const Variant* variant = typical(op_case);
    if (!op || op->alias || !variant || between_ranks(op_case.op)) continue;
    const double large = place.device->asynchronous() ? kDeviceMemoryBytes : kMemoryBytes;
    add_benchmark(op_case, *variant, "cache", kCacheBytes, place);
    add_benchmark(op_case, *variant, "memory", large, place);
    if (goes_by_rows(op_case.op, *variant)) {
      add_benchmark(op_case, with_rows_of(kLongRow, *variant), "memory", large, place);
    }
  }
}

// Into the report: what a copy and a triad reached.
void describe_machine(const Place& place) {
  benchmark::AddCustomContext("device", place.device->description());
  benchmark::AddCustomContext("copy_GB_s", fmt::format("{:.1f}", place.ceilings.memory_bytes / 1e9));
  benchmark::AddCustomContext("triad_GB_s", fmt::format("{:.1f}", place.ceilings.triad_bytes / 1e9));
}

}  // namespace
}  // namespace trivet

int main(int argc, char** argv) {
  int threads = 0;
  std::string device = "cpu";
  for (; argc > 1; ++argv, --argc) {
    const std::string_view option = argv[1];
    if (option.starts_with("--threads=")) {
      threads = std::atoi(argv[1] + std::strlen("--threads="));
    } else if (option.starts_with("--device=")) {
      device = option.substr(std::strlen("--device="));
    } else {
      break;
    }
    argv[1] = argv[0];
  }
  try {
    const trivet::Place place = trivet::place_of(device, threads);
    trivet::add_benchmarks(place);
    trivet::describe_machine(place);
  } catch (const trivet::Error& e) {
    std::fprintf(stderr, "ops: %s\n", e.what());
    return trivet::exit_code(e.code());
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
