// Element-wise ops with two or three inputs: arithmetic, comparisons, logic, where.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/map.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- arithmetic: floats in float32; integers wrap around ---

// The unsigned type in which T's sums, products and negations have no overflow.
template <std::size_t kBytes>
struct UnsignedOf {
  using Type = std::uint32_t;
};
template <>
struct UnsignedOf<8> {
  using Type = std::uint64_t;
};

template <class T>
constexpr bool kIsSigned = static_cast<T>(-1) < static_cast<T>(1);

struct Add {
  TRIVET_INLINE float operator()(float a, float b) const { return a + b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    using U = typename UnsignedOf<sizeof(T)>::Type;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  }
};
struct Sub {
  TRIVET_INLINE float operator()(float a, float b) const { return a - b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    using U = typename UnsignedOf<sizeof(T)>::Type;
    return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
  }
};
struct Mul {
  TRIVET_INLINE float operator()(float a, float b) const { return a * b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    using U = typename UnsignedOf<sizeof(T)>::Type;
    return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
  }
};

// Integer quotients are cut off towards 0; 0 for b = 0. Up to 32 bits by way of double, whose quotient cannot be
// rounded up to the next integer, because there is a vector instruction for that. b = -1 is apart: the smallest
// integer has no negative.
struct Div {
  TRIVET_INLINE float operator()(float a, float b) const { return a / b; }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    const bool special = b == T{0} || (kIsSigned<T> && b == static_cast<T>(-1));
    const T divisor = special ? T{1} : b;
    T quotient;
    if constexpr (sizeof(T) == 8) {
      quotient = a / divisor;
    } else {
      quotient = static_cast<T>(static_cast<std::int32_t>(static_cast<double>(a) / static_cast<double>(divisor)));
    }
    const T negative = b == T{0} ? T{0} : Sub{}(T{0}, a);
    return special ? negative : quotient;
  }
};

// C's remainder, with the sign of a. 0 for an integer b = 0.
struct Remainder {
  TRIVET_INLINE float operator()(float a, float b) const { return __builtin_fmodf(a, b); }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return b == T{0} ? T{0} : Sub{}(a, Mul{}(b, Div{}(a, b)));
  }
};

// The remainder with the sign of b, as in Python. 0 for b = 0.
struct Modulo {
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    const T remainder = Remainder{}(a, b);
    if constexpr (!kIsSigned<T>) return remainder;
    const bool other_sign = remainder != T{0} && (remainder ^ b) < 0;
    return other_sign ? Add{}(remainder, b) : remainder;
  }
};

struct Maximum {
  TRIVET_INLINE float operator()(float a, float b) const { return max_f32(a, b); }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Minimum {
  TRIVET_INLINE float operator()(float a, float b) const { return min_f32(a, b); }
  template <class T>
  TRIVET_INLINE T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Pow {
  TRIVET_INLINE float operator()(float a, float b) const { return pow_f32(a, b); }
};

template <class F>
void run_float_binary(const KernelArgs& args) {
  map_float_binary(args, F{});
}

template <class F>
void run_integer(const KernelArgs& args) {
  with_integer_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_binary<T, T>(args, F{});
  });
}

template <class F>
void run_arithmetic(const KernelArgs& args) {
  if (is_integer_type(args.in[0].dtype)) {
    run_integer<F>(args);
  } else {
    run_float_binary<F>(args);
  }
}

void run_mod(const KernelArgs& args) {
  if (args.attributes<ModAttrs>().fmod) {
    run_arithmetic<Remainder>(args);
  } else {
    run_integer<Modulo>(args);
  }
}

// --- comparisons and logic ---

struct Equal {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a == b ? 1 : 0;
  }
};
struct NotEqual {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a != b ? 1 : 0;
  }
};
struct Less {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a < b ? 1 : 0;
  }
};
struct LessEqual {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a <= b ? 1 : 0;
  }
};
struct Greater {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a > b ? 1 : 0;
  }
};
struct GreaterEqual {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a >= b ? 1 : 0;
  }
};

template <class F>
void run_compare(const KernelArgs& args) {
  const DType type = args.in[0].dtype;
  if (is_compute_type(type)) {
    with_compute_type(type, [&](auto element) {
      using T = decltype(element);
      map_binary<std::uint8_t, T>(args, [](T a, T b) { return F{}(to_f32(a), to_f32(b)); });
    });
  } else {
    with_integer_type(type, [&](auto element) {
      using T = decltype(element);
      map_binary<std::uint8_t, T>(args, F{});
    });
  }
}

