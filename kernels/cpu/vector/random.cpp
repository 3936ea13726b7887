// Dropout and random tensors by counter-based draws (kernels/math/philox.h), many counters at a time.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/philox_block.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/vector_math.h"
#include "kernels/cpu/vector/vector_trigonometry.h"
#include "kernels/math/philox.h"
#include "trivet/kernels/attrs_random.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

constexpr std::int64_t kBlock = kPhiloxWords;  // elements whose bits are drawn together
constexpr std::int64_t kChunk = 64 * kBlock;   // elements of one piece of work

// --- the loop over samples ---

struct Draws {
  std::uint64_t key;
  const std::int64_t* samples;  // null: 0, 1, ...
  std::int64_t batch;
  std::int64_t size;  // elements of a sample
};

// Flattened, so that no copy of philox.h's functions is left for the linker to share among instruction sets.
[[gnu::flatten]] Draws draws_of(const View& tensor, std::int64_t seed, std::int64_t op, const View& step,
                                const std::int64_t* samples) {
  const std::uint64_t layer = math::mix_key(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(op));
  const std::uint64_t t = static_cast<std::uint64_t>(*static_cast<const std::int64_t*>(step.data));
  std::int64_t size = 1;
  for (int i = 1; i < tensor.rank; ++i) size *= tensor.shape[i];
  return {math::mix_key(layer, t), samples, tensor.shape[0], size};
}

// Calls f(bits, begin, n) for blocks of n <= kBlock elements, beginning at element `begin` of the tensor.
template <class F>
TRIVET_INLINE void for_each_block(const Draws& draws, int threads, const F& f) {
  const std::int64_t size = draws.size;
  if (size == 0) return;
  const std::int64_t chunks = (size + kChunk - 1) / kChunk;
  const std::int64_t grain = chunks > 1 ? 1 : kChunk / size;
  parallel_pieces(draws.batch * chunks, grain, draws.batch * size, threads, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = i / chunks;
      const auto sample = static_cast<std::uint64_t>(draws.samples ? draws.samples[b] : b);
      const std::int64_t first = i % chunks * kChunk;
      const std::int64_t last = first + kChunk < size ? first + kChunk : size;
      for (std::int64_t e = first; e < last; e += kBlock) {
        alignas(64) std::uint32_t bits[kBlock];
        philox_block(draws.key, sample, static_cast<std::uint64_t>(e) / 4, bits);
        f(bits, b * size + e, last - e < kBlock ? last - e : kBlock);
      }
    }
  });
}

// --- dropout ---

// Samples of so many elements or fewer are drawn several together: each by itself would use half a block at most.
constexpr std::int64_t kSmallSample = kBlock / 2;

// for_each_block with the elements of several samples in a block, for samples [begin, end).
template <class F>
TRIVET_INLINE void for_each_shared_block(const Draws& draws, std::int64_t begin, std::int64_t end, const F& f) {
  const std::int64_t counters = (draws.size + 3) / 4;  // of a sample
  std::int64_t b = begin;
  std::int64_t counter = 0;
  std::int64_t written = begin * draws.size;
  while (b < end) {
    std::uint64_t high[kPhiloxCounters] = {};
    std::uint64_t low[kPhiloxCounters] = {};
    std::int64_t kept[kPhiloxCounters] = {};  // words of each counter
    for (int j = 0; j < kPhiloxCounters && b < end; ++j) {
      high[j] = static_cast<std::uint64_t>(draws.samples ? draws.samples[b] : b);
      low[j] = static_cast<std::uint64_t>(counter);
      const std::int64_t left = draws.size - 4 * counter;
      kept[j] = left < 4 ? left : 4;
      if (++counter == counters) {
        counter = 0;
        ++b;
      }
    }
    alignas(64) std::uint32_t drawn[kBlock];
    alignas(64) std::uint32_t bits[kBlock + 4];
    philox_block(draws.key, high, low, drawn);
    std::int64_t n = 0;
    for (int j = 0; j < kPhiloxCounters; ++j) {  // the next counter's words overwrite what is too many
      __builtin_memcpy(bits + n, drawn + 4 * j, 4 * sizeof(std::uint32_t));
      n += kept[j];
    }
    f(bits, written, n);
    written += n;
  }
}

template <class T>
TRIVET_INLINE void drop_elements(const std::uint32_t* bits, std::int64_t n, std::uint32_t last_kept, float scale,
                                 const T* x, T* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = from_f32<T>(detail::select(bits[i] <= last_kept, to_f32(x[i]) * scale, 0.0f));
}

