// Losses element by element: the mean over each sample, in chunks so that a few large samples keep all threads busy.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/softmax_rows.h"
#include "trivet/kernels/attrs_loss.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// ---- what differs between the losses: value and slope at a prediction x with target t and positive weight w ----

struct Squared {
  static constexpr bool kWeighted = false;
  TRIVET_INLINE float value(float x, float t, float) const { return (x - t) * (x - t); }
  TRIVET_INLINE float slope(float x, float t, float) const { return 2.0f * (x - t); }
};

struct Absolute {
  static constexpr bool kWeighted = false;
  TRIVET_INLINE float value(float x, float t, float) const { return abs_f32(x - t); }
  TRIVET_INLINE float slope(float x, float t, float) const {
    const float d = x - t;
    const float sign = d > 0.0f ? 1.0f : (d < 0.0f ? -1.0f : 0.0f);
    return d != d ? d : sign;
  }
};

struct Huber {
  static constexpr bool kWeighted = false;
  float delta;
  TRIVET_INLINE float value(float x, float t, float) const {
    const float d = abs_f32(x - t);
    const float square = 0.5f * d * d;
    const float line = delta * (d - 0.5f * delta);
    return d > delta ? line : square;
  }
  TRIVET_INLINE float slope(float x, float t, float) const { return clamp_f32(x - t, -delta, delta); }
};

struct Logistic {
  static constexpr bool kWeighted = true;
  // -log sigmoid(x) is log(1 + e^-x): both terms are positive, nothing cancels. What rounding takes from u = 1 + e is
  // added to its logarithm, times about 1 / u: the line between that function's values at 1 and 2 is near enough.
  TRIVET_INLINE float value(float x, float t, float w) const {
    const float e = exp_nonpositive(-abs_f32(x));
    const float u = 1.0f + e;
    const float tail = log_f32(u) + (e - (u - 1.0f)) * (1.5f - 0.5f * u);
    const float of_positive = x < 0.0f ? tail - x : tail;
    const float of_negative = x < 0.0f ? tail : tail + x;
    return w * t * of_positive + (1.0f - t) * of_negative;
  }
  // Both sigmoids from one exponential, neither as 1 minus something near 1.
  TRIVET_INLINE float slope(float x, float t, float w) const {
    const float e = exp_nonpositive(-abs_f32(x));
    const float near_one = 1.0f / (1.0f + e);
    const float near_zero = e * near_one;
    const float of_positive = x < 0.0f ? near_one : near_zero;
    const float of_negative = x < 0.0f ? near_zero : near_one;
    return (1.0f - t) * of_negative - w * t * of_positive;
  }
};

#undef TRIVET_INLINE

// ---- samples ----

// Positive weights: one for all (no vector), or one for each element of the last axis.
struct Weights {
  const float* vector = nullptr;
  float scalar = 1;

  explicit Weights(const View* v) {
    if (v == nullptr || v->data == nullptr) return;
    if (v->rank == 0) {
      scalar = *v->as<const float>();
    } else {
      vector = v->as<const float>();
    }
  }
};

struct Samples {
  static constexpr std::int64_t kChunk = 8192;
  // Samples of fewer elements are taken in groups of so many elements: loops over them alone would be all tail.
  static constexpr std::int64_t kNarrow = 64;
  static constexpr std::int64_t kGroup = 1024;

  std::int64_t count;
  std::int64_t elements = 1;  // of a sample
  std::int64_t last;          // size of the last axis
  std::int64_t chunk;         // elements of a chunk: whole rows of the last axis
  std::int64_t chunks;        // of a sample

  explicit Samples(const TensorDesc& t) : count(t.shape[0]), last(t.rank > 1 ? t.shape[t.rank - 1] : 1) {
    for (int i = 1; i < t.rank; ++i) elements *= t.shape[i];
    chunk = last >= kChunk || last == 0 ? last : kChunk / last * last;
    chunks = elements == 0 ? 1 : (elements + chunk - 1) / chunk;
  }

