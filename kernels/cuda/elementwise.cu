// Element-wise ops with two or three inputs: arithmetic, comparisons, logic, where.
#include "kernels/cuda/families.h"
#include "kernels/cuda/map.cuh"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cuda {
namespace {

// ---- floats ----

struct Add {
  TRIVET_DEVICE float operator()(float a, float b) const { return a + b; }
};
struct Sub {
  TRIVET_DEVICE float operator()(float a, float b) const { return a - b; }
};
struct Mul {
  TRIVET_DEVICE float operator()(float a, float b) const { return a * b; }
};
struct Div {
  TRIVET_DEVICE float operator()(float a, float b) const { return a / b; }
};
struct Remainder {
  TRIVET_DEVICE float operator()(float a, float b) const { return fmodf(a, b); }
};
struct Maximum {
  TRIVET_DEVICE float operator()(float a, float b) const { return larger(a, b); }
};
struct Minimum {
  TRIVET_DEVICE float operator()(float a, float b) const { return smaller(a, b); }
};
struct Pow {
  TRIVET_DEVICE float operator()(float a, float b) const { return powf(a, b); }
};

template <class F>
void run_float(const KernelArgs& args) {
  map_float_broadcast(args, F{});
}

// ---- integers: one kernel for each dtype with the op as an argument, because no model spends its time here ----

enum class IntegerOp { add, sub, mul, div, remainder, modulo, maximum, minimum };

struct Integer {
  IntegerOp op;

  // Sums, differences and products wrap around; quotients are cut off towards 0 and are 0 for b = 0.
  template <class T>
  TRIVET_DEVICE static T wrapped(std::uint64_t x) {
    return static_cast<T>(x);
  }
  template <class T>
  TRIVET_DEVICE static T quotient(T a, T b) {
    if (b == T{0}) return T{0};
    const bool minus_one = kIsSigned<T> && static_cast<T>(b + T{1}) == T{0};
    return minus_one ? wrapped<T>(std::uint64_t{0} - static_cast<std::uint64_t>(a)) : static_cast<T>(a / b);
  }
  template <class T>
  TRIVET_DEVICE static T remainder(T a, T b) {
    if (b == T{0}) return T{0};
    const auto product = static_cast<std::uint64_t>(b) * static_cast<std::uint64_t>(quotient(a, b));
    return wrapped<T>(static_cast<std::uint64_t>(a) - product);
  }
  template <class T>
  TRIVET_DEVICE T operator()(T a, T b) const {
    const auto left = static_cast<std::uint64_t>(a);
    const auto right = static_cast<std::uint64_t>(b);
    switch (op) {
      case IntegerOp::add:
        return wrapped<T>(left + right);
      case IntegerOp::sub:
        return wrapped<T>(left - right);
      case IntegerOp::mul:
        return wrapped<T>(left * right);
      case IntegerOp::div:
        return quotient(a, b);
      case IntegerOp::remainder:
        return remainder(a, b);
      case IntegerOp::modulo: {
        const T rest = remainder(a, b);
        const bool other_sign = rest != T{0} && is_negative(rest) != is_negative(b);
        return other_sign ? wrapped<T>(static_cast<std::uint64_t>(rest) + right) : rest;
      }
      case IntegerOp::maximum:
        return a > b ? a : b;
      case IntegerOp::minimum:
        return a < b ? a : b;
    }
    return T{0};
  }
};

void run_integer(const KernelArgs& args, IntegerOp op) {
  with_integer_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_broadcast<T, T>(args, Integer{op});
  });
}

template <class F, IntegerOp kInteger>
void run_arithmetic(const KernelArgs& args) {
  if (is_compute_type(args.in[0].dtype)) {
    run_float<F>(args);
  } else {
    run_integer(args, kInteger);
  }
}

void run_mod(const KernelArgs& args) {
  if (is_compute_type(args.in[0].dtype)) {
    run_float<Remainder>(args);
  } else {
    run_integer(args, args.attributes<ModAttrs>().fmod ? IntegerOp::remainder : IntegerOp::modulo);
  }
}

// Bools are 0 or 1.
template <IntegerOp kOp>
void run_logical(const KernelArgs& args) {
  map_broadcast<std::uint8_t, std::uint8_t>(args, Integer{kOp});
}

// ---- comparisons: one kernel for each dtype; the op is the set of outcomes for which it is true ----

constexpr unsigned kLess = 1;
constexpr unsigned kEqual = 2;
constexpr unsigned kGreater = 4;
constexpr unsigned kUnordered = 8;

struct Compare {
  unsigned outcomes;

  TRIVET_DEVICE static float value(float x) { return x; }
  TRIVET_DEVICE static float value(BFloat16 x) { return widen(x); }
  TRIVET_DEVICE static float value(Float16 x) { return widen(x); }
  template <class T>
  TRIVET_DEVICE static T value(T x) {
    return x;
  }
  template <class T>
  TRIVET_DEVICE std::uint8_t operator()(T a, T b) const {
    const auto left = value(a);
    const auto right = value(b);
    const unsigned outcome = left < right ? kLess : left == right ? kEqual : left > right ? kGreater : kUnordered;
    return (outcomes & outcome) != 0 ? 1 : 0;
  }
};

