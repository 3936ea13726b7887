// Reductions in plain loops, for the dtypes and ops of which no model needs many: integers and products.
#pragma once

#include "kernels/cpu/vector/row_loop.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_reduction.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#define TRIVET_INLINE [[gnu::always_inline]] inline

TRIVET_INLINE void split_dimensions(const TensorDesc& x, const ReduceAttrs& attrs, RowLoop<1>& kept,
                                    RowLoop<1>& reduced) {
  bool is_reduced[kMaxRank];
  reduced_dimensions(attrs, x.rank, is_reduced);
  std::int64_t stride = element_count(x);
  for (int d = 0; d < x.rank; ++d) {
    stride = x.shape[d] == 0 ? 0 : stride / x.shape[d];
    (is_reduced[d] ? reduced : kept).add_dimension(x.shape[d], {stride});
  }
}

// What joins an accumulator with one more element. Integers wrap around.
TRIVET_INLINE std::int64_t wrap(std::uint64_t x) { return static_cast<std::int64_t>(x); }

struct PlainSum {
  static constexpr bool kBytes = false;  // whether u8 and i8 are reduced, too
  static constexpr std::int64_t kStart = 0;
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) {
    return wrap(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(x));
  }
};
struct PlainSumOfMagnitudes : PlainSum {
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) {
    const auto magnitude = x < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(x);
    return wrap(static_cast<std::uint64_t>(a) + magnitude);
  }
};
struct PlainSumOfSquares : PlainSum {
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) {
    return wrap(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(x));
  }
};
struct PlainMax {
  static constexpr bool kBytes = true;
  static constexpr std::int64_t kStart = INT64_MIN;
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) { return x > a ? x : a; }
};
struct PlainMin {
  static constexpr bool kBytes = true;
  static constexpr std::int64_t kStart = INT64_MAX;
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) { return x < a ? x : a; }
};
struct PlainProduct {
  static constexpr bool kBytes = false;
  static constexpr std::int64_t kStart = 1;
  TRIVET_INLINE static std::int64_t step(std::int64_t a, std::int64_t x) {
    return wrap(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(x));
  }
  // In float64: a product leaves float32's range long before its result does.
  TRIVET_INLINE static double step(double a, double x) { return a * x; }
};

TRIVET_INLINE double accumulated(float x) { return static_cast<double>(x); }
TRIVET_INLINE double accumulated(BFloat16 x) { return static_cast<double>(to_f32(x)); }
template <class T>
TRIVET_INLINE std::int64_t accumulated(T x) {
  return std::int64_t{x};
}
template <class T>
TRIVET_INLINE T rounded(double x) {
  return from_f32<T>(static_cast<float>(x));
}
template <class T>
TRIVET_INLINE T rounded(std::int64_t x) {
  return static_cast<T>(x);
}

// Up to kOutputs neighbouring outputs at a time, each by itself in the order of its elements.
template <class Op, class T>
void reduce_plain(const KernelArgs& args) {
  using Total = decltype(accumulated(T{}));
  constexpr std::int64_t kOutputs = 64;
  RowLoop<1> kept;
  RowLoop<1> reduced;
  split_dimensions(args.in[0], args.attributes<ReduceAttrs>(), kept, reduced);
  if (kept.elements() == 0) return;
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  const std::int64_t width = kept.rank() == 0 ? 1 : kept.size(kept.rank() - 1);
  const std::int64_t across = (width + kOutputs - 1) / kOutputs;
  const std::int64_t run = reduced.rank() == 0 ? 1 : reduced.size(reduced.rank() - 1);
  const std::int64_t rows = reduced.elements() == 0 ? 0 : reduced.elements() / run;
  const std::int64_t along = kept.inner_stride(0);
  const std::int64_t down = reduced.inner_stride(0);
  const std::int64_t unit_elements = (reduced.elements() + 1) * (width < kOutputs ? width : kOutputs);
  parallel_pieces(kept.elements() / width * across, unit_elements < 8192 ? 8192 / unit_elements : 1,
                  element_count(args.in[0]), args.threads, [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t unit = begin; unit < end; ++unit) {
                      std::int64_t index[kMaxRank];
                      std::int64_t first[1];
                      kept.seek(unit / across, kept.rank() - 1, index, first);
                      const std::int64_t column = unit % across * kOutputs;
                      const std::int64_t n = width - column < kOutputs ? width - column : kOutputs;
                      Total totals[kOutputs];
                      for (std::int64_t j = 0; j < n; ++j) totals[j] = static_cast<Total>(Op::kStart);
                      std::int64_t offset[1];
                      reduced.seek(0, reduced.rank() - 1, index, offset);
                      for (std::int64_t r = 0; r < rows; ++r) {
                        const T* row = x + first[0] + column * along + offset[0];
                        for (std::int64_t k = 0; k < run; ++k, row += down) {
                          for (std::int64_t j = 0; j < n; ++j) {
                            totals[j] = Op::step(totals[j], accumulated(row[j * along]));
                          }
                        }
                        reduced.advance(reduced.rank() - 1, index, offset);
                      }
                      T* const to = y + unit / across * width + column;
                      for (std::int64_t j = 0; j < n; ++j) to[j] = rounded<T>(totals[j]);
                    }
                  });
}

template <class Op>
void reduce_integers(const KernelArgs& args) {
  const DType type = args.in[0].dtype;
  if constexpr (Op::kBytes) {
    if (type == DType::u8) return reduce_plain<Op, std::uint8_t>(args);
    if (type == DType::i8) return reduce_plain<Op, std::int8_t>(args);
  }
  if (type == DType::i32) return reduce_plain<Op, std::int32_t>(args);
  reduce_plain<Op, std::int64_t>(args);
}

inline void run_product(const KernelArgs& args) {
  if (args.in[0].dtype == DType::f32) return reduce_plain<PlainProduct, float>(args);
  if (args.in[0].dtype == DType::bf16) return reduce_plain<PlainProduct, BFloat16>(args);
  reduce_integers<PlainProduct>(args);
}

// Bytes of n floats, up to the next multiple of 64.
TRIVET_INLINE std::size_t aligned_floats(std::int64_t n) {
  return (static_cast<std::size_t>(n) * sizeof(float) + 63) / 64 * 64;
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
