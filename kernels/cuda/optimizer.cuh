// Optimizer steps. Bound: the parameter, its gradient and its states read once, the parameter and the states written
// once. The gradient's scale, the rate and the step number are read from memory, where the step before wrote them.
// Outputs may be written over their inputs.
#pragma once

#include <type_traits>

#include "kernels/cuda/rows.cuh"
#include "kernels/math/philox.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet::kernels::cuda {

// How new bf16 parameters are rounded: element i takes half i % 2 of the words that Philox gives for counter i / 8.
struct Rounding {
  bool stochastic;
  std::uint64_t key;  // of the seed and the op
};

TRIVET_DEVICE BFloat16 round_randomly(float x, std::uint32_t random) {
  const std::uint32_t bits = float_to_bits(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return narrow<BFloat16>(x);
  return {static_cast<std::uint16_t>((bits + (random & 0xffffu)) >> 16)};
}

// A step's constants that depend on numbers in memory: computed by one thread for its block.
struct SgdRule {
  const float* rate;
  const float* scale;        // of the gradient; or null
  const std::int64_t* step;  // or null
  float momentum;
  float decay;
  bool nesterov;

  static constexpr int kStates = 1;
  struct Constants {
    float rate;
    float scale;
  };
  TRIVET_DEVICE Constants constants() const { return {*rate, scale != nullptr ? *scale : 1.0f}; }
  TRIVET_DEVICE float operator()(const Constants& c, float p, float grad, float (&state)[1]) const {
    const float g = grad * c.scale + decay * p;
    state[0] = momentum * state[0] + g;
    return p - c.rate * (nesterov ? g + momentum * state[0] : state[0]);
  }
};

struct AdamWRule {
  const float* rate;
  const float* scale;
  const std::int64_t* step;
  float beta1, beta2, rest1, rest2;
  double log_beta1, log_beta2;
  float epsilon;
  double decay;

  static constexpr int kStates = 2;
  struct Constants {
    float scale;
    float keep;
    float rate;        // over the first moment's bias
    float root_scale;  // over the root of the second one's
  };
  // In double: at the first steps 1 - beta2^step is as small as 0.001.
  TRIVET_DEVICE Constants constants() const {
    const double lr = static_cast<double>(*rate);
    const double t = static_cast<double>(*step);
    return {scale != nullptr ? *scale : 1.0f, static_cast<float>(1 - lr * decay),
            static_cast<float>(lr / -expm1(t * log_beta1)), static_cast<float>(1 / sqrt(-expm1(t * log_beta2)))};
  }
  TRIVET_DEVICE float operator()(const Constants& c, float p, float grad, float (&state)[2]) const {
    const float g = grad * c.scale;
    state[0] = beta1 * state[0] + rest1 * g;
    state[1] = beta2 * state[1] + rest2 * (g * g);
    return c.keep * p - c.rate * state[0] / (sqrtf(state[1]) * c.root_scale + epsilon);
  }
};

struct LionRule {
  const float* rate;
  const float* scale;
  const std::int64_t* step;
  float beta1, beta2, rest1, rest2;
  double decay;

  static constexpr int kStates = 1;
  struct Constants {
    float scale;
    float keep;
    float rate;
  };
  TRIVET_DEVICE Constants constants() const {
    const float lr = *rate;
    return {scale != nullptr ? *scale : 1.0f, static_cast<float>(1 - static_cast<double>(lr) * decay), lr};
  }
  TRIVET_DEVICE float operator()(const Constants& c, float p, float grad, float (&state)[1]) const {
    const float g = grad * c.scale;
    const float direction = beta1 * state[0] + rest1 * g;
    state[0] = beta2 * state[0] + rest2 * g;
    const float sign = direction > 0.0f ? 1.0f : direction < 0.0f ? -1.0f : direction;  // NaN and 0 stay
    return c.keep * p - c.rate * sign;
  }
};

// Pointers to the states of a rule.
template <int kStates>
struct States {
  const float* from[kStates];
  float* to[kStates];
};

inline constexpr int kUpdate = 8;  // elements of a thread: those that share one counter of random bits

// One element.
template <class P, class G, class Rule>
TRIVET_DEVICE float update(const P* p, const G* grad, const States<Rule::kStates>& states, const Rule& rule,
                           const typename Rule::Constants& constants, std::int64_t i) {
  float state[Rule::kStates];
  TRIVET_UNROLL
  for (int s = 0; s < Rule::kStates; ++s) state[s] = states.from[s][i];
  const float next = rule(constants, widen(p[i]), widen(grad[i]), state);
  TRIVET_UNROLL
  for (int s = 0; s < Rule::kStates; ++s) states.to[s][i] = state[s];
  return next;
}

// Eight elements at once.
template <class P, class G, class Rule>
TRIVET_DEVICE void update_pack(const P* p, const G* grad, const States<Rule::kStates>& states, const Rule& rule,
                               const typename Rule::Constants& constants, std::int64_t first, float (&next)[kUpdate]) {
  float g[kUpdate], state[Rule::kStates][kUpdate];
  load_floats(p + first, next);
  load_floats(grad + first, g);
  TRIVET_UNROLL
  for (int s = 0; s < Rule::kStates; ++s) load_floats(states.from[s] + first, state[s]);
  TRIVET_UNROLL
  for (int k = 0; k < kUpdate; ++k) {
    float mine[Rule::kStates];
    TRIVET_UNROLL
    for (int s = 0; s < Rule::kStates; ++s) mine[s] = state[s][k];
    next[k] = rule(constants, next[k], g[k], mine);
    TRIVET_UNROLL
    for (int s = 0; s < Rule::kStates; ++s) state[s][k] = mine[s];
  }
  TRIVET_UNROLL
  for (int s = 0; s < Rule::kStates; ++s) store_floats(states.to[s] + first, state[s]);
}

template <class P>
TRIVET_DEVICE P rounded(float x, const math::Philox4& random, int k, bool stochastic) {
  if constexpr (sizeof(P) == 2 && !std::is_same_v<P, Float16>) {
    const std::uint32_t word = random.v[k / 2];
    if (stochastic) return round_randomly(x, k % 2 == 0 ? word : word >> 16);
  }
  return narrow<P>(x);
}

template <class P, class G, class Rule>
__global__ void __launch_bounds__(kBlock, 2)
    update_kernel(const P* p, const G* grad, P* new_p, States<Rule::kStates> states, std::int64_t n, bool packed,
                  Rule rule, Rounding rounding) {
  TRIVET_SHARED(typename Rule::Constants, of_block, 1);
  if (threadIdx.x == 0) of_block[0] = rule.constants();
  __syncthreads();
  const typename Rule::Constants constants = of_block[0];
  const std::uint64_t key =
      math::mix_key(rounding.key, static_cast<std::uint64_t>(rule.step != nullptr ? *rule.step : 0));
  for (std::int64_t i = global_thread(); i * kUpdate < n; i += global_threads()) {
    const std::int64_t first = i * kUpdate;
    math::Philox4 random{};
    if (rounding.stochastic) random = math::philox(key, 0, static_cast<std::uint64_t>(i));
    if (packed && first + kUpdate <= n) {
      float next[kUpdate];
      update_pack(p, grad, states, rule, constants, first, next);
      Pack<P, kUpdate> out;
      TRIVET_UNROLL
      for (int k = 0; k < kUpdate; ++k) out.v[k] = rounded<P>(next[k], random, k, rounding.stochastic);
      constexpr int kN = kUpdate < kPack<P> ? kUpdate : kPack<P>;
      TRIVET_UNROLL
      for (int k = 0; k < kUpdate; k += kN) {
        Pack<P, kN> part;
        TRIVET_UNROLL
        for (int j = 0; j < kN; ++j) part.v[j] = out.v[k + j];
        store_pack(new_p + first + k, part);
      }
    } else {
      TRIVET_UNROLL
      for (int k = 0; k < kUpdate; ++k) {
        if (first + k >= n) break;
        const float next = update(p, grad, states, rule, constants, first + k);
        new_p[first + k] = rounded<P>(next, random, k, rounding.stochastic);
      }
    }
  }
}

// The running average of a parameter.
template <int N, class P>
__global__ void __launch_bounds__(kBlock, 2)
    average_kernel(const float* average, const P* p, float* next, std::int64_t packs, float keep, float rest) {
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) {
    float old[N], value[N];
    load_floats(average + i * N, old);
    load_floats(p + i * N, value);
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) old[k] = keep * old[k] + rest * value[k];
    store_floats(next + i * N, old);
  }
}

