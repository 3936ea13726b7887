// Rotary position embedding. The angles of a few positions are computed once and used for all heads.
#include <omp.h>

#include "kernels/cpu/vector/attention.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_products.h"
#include "trivet/kernels/attrs_attention.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kPositions = 16;  // whose angles are computed together

// cos and sin of 2 pi turns. The reduction in double keeps the angle's error below 1e-7 up to 10^8 turns.
[[gnu::always_inline]] inline void turn(double turns, float* cosine, float* sine) {
  constexpr double kRound = 6755399441055744.0;  // adding it leaves an integer in the low bits
  const double shifted = turns * 4.0 + kRound;
  const auto quadrant = static_cast<std::uint32_t>(__builtin_bit_cast(std::uint64_t, shifted));
  const float x = static_cast<float>((turns - (shifted - kRound) * 0.25) * 6.283185307179586);
  const float square = x * x;
  // Taylor series; the next terms are below 2e-9 for |x| <= pi / 4.
  float s = 2.75573192e-6f;
  s = s * square - 1.98412698e-4f;
  s = s * square + 8.33333333e-3f;
  s = s * square - 0.166666667f;
  s = s * square * x + x;
  float c = -2.75573192e-7f;
  c = c * square + 2.48015873e-5f;
  c = c * square - 1.38888889e-3f;
  c = c * square + 4.16666667e-2f;
  c = c * square - 0.5f;
  c = c * square + 1.0f;
  const bool swap = (quadrant & 1u) != 0;
  const std::uint32_t sine_sign = (quadrant & 2u) << 30;
  const std::uint32_t cosine_sign = ((quadrant + 1u) & 2u) << 30;
  *sine = __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, swap ? c : s) ^ sine_sign);
  *cosine = __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, swap ? s : c) ^ cosine_sign);
}

// Where angles come from.
struct Angles {
  std::int64_t half;
  std::int64_t steps;             // T
  const std::int64_t* positions;  // null: rows of the tables by sample and step
  bool positions_of_samples;      // (B, T), not (T)
  const float* cosines;           // null: computed from frequencies
  const float* sines;
  std::int64_t rows;          // of the tables
  const double* frequencies;  // turns for each position

  void row(std::int64_t b, std::int64_t t, float* cosine, float* sine) const {
    const std::int64_t at = b * steps + t;
    const std::int64_t position = positions == nullptr ? at : positions[positions_of_samples ? at : t];
    if (cosines == nullptr) {
      const double p = static_cast<double>(position);
#pragma omp simd
      for (std::int64_t i = 0; i < half; ++i) turn(p * frequencies[i], cosine + i, sine + i);
    } else if (position >= 0 && position < rows) {
      load_row(cosines + position * half, half, cosine);
      load_row(sines + position * half, half, sine);
    } else {
      for (std::int64_t i = 0; i < half; ++i) cosine[i] = sine[i] = __builtin_nanf("");
    }
  }
};

template <class T, bool kInterleaved>
void turn_row(const T* x, std::int64_t half, std::int64_t width, const float* cosine, const float* sine, float sign,
              T* y) {
  constexpr std::int64_t kStep = kInterleaved ? 2 : 1;
  const std::int64_t other = kInterleaved ? 1 : half;
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const float a = to_f32(x[i * kStep]);
    const float b = to_f32(x[i * kStep + other]);
    const float s = sign * sine[i];
    y[i * kStep] = from_f32<T>(a * cosine[i] - b * s);
    y[i * kStep + other] = from_f32<T>(b * cosine[i] + a * s);
  }
  if (x == y) return;
  for (std::int64_t i = 2 * half; i < width; ++i) y[i] = x[i];
}

std::int64_t half_of(const TensorDesc& x, const RotaryEmbeddingAttrs& attrs) {
  return (attrs.rotary_embedding_dim == 0 ? x.shape[3] : attrs.rotary_embedding_dim) / 2;
}

template <class T, bool kInterleaved>
void rotary_embedding(const KernelArgs& args, float sign) {
  const auto& attrs = args.attributes<RotaryEmbeddingAttrs>();
  const View& x = args.in[0];
  const std::int64_t heads = x.shape[1];
  const std::int64_t steps = x.shape[2];
  const std::int64_t width = x.shape[3];
  const std::int64_t half = half_of(x, attrs);
  double* const frequencies = static_cast<double*>(args.workspace);
  float* const scratch = reinterpret_cast<float*>(frequencies + half);
  const Angles angles{half,
                      steps,
                      optional_input<std::int64_t>(args, 1),
                      args.in.size() > 1 && args.in[1].rank == 2,
                      optional_input<float>(args, 2),
                      optional_input<float>(args, 3),
                      args.in.size() > 2 && args.in[2].rank == 2 ? args.in[2].shape[0] : x.shape[0] * steps,
                      frequencies};
  for (std::int64_t i = 0; i < half; ++i) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(half);
    frequencies[i] = __builtin_pow(attrs.base, exponent) * 0.15915494309189535;
  }
  const T* const from = static_cast<const T*>(x.data);
  T* const to = static_cast<T*>(args.out[0].data);
  const std::int64_t parts = (steps + kPositions - 1) / kPositions;
  parallel_pieces(x.shape[0] * parts, 1, x.shape[0] * heads * steps * width, args.threads,
                  [&](std::int64_t begin, std::int64_t end) {
                    float* const cosines = scratch + omp_get_thread_num() * 2 * kPositions * half;
                    float* const sines = cosines + kPositions * half;
                    for (std::int64_t part = begin; part < end; ++part) {
                      const std::int64_t b = part / parts;
                      const std::int64_t first = part % parts * kPositions;
                      const std::int64_t count = steps - first < kPositions ? steps - first : kPositions;
                      for (std::int64_t i = 0; i < count; ++i)
                        angles.row(b, first + i, cosines + i * half, sines + i * half);
                      for (std::int64_t h = 0; h < heads; ++h) {
                        const std::int64_t row = (b * heads + h) * steps + first;
                        for (std::int64_t i = 0; i < count; ++i) {
                          turn_row<T, kInterleaved>(from + (row + i) * width, half, width, cosines + i * half,
                                                    sines + i * half, sign, to + (row + i) * width);
                        }
                      }
                    }
                  });
}

void run(const KernelArgs& args, float sign) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    if (args.attributes<RotaryEmbeddingAttrs>().interleaved) {
      rotary_embedding<T, true>(args, sign);
    } else {
      rotary_embedding<T, false>(args, sign);
    }
  });
}

}  // namespace

void run_rotary_embedding(const KernelArgs& args) { run(args, 1.0f); }

void run_rotary_embedding_backward(const KernelArgs& args) { run(args, -1.0f); }

std::size_t rotary_embedding_workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t half = half_of(spec.in[0], spec.attributes<RotaryEmbeddingAttrs>());
  return static_cast<std::size_t>(half) *
         (sizeof(double) + static_cast<std::size_t>(spec.threads) * 2 * kPositions * sizeof(float));
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
