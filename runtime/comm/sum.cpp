#include "runtime/comm/sum.h"

#include <cstring>
#include <type_traits>

#include "kernels/math/small_float.h"
#include "trivet/base/error.h"
#include "trivet/base/types.h"

namespace trivet::comm {
namespace {

using kernels::BFloat16;

constexpr std::int64_t kBlock = 1024;  // elements: a few blocks stay in the level-1 cache
constexpr int kMaxDepth = 12;          // partial sums of 2^11 ranks and more

template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

template <class T>
T add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <ReduceOp op, class T>
[[gnu::always_inline]] inline T combine(T a, T b) {
  if constexpr (op == ReduceOp::sum) return add(a, b);
  // A NaN in `a` is unequal to itself, one in `b` loses no comparison.
  if constexpr (op == ReduceOp::max) return a > b || a != a ? a : b;
  if constexpr (op == ReduceOp::min) return a < b || a != a ? a : b;
}

template <class T>
[[gnu::always_inline]] inline Accumulator<T> widen(T x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return kernels::to_f32(x);
  } else {
    return x;
  }
}

template <class T>
[[gnu::always_inline]] inline T narrow(Accumulator<T> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return kernels::from_f32<BFloat16>(x);
  } else {
    return x;
  }
}

template <ReduceOp op, class T>
void pair(T* target, const T* a, const T* b, std::int64_t n) {
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) target[i] = narrow<T>(combine<op>(widen(a[i]), widen(b[i])));
}

// A block of the tree. Sums of 2^k sources wait on a stack until their neighbour is there.
template <ReduceOp op, class T>
void block(T* target, std::span<const void* const> sources, std::int64_t begin, std::int64_t n) {
  using A = Accumulator<T>;
  A stack[kMaxDepth][kBlock];
  int depth = 0;
  const auto fold = [&] {
    --depth;
    A* into = stack[depth - 1];
    const A* from = stack[depth];
    for (std::int64_t i = 0; i < n; ++i) into[i] = combine<op>(into[i], from[i]);
  };
  for (std::size_t s = 0; s < sources.size(); ++s) {
    const T* source = static_cast<const T*>(sources[s]) + begin;
    A* top = stack[depth++];
    for (std::int64_t i = 0; i < n; ++i) top[i] = widen(source[i]);
    for (std::size_t full = s + 1; full % 2 == 0; full /= 2) fold();
  }
  while (depth > 1) fold();
  for (std::int64_t i = 0; i < n; ++i) target[begin + i] = narrow<T>(stack[0][i]);
}

template <ReduceOp op, class T>
void reduce(T* target, T* copy, std::span<const void* const> sources, std::int64_t elements) {
  for (std::int64_t begin = 0; begin < elements; begin += kBlock) {
    const std::int64_t n = std::min(kBlock, elements - begin);
    if (sources.size() == 2) {
      pair<op>(target + begin, static_cast<const T*>(sources[0]) + begin, static_cast<const T*>(sources[1]) + begin, n);
    } else {
      block<op>(target, sources, begin, n);
    }
    if (copy != nullptr) std::memcpy(copy + begin, target + begin, static_cast<std::size_t>(n) * sizeof(T));
  }
}

template <class T>
void reduce(void* target, void* copy, std::span<const void* const> sources, std::int64_t elements, ReduceOp op) {
  auto* to = static_cast<T*>(target);
  auto* also = static_cast<T*>(copy);
  switch (op) {
    case ReduceOp::sum:
      return reduce<ReduceOp::sum>(to, also, sources, elements);
    case ReduceOp::max:
      return reduce<ReduceOp::max>(to, also, sources, elements);
    case ReduceOp::min:
      return reduce<ReduceOp::min>(to, also, sources, elements);
  }
}

}  // namespace

void reduce_tree(void* target, void* copy, std::span<const void* const> sources, std::int64_t elements, DType dtype,
                 ReduceOp op) {
  switch (dtype) {
    case DType::f32:
      return reduce<float>(target, copy, sources, elements, op);
    case DType::f64:
      return reduce<double>(target, copy, sources, elements, op);
    case DType::bf16:
      return reduce<BFloat16>(target, copy, sources, elements, op);
    case DType::i32:
      return reduce<std::int32_t>(target, copy, sources, elements, op);
    case DType::i64:
      return reduce<std::int64_t>(target, copy, sources, elements, op);
    default:
      check_reducible(dtype);
  }
}

void check_reducible(DType dtype) {
  for (const DType known : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64}) {
    if (dtype == known) return;
  }
  throw Error(ErrorCode::usage, fmt::format("ranks cannot reduce {}", dtype_name(dtype)),
              "f32, f64, bf16, i32 and i64 can be reduced");
}

}  // namespace trivet::comm
