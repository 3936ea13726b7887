#include "trivet/kernels/ceilings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/cpu/onednn.h"
#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {

namespace {

constexpr double kBudgetSeconds = 0.08;  // for each figure
constexpr std::size_t kAlignment = 64;

struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{kAlignment}); }
};
using Floats = std::unique_ptr<float[], AlignedDelete>;

Floats make_floats(std::int64_t n) {
  Floats result(new (std::align_val_t{kAlignment}) float[static_cast<std::size_t>(n)]);
  std::fill_n(result.get(), n, 1.0F);  // by the thread that will use it, so that the pages are near its core
  return result;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Median seconds of one call of f(), called again and again for kBudgetSeconds. Calls are to take well under a
// millisecond: where other processes take turns on the core, most calls then fall between two turns.
template <class F>
double median_seconds(const F& f) {
  constexpr std::size_t kMostSamples = 4096;
  const auto samples = std::make_unique<double[]>(kMostSamples);
  f();
  std::size_t count = 0;
  const auto begin = std::chrono::steady_clock::now();
  do {
    const auto start = std::chrono::steady_clock::now();
    f();
    samples[count++] = seconds_since(start);
  } while (count < kMostSamples && seconds_since(begin) < kBudgetSeconds);
  std::nth_element(samples.get(), samples.get() + count / 2, samples.get() + count);
  return std::max(samples[count / 2], 1e-9);
}

// The rates of all threads together, each measured by itself: no thread waits for one that has lost its core.
template <class F>
double sum_of_rates(int threads, const F& rate_of_thread) {
  std::vector<double> rates(static_cast<std::size_t>(threads));
  onednn::parallel_tasks(threads, threads,
                         [&](std::int64_t task, int) { rates[static_cast<std::size_t>(task)] = rate_of_thread(); });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

constexpr std::int64_t kMostLanes = 16;
constexpr std::int64_t kChains = 8;  // independent sums: enough to hide the latency of a multiply-add

// Functions for each instruction set: y = 1.5 x and z = 1.5 x + y over arrays, and `rounds` multiply-adds on kChains
// vectors of `lanes` floats that stay in registers. The vectors start different, or the compiler would compute one for
// all.
#define TRIVET_PROBES(isa, attribute, lanes)                                             \
  attribute void scale_##isa(const float* x, float* y, std::int64_t n) {                 \
    for (std::int64_t i = 0; i < n; ++i) y[i] = 1.5F * x[i];                             \
  }                                                                                      \
  attribute void triad_##isa(const float* x, const float* y, float* z, std::int64_t n) { \
    for (std::int64_t i = 0; i < n; ++i) z[i] = 1.5F * x[i] + y[i];                      \
  }                                                                                      \
  attribute void multiply_add_##isa(std::int64_t rounds, float* values) {                \
    typedef float Vector __attribute__((vector_size((lanes) * sizeof(float))));          \
    Vector sums[kChains];                                                                \
    std::memcpy(sums, values, sizeof(sums));                                             \
    const Vector factor = Vector{} + 0.999F;                                             \
    for (std::int64_t r = 0; r < rounds; ++r) {                                          \
      for (std::int64_t c = 0; c < kChains; ++c) sums[c] = sums[c] * factor + factor;    \
    }                                                                                    \
    std::memcpy(values, sums, sizeof(sums));                                             \
  }

TRIVET_PROBES(baseline, , 4)
#if defined(__x86_64__)
TRIVET_PROBES(avx2, __attribute__((target("arch=x86-64-v3"))), 8)
TRIVET_PROBES(avx512, __attribute__((target("arch=x86-64-v4,prefer-vector-width=512"))), 16)
#endif
#undef TRIVET_PROBES

struct Probes {
  void (*scale)(const float*, float*, std::int64_t) = scale_baseline;
  void (*triad)(const float*, const float*, float*, std::int64_t) = triad_baseline;
  void (*multiply_add)(std::int64_t, float*) = multiply_add_baseline;
  std::int64_t lanes = 4;
};

Probes probes() {
#if defined(__x86_64__)
  if (best_isa() == Isa::avx512) return {scale_avx512, triad_avx512, multiply_add_avx512, kMostLanes};
  if (best_isa() == Isa::avx2) return {scale_avx2, triad_avx2, multiply_add_avx2, 8};
#endif
  return {};
}

// A tensor with memory of its own, filled with small numbers.
struct Operand {
  Operand(DType type, std::int64_t rows, std::int64_t columns) {
    view.dtype = type;
    view.rank = rows > 0 ? 2 : 0;
    view.shape[0] = rows;
    view.shape[1] = columns;
    memory = make_floats(static_cast<std::int64_t>(view.bytes() / sizeof(float)) + 1);
    if (type != DType::f32) std::memset(memory.get(), type == DType::bf16 ? 0x3c : 1, view.bytes());
    view.data = memory.get();
  }

  View view;
  Floats memory;
};

// Operations per second of a kernel on one thread.
double kernel_rate(std::string_view op, std::span<const Operand> operands, Operand& result, const void* attrs,
                   double flops) {
  std::vector<View> in;
  for (const Operand& operand : operands) in.push_back(operand.view);
  const std::vector<TensorDesc> in_desc(in.begin(), in.end());
  const TensorDesc out_desc = result.view;
  const KernelEntry* kernel = find(op, best_isa());
  const KernelSpec spec{in_desc, {&out_desc, 1}, attrs, 1};
  const std::unique_ptr<Prepared> prepared = kernel->prepare(spec);
  const std::size_t workspace_bytes = kernel->workspace(spec, prepared.get());
  const Floats workspace = make_floats(static_cast<std::int64_t>(workspace_bytes / sizeof(float)) + 1);
  const KernelArgs args{in, {&result.view, 1}, workspace.get(), attrs, prepared.get(), 1};
  return flops / median_seconds([&] { kernel->run(args); });
}

