// Functions of one element: rounding, powers, exponentials, trigonometry, tests for special values.
#include "kernels/cuda/families.h"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/trigonometry.cuh"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cuda {
namespace {

// ---- floats ----

#define TRIVET_FUNCTION(Name, expression)                                \
  struct Name {                                                          \
    TRIVET_DEVICE float operator()(float x) const { return expression; } \
  }

TRIVET_FUNCTION(Neg, -x);
TRIVET_FUNCTION(Abs, fabsf(x));
TRIVET_FUNCTION(Sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x);
TRIVET_FUNCTION(Exp, expf(x));
TRIVET_FUNCTION(Log, logf(x));
TRIVET_FUNCTION(Sqrt, sqrtf(x));
TRIVET_FUNCTION(Rsqrt, rsqrtf(x));
TRIVET_FUNCTION(Reciprocal, 1.0f / x);
TRIVET_FUNCTION(Square, x* x);
TRIVET_FUNCTION(Floor, floorf(x));
TRIVET_FUNCTION(Ceil, ceilf(x));
TRIVET_FUNCTION(Round, rintf(x));
TRIVET_FUNCTION(Erf, erff(x));
TRIVET_FUNCTION(Sin, sine(reduce_angle(x)));
TRIVET_FUNCTION(Cos, cosine(reduce_angle(x)));
TRIVET_FUNCTION(Tan, tangent(reduce_angle(x)));
TRIVET_FUNCTION(Asin, asinf(x));
TRIVET_FUNCTION(Acos, acosf(x));
TRIVET_FUNCTION(Atan, atanf(x));
TRIVET_FUNCTION(Sinh, sinhf(x));
TRIVET_FUNCTION(Cosh, coshf(x));
TRIVET_FUNCTION(Asinh, asinhf(x));
TRIVET_FUNCTION(Acosh, acoshf(x));
TRIVET_FUNCTION(Atanh, atanhf(x));

#undef TRIVET_FUNCTION

struct Clamp {
  float low;
  float high;
  TRIVET_DEVICE float operator()(float x) const { return limited(x, low, high); }
};
struct Affine {
  float scale;
  float shift;
  TRIVET_DEVICE float operator()(float x) const { return scale * x + shift; }
};

template <class F>
void run_unary(const KernelArgs& args) {
  map_float(args, F{});
}
void run_clamp(const KernelArgs& args) {
  const auto& attrs = args.attributes<ClampAttrs>();
  map_float(args, Clamp{static_cast<float>(attrs.min_value), static_cast<float>(attrs.max_value)});
}
void run_affine(const KernelArgs& args) {
  const auto& attrs = args.attributes<AffineAttrs>();
  map_float(args, Affine{static_cast<float>(attrs.scale), static_cast<float>(attrs.shift)});
}

// ---- integers: the smallest one is its own negative ----

struct IntegerNeg {
  template <class T>
  TRIVET_DEVICE T operator()(T x) const {
    return static_cast<T>(std::uint64_t{0} - static_cast<std::uint64_t>(x));
  }
};
struct IntegerAbs {
  template <class T>
  TRIVET_DEVICE T operator()(T x) const {
    return x > T{0} ? x : IntegerNeg{}(x);
  }
};
struct IntegerSign {
  template <class T>
  TRIVET_DEVICE T operator()(T x) const {
    return x > T{0} ? T{1} : x < T{0} ? static_cast<T>(-1) : T{0};
  }
};
// Numbers without a sign stay, or become 1.
struct ByteAbs {
  TRIVET_DEVICE std::uint8_t operator()(std::uint8_t x) const { return x; }
};
struct ByteSign {
  TRIVET_DEVICE std::uint8_t operator()(std::uint8_t x) const { return x != 0 ? 1 : 0; }
};

template <class Float, class Integer, class Byte>
void run_number(const KernelArgs& args) {
  const DType type = args.in[0].dtype;
  if (is_compute_type(type)) {
    map_float(args, Float{});
  } else if (type == DType::u8) {
    map<std::uint8_t, std::uint8_t>(args, Byte{});
  } else if (type == DType::i8) {
    map<std::int8_t, std::int8_t>(args, Integer{});
  } else if (type == DType::i32) {
    map<std::int32_t, std::int32_t>(args, Integer{});
  } else {
    map<std::int64_t, std::int64_t>(args, Integer{});
  }
}

// ---- tests ----

struct IsNan {
  template <class T>
  TRIVET_DEVICE std::uint8_t operator()(T x) const {
    const float v = widen(x);
    return v != v ? 1 : 0;
  }
};
struct IsInf {
  bool positive;
  bool negative;
  template <class T>
  TRIVET_DEVICE std::uint8_t operator()(T x) const {
    const float v = widen(x);
    return (positive && v == infinity()) || (negative && v == -infinity()) ? 1 : 0;
  }
};
struct Not {
  TRIVET_DEVICE std::uint8_t operator()(std::uint8_t x) const { return x ^ 1u; }
};

template <class F>
void map_test(const KernelArgs& args, const F& f) {
  with_compute_type(args.in[0].dtype, [&](auto element) { map<std::uint8_t, decltype(element)>(args, f); });
}
void run_is_nan(const KernelArgs& args) { map_test(args, IsNan{}); }
void run_is_inf(const KernelArgs& args) {
  const auto& attrs = args.attributes<IsInfAttrs>();
  map_test(args, IsInf{attrs.detect_positive, attrs.detect_negative});
}
void run_logical_not(const KernelArgs& args) { map<std::uint8_t, std::uint8_t>(args, Not{}); }

// ---- what is supported ----

bool float_or_integer(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.out[0].dtype == type && (is_compute_type(type) || is_integer_type(type));
}
bool signed_number(const KernelSpec& spec) { return float_or_integer(spec) && spec.in[0].dtype != DType::u8; }
bool float_to_bool(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == DType::boolean;
}
bool boolean(const KernelSpec& spec) { return spec.in[0].dtype == DType::boolean; }

constexpr KernelEntry kTable[] = {
    {"neg", signed_number, run_number<Neg, IntegerNeg, ByteAbs>},
    {"abs", float_or_integer, run_number<Abs, IntegerAbs, ByteAbs>},
    {"sign", float_or_integer, run_number<Sign, IntegerSign, ByteSign>},
    {"exp", one_compute_type, run_unary<Exp>},
    {"log", one_compute_type, run_unary<Log>},
    {"sqrt", one_compute_type, run_unary<Sqrt>},
    {"rsqrt", one_compute_type, run_unary<Rsqrt>},
    {"reciprocal", one_compute_type, run_unary<Reciprocal>},
    {"square", one_compute_type, run_unary<Square>},
    {"clamp", one_compute_type, run_clamp},
    {"affine", one_compute_type, run_affine},
    {"floor", one_compute_type, run_unary<Floor>},
    {"ceil", one_compute_type, run_unary<Ceil>},
    {"round", one_compute_type, run_unary<Round>},
    {"erf", one_compute_type, run_unary<Erf>},
    {"sin", one_compute_type, run_unary<Sin>},
    {"cos", one_compute_type, run_unary<Cos>},
    {"tan", one_compute_type, run_unary<Tan>},
    {"asin", one_compute_type, run_unary<Asin>},
    {"acos", one_compute_type, run_unary<Acos>},
    {"atan", one_compute_type, run_unary<Atan>},
    {"sinh", one_compute_type, run_unary<Sinh>},
    {"cosh", one_compute_type, run_unary<Cosh>},
    {"asinh", one_compute_type, run_unary<Asinh>},
    {"acosh", one_compute_type, run_unary<Acosh>},
    {"atanh", one_compute_type, run_unary<Atanh>},
    {"is_nan", float_to_bool, run_is_nan},
    {"is_inf", float_to_bool, run_is_inf},
    {"logical_not", boolean, run_logical_not},
};

}  // namespace

std::span<const KernelEntry> unary_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