  bool narrow(const Weights& weights) const { return elements < kNarrow && weights.vector == nullptr; }

  // Calls f(first sample, last sample) for groups of narrow samples.
  template <class F>
  void for_each_group(int threads, const F& f) const {
    parallel_pieces(count, elements == 0 ? 1 : kGroup / elements, count * elements, threads, f);
  }

  // Calls f(sample, chunk, first element, elements); chunks count through all samples.
  template <class F>
  void for_each_chunk(int threads, const F& f) const {
    const std::int64_t grain = chunks > 1 || elements >= kChunk || elements == 0 ? 1 : kChunk / elements;
    parallel_pieces(count * chunks, grain, count * elements, threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::int64_t sample = unit / chunks;
        const std::int64_t skip = unit % chunks * chunk;
        f(sample, unit, sample * elements + skip, elements - skip < chunk ? elements - skip : chunk);
      }
    });
  }
};

// ---- forward ----

template <class Rule, class T>
float chunk_sum(const Rule& rule, const T* x, const float* t, const Weights& weights, std::int64_t n,
                std::int64_t last) {
  if constexpr (Rule::kWeighted) {
    if (const float* w = weights.vector; w != nullptr) {
      float sum = 0;
      for (std::int64_t i = 0; i < n; i += last) {
        sum += row_costly_sum(last, [=](std::int64_t j) { return rule.value(to_f32(x[i + j]), t[i + j], w[j]); });
      }
      return sum;
    }
  }
  const float scalar = weights.scalar;
  const auto value = [=](std::int64_t i) { return rule.value(to_f32(x[i]), t[i], scalar); };
  return Rule::kWeighted ? row_costly_sum(n, value) : row_sum(n, value);
}

// Losses of `count` narrow samples.
template <class Rule, class T>
void group_losses(const Rule& rule, const T* x, const float* t, float weight, std::int64_t count, std::int64_t elements,
                  float* loss) {
  float values[Samples::kGroup];
#pragma omp simd
  for (std::int64_t i = 0; i < count * elements; ++i) values[i] = rule.value(to_f32(x[i]), t[i], weight);
  const float inverse = 1.0f / static_cast<float>(elements);
  for (std::int64_t s = 0; s < count; ++s) {
    float sum = 0;
    for (std::int64_t i = 0; i < elements; ++i) sum += values[s * elements + i];
    loss[s] = sum * inverse;
  }
}

template <class Rule>
void run_loss(const KernelArgs& args, const Rule& rule) {
  const Samples samples(args.in[0]);
  const std::int64_t elements = samples.elements;
  const Weights weights(args.in.size() > 2 ? &args.in[2] : nullptr);
  const float* t = args.in[1].as<const float>();
  float* loss = args.out[0].as<float>();
  float* sums = samples.chunks == 1 ? loss : static_cast<float*>(args.workspace);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    const auto* x = args.in[0].as<const decltype(element)>();
    if (samples.narrow(weights)) {
      samples.for_each_group(args.threads, [&](std::int64_t begin, std::int64_t end) {
        group_losses(rule, x + begin * elements, t + begin * elements, weights.scalar, end - begin, elements,
                     loss + begin);
      });
      return;
    }
    samples.for_each_chunk(args.threads, [&](std::int64_t, std::int64_t chunk, std::int64_t first, std::int64_t n) {
      sums[chunk] = chunk_sum(rule, x + first, t + first, weights, n, samples.last);
    });
    const double inverse = 1 / static_cast<double>(elements);
    for (std::int64_t s = 0; s < samples.count; ++s) {
      double total = 0;
      for (std::int64_t c = 0; c < samples.chunks; ++c) total += static_cast<double>(sums[s * samples.chunks + c]);
      loss[s] = static_cast<float>(total * inverse);
    }
  });
}

// ---- backward ----