template <class T>
void dropout(const KernelArgs& args) {
  const auto& attrs = args.attributes<DropoutAttrs>();
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  const std::int64_t threshold = static_cast<std::int64_t>((1 - attrs.rate) * 0x1p32 + 0.5);
  const std::uint32_t last_kept = threshold < 1 ? 0 : static_cast<std::uint32_t>(threshold - 1);
  const float scale = static_cast<float>(1 / (1 - attrs.rate));
  const Draws draws = draws_of(args.in[0], attrs.seed, attrs.op, args.in[1], args.in[2].as<const std::int64_t>());
  const auto drop = [=](const std::uint32_t* bits, std::int64_t begin, std::int64_t n) {
    if (n == kBlock) {
      drop_elements(bits, kBlock, last_kept, scale, x + begin, y + begin);
    } else {
      drop_elements(bits, n, last_kept, scale, x + begin, y + begin);
    }
  };
  if (draws.size > kSmallSample) return for_each_block(draws, args.threads, drop);
  if (draws.size == 0) return;
  parallel_pieces(draws.batch, kChunk / draws.size, draws.batch * draws.size, args.threads,
                  [=](std::int64_t begin, std::int64_t end) { for_each_shared_block(draws, begin, end, drop); });
}

void run_dropout(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) { dropout<decltype(element)>(args); });
}

// --- random tensors ---

// Writes f(bits, values) for every block, where f fills all kBlock values.
template <class F>
void run_draw(const KernelArgs& args, const DrawAttrs& attrs, const F f) {
  const View& out = args.out[0];
  const std::int64_t* samples = args.in.size() > 1 ? args.in[1].as<const std::int64_t>() : nullptr;
  const Draws draws = draws_of(out, attrs.seed, attrs.op, args.in[0], samples);
  with_compute_type(out.dtype, [&](auto element) {
    using T = decltype(element);
    T* const y = out.as<T>();
    for_each_block(draws, args.threads, [=](const std::uint32_t* bits, std::int64_t begin, std::int64_t n) {
      alignas(64) float values[kBlock];
      f(bits, values);
      T* const to = y + begin;
#pragma omp simd
      for (std::int64_t i = 0; i < n; ++i) to[i] = from_f32<T>(values[i]);
    });
  });
}

// The upper 24 bits of a word, which a float holds exactly.
TRIVET_INLINE std::int32_t upper_bits(std::uint32_t word) { return static_cast<std::int32_t>(word >> 8); }

void run_random_uniform(const KernelArgs& args) {
  const auto& attrs = args.attributes<RandomUniformAttrs>();
  const auto low = static_cast<float>(attrs.low);
  const auto width = static_cast<float>(attrs.high - attrs.low);
  run_draw(args, attrs, [=](const std::uint32_t* bits, float* values) {
#pragma omp simd
    for (std::int64_t i = 0; i < kBlock; ++i) {
      values[i] = low + width * (static_cast<float>(upper_bits(bits[i])) * 0x1p-24f);
    }
  });
}

void run_random_normal(const KernelArgs& args) {
  const auto& attrs = args.attributes<RandomNormalAttrs>();
  const auto mean = static_cast<float>(attrs.mean);
  const auto scale = static_cast<float>(attrs.scale);
  run_draw(args, attrs, [=](const std::uint32_t* bits, float* values) {
#pragma omp simd
    for (std::int64_t i = 0; i < kBlock; i += 2) {
      const float u = static_cast<float>(upper_bits(bits[i]) + 1) * 0x1p-24f;
      const float radius = scale * __builtin_sqrtf(-2.0f * detail::log_normal_range(u));
      // To the nearest quarter turn, exactly, and the rest in radians.
      const std::int32_t turn = upper_bits(bits[i + 1]);
      const std::int32_t quadrant = (turn + (1 << 21)) >> 22;
      const float r = static_cast<float>(turn - quadrant * (1 << 22)) * (1.57079637f * 0x1p-22f);
      values[i] = mean + radius * cos_of({static_cast<std::uint32_t>(quadrant), r});
      values[i + 1] = mean + radius * sin_of({static_cast<std::uint32_t>(quadrant), r});
    }
  });
}

bool dropout_types(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == spec.in[0].dtype && spec.in[1].dtype == DType::i64 &&
         spec.in[2].dtype == DType::i64;
}

bool draw_types(const KernelSpec& spec) { return is_compute_type(spec.out[0].dtype); }

// The gradient has the same mask and scale as the value.
constexpr KernelEntry kTable[] = {
    {"dropout", dropout_types, run_dropout},
    {"dropout_backward", dropout_types, run_dropout},
    {"random_uniform", draw_types, run_random_uniform},
    {"random_normal", draw_types, run_random_normal},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> random_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