template <unsigned kOutcomes>
void run_compare(const KernelArgs& args) {
  const DType type = args.in[0].dtype;
  const auto run = [&](auto element) { map_broadcast<std::uint8_t, decltype(element)>(args, Compare{kOutcomes}); };
  if (is_compute_type(type)) {
    with_compute_type(type, run);
  } else {
    with_integer_type(type, run);
  }
}

// ---- where ----

template <int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    where_kernel(const std::uint8_t* condition, const T* a, const T* b, T* y, const __grid_constant__ Loop<4> loop,
                 Parts parts, std::int64_t step_c, std::int64_t step_a, std::int64_t step_b) {
  for (std::int64_t i = global_thread(); i < parts.items; i += global_threads()) {
    const Quotient at = divide(i, parts.per_row);
    std::int64_t offset[4];
    locate(loop, loop.rank - 1, at.quotient, offset);
    const std::int64_t first = at.rest * N;
    const Pack<std::uint8_t, N> c = load_part<N>(condition + offset[1], first, parts.row, step_c);
    const Pack<T, N> if_true = load_part<N>(a + offset[2], first, parts.row, step_a);
    const Pack<T, N> if_false = load_part<N>(b + offset[3], first, parts.row, step_b);
    Pack<T, N> out;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) out.v[k] = c.v[k] != 0 ? if_true.v[k] : if_false.v[k];
    store_part<N>(y + offset[0], first, parts.row, out);
  }
}

template <int N, class T>
void launch_where(const KernelArgs& args, const Loop<4>& loop) {
  const Parts parts(loop, N);
  TRIVET_LAUNCH((where_kernel<N, T>), dim3(blocks_for(parts.items)), dim3(kBlock), 0, args.stream,
                args.in[0].as<const std::uint8_t>(), args.in[1].as<const T>(), args.in[2].as<const T>(),
                args.out[0].as<T>(), loop, parts, loop.inner_stride(1), loop.inner_stride(2), loop.inner_stride(3));
}

void run_where(const KernelArgs& args) {
  const TensorDesc* const inputs[3] = {&args.in[0], &args.in[1], &args.in[2]};
  const Loop<4> loop = broadcast_loop<4>(args.out[0], inputs);
  if (loop.elements == 0) return;
  with_word(args.out[0].dtype, [&](auto word) {
    using T = decltype(word);
    constexpr std::size_t kSize = sizeof(T);
    const bool fit = packs_fit<4>(loop, kPack<T>, {args.out[0].data, args.in[0].data, args.in[1].data, args.in[2].data},
                                  {kSize, 1, kSize, kSize});
    fit ? launch_where<kPack<T>, T>(args, loop) : launch_where<1, T>(args, loop);
  });
}

// ---- what is supported ----

bool float_or_integer(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.in[1].dtype == type && (is_compute_type(type) || is_integer_type(type));
}
bool booleans(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::boolean && spec.in[1].dtype == DType::boolean;
}
bool equal_types(const KernelSpec& spec) { return float_or_integer(spec) || booleans(spec); }
bool mod_types(const KernelSpec& spec) {
  return float_or_integer(spec) && (spec.attributes<ModAttrs>().fmod || is_integer_type(spec.in[0].dtype));
}
bool where_types(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::boolean && spec.in[1].dtype == spec.in[2].dtype;
}

constexpr KernelEntry kTable[] = {
    {"add", float_or_integer, run_arithmetic<Add, IntegerOp::add>},
    {"sub", float_or_integer, run_arithmetic<Sub, IntegerOp::sub>},
    {"mul", float_or_integer, run_arithmetic<Mul, IntegerOp::mul>},
    {"div", float_or_integer, run_arithmetic<Div, IntegerOp::div>},
    {"mod", mod_types, run_mod},
    {"maximum", float_or_integer, run_arithmetic<Maximum, IntegerOp::maximum>},
    {"minimum", float_or_integer, run_arithmetic<Minimum, IntegerOp::minimum>},
    {"pow", one_compute_type, run_float<Pow>},
    {"equal", equal_types, run_compare<kEqual>},
    {"not_equal", equal_types, run_compare<kLess | kGreater | kUnordered>},
    {"less", float_or_integer, run_compare<kLess>},
    {"less_equal", float_or_integer, run_compare<kLess | kEqual>},
    {"greater", float_or_integer, run_compare<kGreater>},
    {"greater_equal", float_or_integer, run_compare<kGreater | kEqual>},
    {"logical_and", booleans, run_logical<IntegerOp::minimum>},
    {"logical_or", booleans, run_logical<IntegerOp::maximum>},
    {"logical_xor", booleans, run_compare<kLess | kGreater>},
    {"where", where_types, run_where},
};

}  // namespace

std::span<const KernelEntry> elementwise_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
