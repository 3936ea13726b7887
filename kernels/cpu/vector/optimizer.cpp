// Optimizer steps: one pass over the parameters, adafactor's three. Outputs may be written over their inputs.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/philox_block.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kGrain = 16 * 1024;

std::int64_t count(const TensorDesc& t) {
  std::int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.shape[i];
  return n;
}

float* data_of(const View& v) { return static_cast<float*>(v.data); }

bool is_given(const KernelArgs& args, std::size_t input) {
  return input < args.in.size() && args.in[input].data != nullptr;
}

// The optional factor of the gradient.
float scale_of(const KernelArgs& args, std::size_t input) {
  return is_given(args, input) ? *data_of(args.in[input]) : 1.0f;
}

std::int64_t step_of(const KernelArgs& args, std::size_t input) {
  return is_given(args, input) ? *static_cast<const std::int64_t*>(args.in[input].data) : 0;
}

// p[i] = rounded f(i) for all i. Element i of a stochastically rounded parameter takes half i % 2 of the words that
// Philox gives for counter i / 8.
template <class P, class F>
[[gnu::always_inline]] inline void update_all(const KernelArgs& args, const ParameterRounding& rounding,
                                              std::int64_t step, const F& f) {
  P* const p = static_cast<P*>(args.out[0].data);
  const std::int64_t n = count(args.out[0]);
  const bool stochastic = sizeof(P) == 2 && rounding.stochastic_rounding;
  const std::uint64_t key =
      math::mix_key(math::mix_key(static_cast<std::uint64_t>(rounding.seed), static_cast<std::uint64_t>(rounding.op)),
                    static_cast<std::uint64_t>(step));
  parallel_pieces(n, kGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
    if constexpr (sizeof(P) == 2) {
      constexpr std::int64_t kBlock = 2 * kPhiloxWords;
      static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first half of a word is its low one");
      std::uint32_t bits[kPhiloxWords];
      std::uint16_t halves[kBlock];
      float next[kBlock];
      for (std::int64_t first = begin; stochastic && first < end; first += kBlock) {
        philox_block(key, 0, static_cast<std::uint64_t>(first) / 8, bits);
        __builtin_memcpy(halves, bits, sizeof(halves));
        const std::int64_t size = end - first < kBlock ? end - first : kBlock;
#pragma omp simd
        for (std::int64_t i = 0; i < size; ++i) next[i] = f(first + i);
#pragma omp simd
        for (std::int64_t i = 0; i < size; ++i) p[first + i] = stochastic_bf16(next[i], halves[i]);
      }
      if (stochastic) return;
    }
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) p[i] = from_f32<P>(f(i));
  });
}

// Calls f with the element types of the parameter and of its gradient.
template <class F>
[[gnu::always_inline]] inline void with_types(const KernelArgs& args, const F& f) {
  with_compute_type(args.in[0].dtype, [&](auto parameter) {
    with_compute_type(args.in[1].dtype, [&](auto gradient) { f(parameter, gradient); });
  });
}

template <class P, class G>
[[gnu::flatten]] void sgd_step(const KernelArgs& args) {
  const auto& attrs = args.attributes<SgdAttrs>();
  const P* const p = static_cast<const P*>(args.in[0].data);
  const G* const grad = static_cast<const G*>(args.in[1].data);
  const float* const buffer = data_of(args.in[2]);
  const float lr = *data_of(args.in[3]);
  const float scale = scale_of(args, 4);
  float* const new_buffer = data_of(args.out[1]);
  const float momentum = static_cast<float>(attrs.momentum);
  const float decay = static_cast<float>(attrs.weight_decay);
  const bool nesterov = attrs.nesterov;
  update_all<P>(
      args, attrs, step_of(args, 5), [=](std::int64_t i) __attribute__((always_inline)) {
        const float old = to_f32(p[i]);
        const float g = to_f32(grad[i]) * scale + decay * old;
        const float b = momentum * buffer[i] + g;
        new_buffer[i] = b;
        return old - lr * (nesterov ? g + momentum * b : b);
      });
}