template <int N>
__global__ void __launch_bounds__(kBlock, 2) zero_kernel(unsigned char* bytes, std::int64_t packs) {
  const Pack<unsigned char, N> zeros{};
  for (std::int64_t i = global_thread(); i < packs; i += global_threads()) store_pack(bytes + i * N, zeros);
}

// Squared norms of clip_scale that one launch takes as arguments.
inline constexpr int kMostNorms = 256;
struct Norms {
  const float* v[kMostNorms];
  int count;
};

// What loss_scale_step reads and writes.
struct LossScale {
  const float* scale;
  const std::int64_t* good_steps;
  const std::int64_t* skipped_steps;
  float* factor;
  float* norm;
  std::uint8_t* taken;
  float* next_scale;
  std::int64_t* next_good_steps;
  std::int64_t* next_skipped_steps;
  double max_norm;
  std::int64_t interval;

  // `sum`: of all squared norms. Outputs may be written over their inputs.
  TRIVET_DEVICE void finish(double sum) const {
    const double old = static_cast<double>(*scale);
    const std::int64_t good = *good_steps;
    const std::int64_t skipped = *skipped_steps;
    const bool is_finite = sum - sum == 0;
    const double root = sqrt(sum) / old;
    const double ratio = max_norm > 0 ? max_norm / (root + 1e-6) : 1;
    const bool grows = is_finite && good + 1 >= interval;
    double next = old;
    if (!is_finite && old > kLeastLossScale) next = old / 2;
    if (grows && old < kMostLossScale) next = old * 2;
    *factor = is_finite ? static_cast<float>((ratio >= 1 ? 1 : ratio) / old) : 0.0f;
    *norm = static_cast<float>(root);
    *taken = is_finite ? 1 : 0;
    *next_scale = static_cast<float>(next);
    *next_good_steps = is_finite && !grows ? good + 1 : 0;
    *next_skipped_steps = is_finite ? skipped : skipped + 1;
  }
};

}  // namespace trivet::kernels::cuda