template <class Rule, class T>
void chunk_gradient(const Rule& rule, const T* x, const float* t, const Weights& weights, std::int64_t n,
                    std::int64_t last, float factor, T* dx) {
  if constexpr (Rule::kWeighted) {
    if (const float* w = weights.vector; w != nullptr) {
      for (std::int64_t i = 0; i < n; i += last) {
#pragma omp simd
        for (std::int64_t j = 0; j < last; ++j) {
          dx[i + j] = from_f32<T>(rule.slope(to_f32(x[i + j]), t[i + j], w[j]) * factor);
        }
      }
      return;
    }
  }
  const float scalar = weights.scalar;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) dx[i] = from_f32<T>(rule.slope(to_f32(x[i]), t[i], scalar) * factor);
}

// Gradients of `count` narrow samples. dx may be x or t.
template <class Rule, class T>
void group_gradients(const Rule& rule, const T* x, const float* t, float weight, const float* dloss, std::int64_t count,
                     std::int64_t elements, T* dx) {
  float factors[Samples::kGroup];
  const float inverse = 1.0f / static_cast<float>(elements);
  for (std::int64_t s = 0; s < count; ++s) {
    for (std::int64_t i = 0; i < elements; ++i) factors[s * elements + i] = dloss[s] * inverse;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < count * elements; ++i) {
    dx[i] = from_f32<T>(rule.slope(to_f32(x[i]), t[i], weight) * factors[i]);
  }
}

template <class Rule>
void run_backward(const KernelArgs& args, const Rule& rule) {
  const Samples samples(args.in[0]);
  const std::int64_t elements = samples.elements;
  const Weights weights(args.in.size() > 3 ? &args.in[3] : nullptr);
  const float* t = args.in[1].as<const float>();
  const float* dloss = args.in[2].as<const float>();
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* x = args.in[0].as<const T>();
    T* dx = args.out[0].as<T>();
    if (samples.narrow(weights)) {
      samples.for_each_group(args.threads, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t first = begin * elements;
        group_gradients(rule, x + first, t + first, weights.scalar, dloss + begin, end - begin, elements, dx + first);
      });
      return;
    }
    const float inverse = 1.0f / static_cast<float>(elements);
    samples.for_each_chunk(args.threads, [&](std::int64_t s, std::int64_t, std::int64_t first, std::int64_t n) {
      chunk_gradient(rule, x + first, t + first, weights, n, samples.last, dloss[s] * inverse, dx + first);
    });
  });
}

// ---- table ----

Huber huber_of(const KernelArgs& args) { return {static_cast<float>(args.attributes<HuberLossAttrs>().delta)}; }

bool is_supported(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.in[1].dtype == DType::f32;
}

std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  const Samples samples(spec.in[0]);
  return samples.chunks == 1 ? 0 : static_cast<std::size_t>(samples.count * samples.chunks) * sizeof(float);
}

template <class Rule>
void loss_of(const KernelArgs& args) {
  run_loss(args, Rule());
}

template <class Rule>
void backward_of(const KernelArgs& args) {
  run_backward(args, Rule());
}

void huber_loss(const KernelArgs& args) { run_loss(args, huber_of(args)); }
void huber_loss_backward(const KernelArgs& args) { run_backward(args, huber_of(args)); }

constexpr KernelEntry kKernels[] = {
    {"mean_squared_error", is_supported, loss_of<Squared>, nullptr, workspace},
    {"mean_squared_error_backward", is_supported, backward_of<Squared>},
    {"l1_loss", is_supported, loss_of<Absolute>, nullptr, workspace},
    {"l1_loss_backward", is_supported, backward_of<Absolute>},
    {"huber_loss", is_supported, huber_loss, nullptr, workspace},
    {"huber_loss_backward", is_supported, huber_loss_backward},
    {"binary_cross_entropy_with_logits", is_supported, loss_of<Logistic>, nullptr, workspace},
    {"binary_cross_entropy_with_logits_backward", is_supported, backward_of<Logistic>},
};

}  // namespace

std::span<const KernelEntry> pointwise_loss_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
