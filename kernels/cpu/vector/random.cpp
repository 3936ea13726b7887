// Dropout by counter-based draws (kernels/math/philox.h), sixteen counters at a time.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/math/philox.h"
#include "trivet/kernels/attrs_random.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr int kCounters = 16;
constexpr std::int64_t kBlock = 4 * kCounters;  // elements whose bits are drawn together
constexpr std::int64_t kChunk = 64 * kBlock;    // elements of one piece of work

// One round of math::philox on one counter, written with its words apart so that counters fill vector lanes.
struct Words {
  std::uint32_t c0, c1, c2, c3, k0, k1;

  [[gnu::always_inline]] void round() {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
};

// bits[4 * j + i] = philox(key, sample, first + j).v[i]
[[gnu::always_inline]] inline void draw(std::uint64_t key, std::uint64_t sample, std::uint64_t first,
                                        std::uint32_t* __restrict bits) {
#pragma omp simd
  for (int j = 0; j < kCounters; ++j) {
    const std::uint64_t counter = first + static_cast<std::uint64_t>(j);
    Words w{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
            static_cast<std::uint32_t>(sample),  static_cast<std::uint32_t>(sample >> 32),
            static_cast<std::uint32_t>(key),     static_cast<std::uint32_t>(key >> 32)};
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    w.round();
    bits[4 * j] = w.c0;
    bits[4 * j + 1] = w.c1;
    bits[4 * j + 2] = w.c2;
    bits[4 * j + 3] = w.c3;
  }
}

// Elements [begin, end) of one sample, which x and y point to; begin is a multiple of 4. y may be x.
[[gnu::always_inline]] inline void drop_elements(std::uint64_t key, std::uint64_t sample, std::int64_t begin,
                                                 std::int64_t end, std::uint32_t last_kept, float scale, const float* x,
                                                 float* y) {
  std::uint32_t bits[kBlock];
  for (std::int64_t e = begin; e < end; e += kBlock) {
    draw(key, sample, static_cast<std::uint64_t>(e) / 4, bits);
    if (end - e >= kBlock) {
#pragma omp simd
      for (std::int64_t i = 0; i < kBlock; ++i) y[e + i] = bits[i] <= last_kept ? x[e + i] * scale : 0.0f;
    } else {
      for (std::int64_t i = 0; i < end - e; ++i) y[e + i] = bits[i] <= last_kept ? x[e + i] * scale : 0.0f;
    }
  }
}

// Flattened, so that no copy of philox.h's functions is left for the linker to share among instruction sets.
[[gnu::flatten]] void dropout(const KernelArgs& args) {
  const View& in = args.in[0];
  const auto& attrs = args.attributes<DropoutAttrs>();
  const float* x = static_cast<const float*>(in.data);
  float* y = static_cast<float*>(args.out[0].data);
  const std::int64_t step = *static_cast<const std::int64_t*>(args.in[1].data);
  const std::int64_t* sample = static_cast<const std::int64_t*>(args.in[2].data);
  const std::uint64_t key =
      math::mix_key(math::mix_key(static_cast<std::uint64_t>(attrs.seed), static_cast<std::uint64_t>(attrs.op)),
                    static_cast<std::uint64_t>(step));
  const std::int64_t threshold = static_cast<std::int64_t>((1 - attrs.rate) * 0x1p32 + 0.5);
  const std::uint32_t last_kept = threshold < 1 ? 0 : static_cast<std::uint32_t>(threshold - 1);
  const float scale = static_cast<float>(1 / (1 - attrs.rate));

  const std::int64_t batch = in.shape[0];
  std::int64_t size = 1;  // elements of a sample
  for (int i = 1; i < in.rank; ++i) size *= in.shape[i];
  if (size == 0) return;
  const std::int64_t chunks = (size + kChunk - 1) / kChunk;
  const std::int64_t grain = chunks > 1 ? 1 : kChunk / size;
  parallel_pieces(batch * chunks, grain, batch * size, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b = i / chunks;
      const std::int64_t first = i % chunks * kChunk;
      drop_elements(key, static_cast<std::uint64_t>(sample[b]), first, first + kChunk < size ? first + kChunk : size,
                    last_kept, scale, x + b * size, y + b * size);
    }
  });
}

bool is_supported(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::f32 && spec.in[1].dtype == DType::i64 && spec.in[2].dtype == DType::i64;
}

// The gradient has the same mask and scale as the value.
constexpr KernelEntry kKernels[] = {
    {"dropout", is_supported, dropout},
    {"dropout_backward", is_supported, dropout},
};

}  // namespace

std::span<const KernelEntry> random_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