template <class P, class G>
[[gnu::flatten]] void adamw_step(const KernelArgs& args) {
  const auto& attrs = args.attributes<AdamWAttrs>();
  const P* const p = static_cast<const P*>(args.in[0].data);
  const G* const grad = static_cast<const G*>(args.in[1].data);
  const float* const m = data_of(args.in[2]);
  const float* const v = data_of(args.in[3]);
  const double lr = static_cast<double>(*data_of(args.in[4]));
  const double step = static_cast<double>(step_of(args, 5));
  const float scale = scale_of(args, 6);
  float* const new_m = data_of(args.out[1]);
  float* const new_v = data_of(args.out[2]);
  // The factors in double: at the first steps 1 - beta2^step is as small as 0.001.
  const float beta1 = static_cast<float>(attrs.beta1);
  const float beta2 = static_cast<float>(attrs.beta2);
  const float rest1 = static_cast<float>(1 - attrs.beta1);
  const float rest2 = static_cast<float>(1 - attrs.beta2);
  const float keep = static_cast<float>(1 - lr * attrs.weight_decay);
  const float rate = static_cast<float>(lr / (1 - __builtin_pow(attrs.beta1, step)));
  const float root_scale = static_cast<float>(1 / __builtin_sqrt(1 - __builtin_pow(attrs.beta2, step)));
  const float epsilon = static_cast<float>(attrs.epsilon);
  update_all<P>(
      args, attrs, step_of(args, 5), [=](std::int64_t i) __attribute__((always_inline)) {
        const float g = to_f32(grad[i]) * scale;
        const float first = beta1 * m[i] + rest1 * g;
        const float second = beta2 * v[i] + rest2 * (g * g);
        new_m[i] = first;
        new_v[i] = second;
        return keep * to_f32(p[i]) - rate * first / (__builtin_sqrtf(second) * root_scale + epsilon);
      });
}

template <class P, class G>
[[gnu::flatten]] void lion_step(const KernelArgs& args) {
  const auto& attrs = args.attributes<LionAttrs>();
  const P* const p = static_cast<const P*>(args.in[0].data);
  const G* const grad = static_cast<const G*>(args.in[1].data);
  const float* const m = data_of(args.in[2]);
  const float lr = *data_of(args.in[3]);
  const float scale = scale_of(args, 4);
  float* const new_m = data_of(args.out[1]);
  const float beta1 = static_cast<float>(attrs.beta1);
  const float beta2 = static_cast<float>(attrs.beta2);
  const float rest1 = static_cast<float>(1 - attrs.beta1);
  const float rest2 = static_cast<float>(1 - attrs.beta2);
  const float keep = static_cast<float>(1 - static_cast<double>(lr) * attrs.weight_decay);
  update_all<P>(
      args, attrs, step_of(args, 5), [=](std::int64_t i) __attribute__((always_inline)) {
        const float g = to_f32(grad[i]) * scale;
        const float direction = beta1 * m[i] + rest1 * g;
        new_m[i] = beta2 * m[i] + rest2 * g;
        float sign = direction > 0.0f ? 1.0f : direction;  // NaN and 0 stay
        sign = direction < 0.0f ? -1.0f : sign;
        return keep * to_f32(p[i]) - lr * sign;
      });
}

// ---- adafactor ----

constexpr std::int64_t kMostPieces = 32;

// A parameter as a matrix: its first axis by the others. Rows are cut into pieces, each with its own column sums.
struct FactoredSizes {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t grain;  // rows of a piece
  std::int64_t pieces;

  explicit FactoredSizes(const TensorDesc& param) : rows(param.rank == 0 ? 1 : param.shape[0]) {
    columns = rows == 0 ? 0 : count(param) / rows;
    const std::int64_t least = columns == 0 ? 1 : kGrain / columns + 1;
    const std::int64_t share = (rows + kMostPieces - 1) / kMostPieces;
    grain = share > least ? share : least;
    pieces = (rows + grain - 1) / grain;
  }
};