// A product that one thread does in well under a millisecond at 95 % of the rate of a large one.
constexpr std::int64_t kSize = 256;
constexpr std::int64_t kDepth = 512;
constexpr double kProductFlops = 2.0 * kSize * kSize * kDepth;

double float_matrix_rate(DType type) {
  std::vector<Operand> in;
  in.emplace_back(type, kSize, kDepth);
  in.emplace_back(type, kDepth, kSize);
  Operand out(type, kSize, kSize);
  const MatmulAttrs attrs;
  return kernel_rate("matmul", in, out, &attrs, kProductFlops);
}

double int8_matrix_rate() {
  std::vector<Operand> in;
  in.emplace_back(DType::u8, kSize, kDepth);
  in.emplace_back(DType::f32, 0, 0);
  in.emplace_back(DType::u8, 0, 0);
  in.emplace_back(DType::i8, kSize, kDepth);
  in.emplace_back(DType::f32, 0, 0);
  Operand out(DType::f32, kSize, kSize);
  const LinearAttrs attrs;
  return kernel_rate("linear_int8", in, out, &attrs, kProductFlops);
}

double vector_flops_of_thread(const Probes& probe) {
  constexpr std::int64_t kRounds = 20'000;
  std::array<float, kChains * kMostLanes> values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const double seconds = median_seconds([&] { probe.multiply_add(kRounds, values.data()); });
  return 2.0 * static_cast<double>(kRounds * kChains * probe.lanes) / seconds;
}

// Bytes read and written per second by y = 1.5 x on arrays of `n` floats. One call goes over `piece` of them, the next
// call over the next piece, and so on round the arrays.
double bandwidth_of_thread(const Probes& probe, std::int64_t n, std::int64_t piece) {
  const Floats x = make_floats(n);
  const Floats y = make_floats(n);
  std::int64_t next = 0;
  const double seconds = median_seconds([&] {
    probe.scale(x.get() + next, y.get() + next, piece);
    next = next + 2 * piece <= n ? next + piece : 0;
  });
  return 2.0 * static_cast<double>(sizeof(float)) * static_cast<double>(piece) / seconds;
}

// The same of z = 1.5 x + y.
double triad_of_thread(const Probes& probe, std::int64_t n, std::int64_t piece) {
  const Floats x = make_floats(n);
  const Floats y = make_floats(n);
  const Floats z = make_floats(n);
  std::int64_t next = 0;
  const double seconds = median_seconds([&] {
    probe.triad(x.get() + next, y.get() + next, z.get() + next, piece);
    next = next + 2 * piece <= n ? next + piece : 0;
  });
  return 3.0 * static_cast<double>(sizeof(float)) * static_cast<double>(piece) / seconds;
}

double measure_launch(int threads) {
  // What takes longer was waiting for a core, which is no cost of a launch.
  constexpr double kLongest = 50e-6;
  const double seconds = median_seconds([&] {
  // The barrier keeps the region from being dropped as empty.
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
    }
  });
  return std::min(seconds, kLongest);
}

std::size_t cache_bytes_of(int level_name, std::size_t usual) {
  const long found = sysconf(level_name);
  return found > 0 ? static_cast<std::size_t>(found) : usual;
}

}  // namespace

Ceilings measure_ceilings(int threads) {
  const onednn::ThreadScope scope(threads);
  const Probes probe = probes();
  const std::size_t level2 = cache_bytes_of(_SC_LEVEL2_CACHE_SIZE, std::size_t{1} << 20);
  const std::size_t level3 = cache_bytes_of(_SC_LEVEL3_CACHE_SIZE, std::size_t{32} << 20);
  // Of x and y together: half of the level-2 cache, and three times the last cache as far as memory is not wasted on
  // it.
  constexpr std::size_t kBytesOfBoth = 2 * sizeof(float);
  const auto cached = static_cast<std::int64_t>(level2 / 2 / kBytesOfBoth);
  const auto uncached = static_cast<std::int64_t>(std::clamp<std::size_t>(3 * level3, 64 << 20, 256 << 20) /
                                                  kBytesOfBoth / static_cast<std::size_t>(threads));
  constexpr std::int64_t kPiece = 1 << 18;
  Ceilings c;
  c.matrix_flops = sum_of_rates(threads, [] { return float_matrix_rate(DType::f32); });
  c.bf16_matrix_flops = sum_of_rates(threads, [] { return float_matrix_rate(DType::bf16); });
  c.int8_matrix_flops = sum_of_rates(threads, int8_matrix_rate);
  c.vector_flops = sum_of_rates(threads, [&] { return vector_flops_of_thread(probe); });
  c.cache_bytes = sum_of_rates(threads, [&] { return bandwidth_of_thread(probe, cached, cached); });
  c.memory_bytes = sum_of_rates(threads, [&] { return bandwidth_of_thread(probe, uncached, kPiece); });
  c.triad_bytes = sum_of_rates(threads, [&] { return triad_of_thread(probe, uncached * 2 / 3, kPiece); });
  c.launch_seconds = measure_launch(threads);
  c.cache_size = level2 * static_cast<std::size_t>(threads);
  return c;
}

}  // namespace trivet::kernels::cpu