struct And {
  TRIVET_INLINE std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return static_cast<std::uint8_t>(a & b);
  }
};
struct Or {
  TRIVET_INLINE std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return static_cast<std::uint8_t>(a | b);
  }
};
struct Xor {
  TRIVET_INLINE std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return static_cast<std::uint8_t>(a ^ b);
  }
};

template <class F>
void run_logical(const KernelArgs& args) {
  map_binary<std::uint8_t, std::uint8_t>(args, F{});
}

// --- where ---

template <int kStrideC, int kStrideA, int kStrideB, class T>
TRIVET_INLINE void where_row(T* y, const std::uint8_t* c, const T* a, const T* b, std::int64_t n) {
  const std::uint8_t c0 = c[0];
  const T a0 = a[0];
  const T b0 = b[0];
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const T if_true = kStrideA != 0 ? a[i] : a0;
    const T if_false = kStrideB != 0 ? b[i] : b0;
    y[i] = (kStrideC != 0 ? c[i] : c0) != 0 ? if_true : if_false;
  }
}

template <class T>
void map_where(const KernelArgs& args) {
  const View& y_view = args.out[0];
  const View* const inputs[3] = {&args.in[0], &args.in[1], &args.in[2]};
  const RowLoop<4> loop = broadcast_loop(y_view, inputs);
  const std::uint8_t* const cond = inputs[0]->as<const std::uint8_t>();
  const T* const if_true = inputs[1]->as<const T>();
  const T* const if_false = inputs[2]->as<const T>();
  T* const out = y_view.as<T>();
  const int moves =
      (loop.inner_stride(1) != 0 ? 4 : 0) + (loop.inner_stride(2) != 0 ? 2 : 0) + (loop.inner_stride(3) != 0 ? 1 : 0);
  loop.for_each_row(args.threads, [=](const std::int64_t* offsets, std::int64_t n) {
    T* const y = out + offsets[0];
    const std::uint8_t* const c = cond + offsets[1];
    const T* const a = if_true + offsets[2];
    const T* const b = if_false + offsets[3];
    switch (moves) {
      case 7:
        return where_row<1, 1, 1>(y, c, a, b, n);
      case 6:
        return where_row<1, 1, 0>(y, c, a, b, n);
      case 5:
        return where_row<1, 0, 1>(y, c, a, b, n);
      case 4:
        return where_row<1, 0, 0>(y, c, a, b, n);
      case 3:
        return where_row<0, 1, 1>(y, c, a, b, n);
      case 2:
        return where_row<0, 1, 0>(y, c, a, b, n);
      default:
        return where_row<0, 0, 1>(y, c, a, b, n);
    }
  });
}

void run_where(const KernelArgs& args) {
  switch (dtype_size(args.in[1].dtype)) {
    case 1:
      return map_where<std::uint8_t>(args);
    case 2:
      return map_where<std::uint16_t>(args);
    case 4:
      return map_where<std::uint32_t>(args);
    default:
      return map_where<std::uint64_t>(args);
  }
}

// --- what is supported ---

bool float_or_integer(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.in[1].dtype == type && (is_compute_type(type) || is_integer_type(type));
}

bool equal_types(const KernelSpec& spec) {
  return float_or_integer(spec) || (spec.in[0].dtype == DType::boolean && spec.in[1].dtype == DType::boolean);
}

bool mod_types(const KernelSpec& spec) {
  return float_or_integer(spec) && (spec.attributes<ModAttrs>().fmod || is_integer_type(spec.in[0].dtype));
}

bool booleans(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::boolean && spec.in[1].dtype == DType::boolean;
}

bool where_types(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::boolean && spec.in[1].dtype == spec.in[2].dtype;
}

constexpr KernelEntry kTable[] = {
    {"add", float_or_integer, run_arithmetic<Add>},
    {"sub", float_or_integer, run_arithmetic<Sub>},
    {"mul", float_or_integer, run_arithmetic<Mul>},
    {"div", float_or_integer, run_arithmetic<Div>},
    {"mod", mod_types, run_mod},
    {"maximum", float_or_integer, run_arithmetic<Maximum>},
    {"minimum", float_or_integer, run_arithmetic<Minimum>},
    {"pow", one_compute_type, run_float_binary<Pow>},
    {"equal", equal_types, run_compare<Equal>},
    {"not_equal", equal_types, run_compare<NotEqual>},
    {"less", float_or_integer, run_compare<Less>},
    {"less_equal", float_or_integer, run_compare<LessEqual>},
    {"greater", float_or_integer, run_compare<Greater>},
    {"greater_equal", float_or_integer, run_compare<GreaterEqual>},
    {"logical_and", booleans, run_logical<And>},
    {"logical_or", booleans, run_logical<Or>},
    {"logical_xor", booleans, run_logical<Xor>},
    {"where", where_types, run_where},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> elementwise_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