// How the second moments move at this step.
struct Decay {
  float keep;
  float rest;
  float epsilon;

  Decay(const AdafactorAttrs& attrs, double step) : epsilon(static_cast<float>(attrs.epsilon)) {
    const double moved = __builtin_pow(step, -attrs.decay_rate);
    rest = static_cast<float>(moved);
    keep = static_cast<float>(1 - moved);
  }
};

// Adds the squares of one row to the column sums and gives their sum. Like square_row a function of its own, so that
// its sum has the same bits wherever it is called from.
template <class G>
[[gnu::noinline]] float add_squares(const G* g, std::int64_t columns, float scale, float epsilon, float* sums) {
  return row_costly_sum(columns, [=](std::int64_t j) {
    const float x = to_f32(g[j]) * scale;
    const float square = x * x + epsilon;
    sums[j] += square;
    return square;
  });
}

template <class U>
[[gnu::noinline]] float square_row(std::int64_t row, std::int64_t columns, const U& u) {
  return row_costly_sum(columns, [=](std::int64_t j) {
    const float x = u(row, j);
    return x * x;
  });
}

// Moves the row and column averages of squared gradients. partial: (pieces, columns).
template <class G>
void move_moments(const FactoredSizes& z, const G* grad, float scale, const Decay& decay, const KernelArgs& args,
                  float* partial) {
  const float* const row = data_of(args.in[2]);
  const float* const column = data_of(args.in[5]);
  float* const new_row = data_of(args.out[1]);
  float* const new_column = data_of(args.out[2]);
  const std::int64_t columns = z.columns;
  const float per_row = 1.0f / static_cast<float>(columns);
  const float per_column = 1.0f / static_cast<float>(z.rows);
  parallel_pieces(z.rows, z.grain, z.rows * columns, args.threads, [&](std::int64_t begin, std::int64_t end) {
    float* const sums = partial + begin / z.grain * columns;
    for (std::int64_t j = 0; j < columns; ++j) sums[j] = 0.0f;
    for (std::int64_t i = begin; i < end; ++i) {
      const float sum = add_squares(grad + i * columns, columns, scale, decay.epsilon, sums);
      new_row[i] = decay.keep * row[i] + decay.rest * (sum * per_row);
    }
  });
  for (std::int64_t p = 1; p < z.pieces; ++p) {
    for (std::int64_t j = 0; j < columns; ++j) partial[j] += partial[p * columns + j];
    asm volatile("" ::: "memory");
  }
  for (std::int64_t j = 0; j < columns; ++j) {
    new_column[j] = decay.keep * column[j] + decay.rest * (partial[j] * per_column);
  }
}

// p' = keep p - rate u(i, j) for the rows of all pieces, where rate falls if u's root mean square passes the threshold.
template <class P, class U>
[[gnu::always_inline]] inline void clipped_update(const FactoredSizes& z, const KernelArgs& args, double* partial,
                                                  const U& u) {
  const auto& attrs = args.attributes<AdafactorAttrs>();
  const double lr = static_cast<double>(*data_of(args.in[3]));
  const std::int64_t columns = z.columns;
  const std::int64_t n = z.rows * columns;
  // Backwards: the last rows are those that the caches still hold.
  parallel_ranges(z.pieces, n, args.threads, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t piece = last - 1; piece >= first; --piece) {
      const std::int64_t begin = piece * z.grain;
      const std::int64_t end = begin + z.grain < z.rows ? begin + z.grain : z.rows;
      double sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += static_cast<double>(square_row(i, columns, u));
      partial[piece] = sum;
    }
  });
  double total = 0;
  for (std::int64_t p = 0; p < z.pieces; ++p) total += partial[p];
  const double ratio = __builtin_sqrt(total / static_cast<double>(n)) / attrs.clip_threshold;
  const float rate = static_cast<float>(ratio <= 1 ? lr : lr / ratio);  // NaN stays NaN
  const float keep = static_cast<float>(1 - lr * attrs.weight_decay);
  const P* const p = static_cast<const P*>(args.in[0].data);
  P* const new_p = static_cast<P*>(args.out[0].data);
  parallel_pieces(z.rows, z.grain, n, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
#pragma omp simd
      for (std::int64_t j = 0; j < columns; ++j) {
        new_p[i * columns + j] = from_f32<P>(keep * to_f32(p[i * columns + j]) - rate * u(i, j));
      }
    }
  });
}

template <class P, class G>
void adafactor_matrix(const KernelArgs& args, const Decay& decay, float scale) {
  const FactoredSizes z(args.in[0]);
  if (z.rows * z.columns == 0) return;
  const G* const grad = static_cast<const G*>(args.in[1].data);
  double* const sums = static_cast<double*>(args.workspace);
  float* const row_factor = reinterpret_cast<float*>(sums + kMostPieces);
  float* const column_factor = row_factor + z.rows;
  move_moments(z, grad, scale, decay, args, column_factor + z.columns);
  const float* const row = data_of(args.out[1]);
  const float* const column = data_of(args.out[2]);
  const float mean = row_sum(z.rows, [=](std::int64_t i) { return row[i]; }) / static_cast<float>(z.rows);
  for (std::int64_t i = 0; i < z.rows; ++i) row_factor[i] = scale / __builtin_sqrtf(row[i] / mean);
  for (std::int64_t j = 0; j < z.columns; ++j) column_factor[j] = 1.0f / __builtin_sqrtf(column[j]);
  clipped_update<P>(z, args, sums, [=](std::int64_t i, std::int64_t j) {
    return to_f32(grad[i * z.columns + j]) * row_factor[i] * column_factor[j];
  });
}

template <class P, class G>
void adafactor_vector(const KernelArgs& args, const Decay& decay, float scale) {
  const std::int64_t n = count(args.in[0]);
  if (n == 0) return;
  const G* const grad = static_cast<const G*>(args.in[1].data);
  const float* const moment = data_of(args.in[2]);
  float* const new_moment = data_of(args.out[1]);
  parallel_pieces(n, kGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = to_f32(grad[i]) * scale;
      new_moment[i] = decay.keep * moment[i] + decay.rest * (g * g + decay.epsilon);
    }
  });
  FactoredSizes z(args.in[0]);
  z.rows = 1;
  z.columns = n;
  z.grain = 1;
  z.pieces = 1;
  clipped_update<P>(z, args, static_cast<double*>(args.workspace), [=](std::int64_t, std::int64_t j) {
    return to_f32(grad[j]) * scale / __builtin_sqrtf(new_moment[j]);
  });
}

bool is_matrix(const TensorDesc& param) { return param.rank >= 2; }

template <class P, class G>
void adafactor_step(const KernelArgs& args) {
  const Decay decay(args.attributes<AdafactorAttrs>(), static_cast<double>(step_of(args, 4)));
  const float scale = scale_of(args, 6);
  if (is_matrix(args.in[0])) {
    adafactor_matrix<P, G>(args, decay, scale);
  } else {
    adafactor_vector<P, G>(args, decay, scale);
  }
}

std::size_t adafactor_workspace(const KernelSpec& spec, const Prepared*) {
  const FactoredSizes z(spec.in[0]);
  const std::int64_t factors = is_matrix(spec.in[0]) ? z.rows + z.columns + z.pieces * z.columns : 0;
  return kMostPieces * sizeof(double) + static_cast<std::size_t>(factors) * sizeof(float);
}

// ---- others ----

template <class P>
void average_step(const KernelArgs& args) {
  const float* const average = data_of(args.in[0]);
  const P* const p = static_cast<const P*>(args.in[1].data);
  float* const next = data_of(args.out[0]);
  const double decay = args.attributes<AverageAttrs>().decay;
  const float keep = static_cast<float>(decay);
  const float rest = static_cast<float>(1 - decay);
  const std::int64_t n = count(args.in[0]);
  parallel_pieces(n, kGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) next[i] = keep * average[i] + rest * to_f32(p[i]);
  });
}

void clip_scale(const KernelArgs& args) {
  double sum = 0;
  for (std::size_t i = 0; i < args.in.size(); ++i) sum += static_cast<double>(*data_of(args.in[i]));
  const double norm = __builtin_sqrt(sum);
  const double ratio = args.attributes<ClipScaleAttrs>().max_norm / (norm + 1e-6);
  *data_of(args.out[0]) = static_cast<float>(ratio >= 1 ? 1 : ratio);
  *data_of(args.out[1]) = static_cast<float>(norm);
}

void loss_scale_step(const KernelArgs& args) {
  const auto& attrs = args.attributes<LossScaleAttrs>();
  double sum = 0;
  for (std::size_t i = 3; i < args.in.size(); ++i) sum += static_cast<double>(*data_of(args.in[i]));
  const double scale = static_cast<double>(*data_of(args.in[0]));
  const std::int64_t good = step_of(args, 1);
  const std::int64_t skipped = step_of(args, 2);
  const bool taken = __builtin_isfinite(sum);
  const double norm = __builtin_sqrt(sum) / scale;
  const double ratio = attrs.max_norm > 0 ? attrs.max_norm / (norm + 1e-6) : 1;
  const bool grows = taken && good + 1 >= attrs.interval;
  double next = scale;
  if (!taken && scale > kLeastLossScale) next = scale / 2;
  if (grows && scale < kMostLossScale) next = scale * 2;
  *data_of(args.out[0]) = taken ? static_cast<float>((ratio >= 1 ? 1 : ratio) / scale) : 0;
  *data_of(args.out[1]) = static_cast<float>(norm);
  *static_cast<std::uint8_t*>(args.out[2].data) = taken ? 1 : 0;
  *data_of(args.out[3]) = static_cast<float>(next);
  *static_cast<std::int64_t*>(args.out[4].data) = taken && !grows ? good + 1 : 0;
  *static_cast<std::int64_t*>(args.out[5].data) = taken ? skipped : skipped + 1;
}

void zero(const KernelArgs& args) {
  const View& out = args.out[0];
  char* bytes = static_cast<char*>(out.data);
  const std::int64_t n = count(out) * static_cast<std::int64_t>(dtype_size(out.dtype));
  parallel_pieces(n, 256 * 1024, n / 4, args.threads, [=](std::int64_t begin, std::int64_t end) {
    __builtin_memset(bytes + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

void run_sgd(const KernelArgs& args) {
  with_types(args, [&](auto p, auto g) { sgd_step<decltype(p), decltype(g)>(args); });
}

void run_adamw(const KernelArgs& args) {
  with_types(args, [&](auto p, auto g) { adamw_step<decltype(p), decltype(g)>(args); });
}

void run_lion(const KernelArgs& args) {
  with_types(args, [&](auto p, auto g) { lion_step<decltype(p), decltype(g)>(args); });
}

void run_adafactor(const KernelArgs& args) {
  with_types(args, [&](auto p, auto g) { adafactor_step<decltype(p), decltype(g)>(args); });
}

void run_average(const KernelArgs& args) {
  with_compute_type(args.in[1].dtype, [&](auto p) { average_step<decltype(p)>(args); });
}

bool computes(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype) && is_compute_type(spec.in[1].dtype); }

bool any_dtype(const KernelSpec&) { return true; }

constexpr KernelEntry kKernels[] = {
    {"sgd_step", computes, run_sgd},
    {"adamw_step", computes, run_adamw},
    {"lion_step", computes, run_lion},
    {"adafactor_step", computes, run_adafactor, nullptr, adafactor_workspace},
    {"average_step", computes, run_average},
    {"clip_scale", any_dtype, clip_scale},
    {"loss_scale_step", any_dtype, loss_scale_step},
    {"zero", any_dtype, zero},
};

}  // namespace

std::span<const KernelEntry> optimizer_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
