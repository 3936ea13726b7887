// Functions of one element: rounding, powers, exponentials, trigonometry, tests for special values, casts.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/map.h"
#include "kernels/cpu/vector/vector_math.h"
#include "kernels/cpu/vector/vector_trigonometry.h"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- floats ---

TRIVET_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
TRIVET_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
TRIVET_INLINE float reciprocal(float x) { return 1.0f / x; }
TRIVET_INLINE float square(float x) { return x * x; }

template <float (*F)(float)>
void run_unary(const KernelArgs& args) {
  map_float(args, [](float x) { return F(x); });
}

void run_clamp(const KernelArgs& args) {
  const auto low = static_cast<float>(args.attributes<ClampAttrs>().min_value);
  const auto high = static_cast<float>(args.attributes<ClampAttrs>().max_value);
  map_float(args, [=](float x) { return clamp_f32(x, low, high); });
}

void run_affine(const KernelArgs& args) {
  const auto scale = static_cast<float>(args.attributes<AffineAttrs>().scale);
  const auto shift = static_cast<float>(args.attributes<AffineAttrs>().shift);
  map_float(args, [=](float x) { return scale * x + shift; });
}

// --- floats and integers ---

TRIVET_INLINE float neg(float x) { return -x; }
TRIVET_INLINE float sign(float x) {
  const float y = x > 0.0f ? 1.0f : x;  // x if NaN or zero
  return y < 0.0f ? -1.0f : y;
}

// The smallest integer is its own negative: integers wrap around.
template <class T>
TRIVET_INLINE T wrapped_negative(T x) {
  if constexpr (sizeof(T) == 8) {
    return static_cast<T>(std::uint64_t{0} - static_cast<std::uint64_t>(x));
  } else {
    return static_cast<T>(std::uint32_t{0} - static_cast<std::uint32_t>(x));
  }
}

struct Neg {
  template <class T>
  TRIVET_INLINE T operator()(T x) const {
    return wrapped_negative(x);
  }
};
struct Abs {
  template <class T>
  TRIVET_INLINE T operator()(T x) const {
    return x > T{0} ? x : wrapped_negative(x);
  }
};
struct Sign {
  template <class T>
  TRIVET_INLINE T operator()(T x) const {
    const T positive = x > T{0} ? T{1} : T{0};
    return x >= T{0} ? positive : static_cast<T>(-1);
  }
};
template <>
TRIVET_INLINE std::uint8_t Abs::operator()(std::uint8_t x) const {
  return x;
}
template <>
TRIVET_INLINE std::uint8_t Sign::operator()(std::uint8_t x) const {
  return x != 0 ? 1 : 0;
}

template <float (*kFloat)(float), class Integer>
void run_number(const KernelArgs& args) {
  if (is_compute_type(args.in[0].dtype)) {
    run_unary<kFloat>(args);
  } else {
    with_integer_type(args.in[0].dtype, [&](auto element) {
      using T = decltype(element);
      map_unary<T, T>(args, Integer{});
    });
  }
}

// --- trigonometry ---

constexpr std::int64_t kBlock = 256;

TRIVET_INLINE bool is_huge(std::uint32_t magnitude) {
  return magnitude > detail::to_bits(kReducible) && magnitude < detail::to_bits(detail::kInfinity);
}

// The vector loop computes every element, the few huge ones are mended after it. x is copied, because y may be x.
template <class T, float (*F)(Reduced)>
TRIVET_INLINE void trigonometric_block(T* y, const T* x, std::int64_t n) {
  float copy[kBlock];
  std::uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < n; ++i) {
    copy[i] = to_f32(x[i]);
    const std::uint32_t magnitude = detail::to_bits(copy[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = from_f32<T>(F(reduce_quadrant(copy[i])));
  if (largest <= detail::to_bits(kReducible)) return;
  for (std::int64_t i = 0; i < n; ++i) {
    if (is_huge(detail::to_bits(copy[i]) & 0x7fffffffu)) y[i] = from_f32<T>(F(reduce_huge(copy[i])));
  }
}

template <float (*F)(Reduced)>
void run_trigonometric(const KernelArgs& args) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    const std::int64_t n = element_count(args.in[0]);
    parallel_pieces(n, kMapGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += kBlock) {
        trigonometric_block<T, F>(y + i, x + i, end - i < kBlock ? end - i : kBlock);
      }
    });
  });
}

// --- tests ---

template <class F>
void map_test(const KernelArgs& args, const F f) {
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    map_unary<std::uint8_t, T>(args, [=](T x) { return f(to_f32(x)); });
  });
}

void run_is_nan(const KernelArgs& args) {
  map_test(args, [](float x) -> std::uint8_t { return x != x ? 1 : 0; });
}

// What is not asked for is compared with NaN, which nothing equals.
void run_is_inf(const KernelArgs& args) {
  const auto& attrs = args.attributes<IsInfAttrs>();
  const float positive = attrs.detect_positive ? detail::kInfinity : detail::kNan;
  const float negative = attrs.detect_negative ? -detail::kInfinity : detail::kNan;
  map_test(args, [=](float x) -> std::uint8_t {
    const std::uint8_t is_positive = x == positive ? 1 : 0;
    const std::uint8_t is_negative = x == negative ? 1 : 0;
    return static_cast<std::uint8_t>(is_positive | is_negative);
  });
}

void run_logical_not(const KernelArgs& args) {
  map_unary<std::uint8_t, std::uint8_t>(args, [](std::uint8_t x) { return static_cast<std::uint8_t>(x ^ 1); });
}

// --- cast ---

template <DType kType>
struct Range {  // of u8
  static constexpr std::int64_t kLow = 0;
  static constexpr std::int64_t kHigh = 255;
};
template <>
struct Range<DType::i8> {
  static constexpr std::int64_t kLow = -128;
  static constexpr std::int64_t kHigh = 127;
};
template <>
struct Range<DType::i32> {
  static constexpr std::int64_t kLow = -2147483648LL;
  static constexpr std::int64_t kHigh = 2147483647LL;
};
template <>
struct Range<DType::i64> {
  static constexpr std::int64_t kLow = -9223372036854775807LL - 1;
  static constexpr std::int64_t kHigh = 9223372036854775807LL;
};

// The ends of a range of 8 bits are floats, so x is limited before it is converted.
template <DType kTo, class To, class From>
TRIVET_INLINE To integer_of(From x) requires(sizeof(To) == 1) {
  constexpr From kLow = static_cast<From>(Range<kTo>::kLow);
  constexpr From kHigh = static_cast<From>(Range<kTo>::kHigh);
  From y = x != x ? From{0} : x;
  y = y < kLow ? kLow : y;
  y = y > kHigh ? kHigh : y;
  return static_cast<To>(static_cast<std::int32_t>(y));
}

// The upper end of a wider range is not a float32, but the number after it is: a power of two.
template <DType kTo, class To, class From>
TRIVET_INLINE To integer_of(From x) {
  constexpr From kEnd = static_cast<From>(Range<kTo>::kHigh / 2 + 1) * From{2};
  constexpr From kBegin = static_cast<From>(Range<kTo>::kLow);
  const To inside = x >= kBegin && x < kEnd ? static_cast<To>(x) : To{0};
  const To high = x >= kEnd ? static_cast<To>(Range<kTo>::kHigh) : inside;
  return x < kBegin ? static_cast<To>(Range<kTo>::kLow) : high;
}

template <DType kType>
constexpr bool kSmallFloat = kType == DType::bf16 || kType == DType::f16;

template <std::size_t kBytes>
struct WideFor {
  using Type = std::int32_t;
};
template <>
struct WideFor<8> {
  using Type = std::int64_t;
};

// By way of f32, which holds every bf16 and f16; a second rounding (from f64 or i64) can only differ in the last bit.
template <DType kTo, DType kFrom>
TRIVET_INLINE typename Storage<kTo>::Type convert(typename Storage<kFrom>::Type x) {
  using To = typename Storage<kTo>::Type;
  using From = typename Storage<kFrom>::Type;
  if constexpr (kSmallFloat<kFrom>) {
    return convert<kTo, DType::f32>(to_f32(x));
  } else if constexpr (kSmallFloat<kTo>) {
    return from_f32<To>(convert<DType::f32, kFrom>(x));
  } else if constexpr (kTo == DType::boolean) {
    return x != From{0} ? 1 : 0;
  } else if constexpr (kFrom == DType::boolean) {
    return static_cast<To>(x != 0 ? 1 : 0);
  } else if constexpr (is_float(kTo)) {
    return static_cast<To>(x);
  } else if constexpr (is_float(kFrom)) {
    return integer_of<kTo, To>(x);
  } else {
    // In 64 bits only where one of the two types has them.
    using Wide = typename WideFor<(sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From))>::Type;
    Wide wide = static_cast<Wide>(x);
    wide = wide < static_cast<Wide>(Range<kTo>::kLow) ? static_cast<Wide>(Range<kTo>::kLow) : wide;
    return static_cast<To>(wide > static_cast<Wide>(Range<kTo>::kHigh) ? static_cast<Wide>(Range<kTo>::kHigh) : wide);
  }
}

// Calls f.template operator()<kType>() for the dtype.
template <class F>
TRIVET_INLINE void with_dtype(DType type, const F& f) {
  switch (type) {
    case DType::f32:
      return f.template operator()<DType::f32>();
    case DType::f64:
      return f.template operator()<DType::f64>();
    case DType::i32:
      return f.template operator()<DType::i32>();
    case DType::i64:
      return f.template operator()<DType::i64>();
    case DType::u8:
      return f.template operator()<DType::u8>();
    case DType::boolean:
      return f.template operator()<DType::boolean>();
    case DType::bf16:
      return f.template operator()<DType::bf16>();
    case DType::f16:
      return f.template operator()<DType::f16>();
    case DType::i8:
      return f.template operator()<DType::i8>();
  }
}

void run_cast(const KernelArgs& args) {
  with_dtype(args.in[0].dtype, [&]<DType kFrom>() {
    with_dtype(args.attributes<CastAttrs>().to, [&]<DType kTo>() {
      map_unary<typename Storage<kTo>::Type, typename Storage<kFrom>::Type>(
          args, [](typename Storage<kFrom>::Type x) { return convert<kTo, kFrom>(x); });
    });
  });
}

// --- what is supported ---

bool float_or_integer(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.out[0].dtype == type && (is_compute_type(type) || is_integer_type(type));
}

bool signed_number(const KernelSpec& spec) { return float_or_integer(spec) && spec.in[0].dtype != DType::u8; }

bool compute_type_to_bool(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == DType::boolean;
}

bool boolean(const KernelSpec& spec) { return spec.in[0].dtype == DType::boolean; }

bool any_type(const KernelSpec&) { return true; }

constexpr KernelEntry kTable[] = {
    {"neg", signed_number, run_number<neg, Neg>},
    {"abs", float_or_integer, run_number<abs_f32, Abs>},
    {"sign", float_or_integer, run_number<sign, Sign>},
    {"exp", one_compute_type, run_unary<exp_f32>},
    {"log", one_compute_type, run_unary<log_f32>},
    {"sqrt", one_compute_type, run_unary<sqrt>},
    {"rsqrt", one_compute_type, run_unary<rsqrt>},
    {"reciprocal", one_compute_type, run_unary<reciprocal>},
    {"square", one_compute_type, run_unary<square>},
    {"clamp", one_compute_type, run_clamp},
    {"affine", one_compute_type, run_affine},
    {"floor", one_compute_type, run_unary<floor_f32>},
    {"ceil", one_compute_type, run_unary<ceil_f32>},
    {"round", one_compute_type, run_unary<round_f32>},
    {"erf", one_compute_type, run_unary<erf_f32>},
    {"sin", one_compute_type, run_trigonometric<sin_of>},
    {"cos", one_compute_type, run_trigonometric<cos_of>},
    {"tan", one_compute_type, run_trigonometric<tan_of>},
    {"asin", one_compute_type, run_unary<asin_f32>},
    {"acos", one_compute_type, run_unary<acos_f32>},
    {"atan", one_compute_type, run_unary<atan_f32>},
    {"sinh", one_compute_type, run_unary<sinh_f32>},
    {"cosh", one_compute_type, run_unary<cosh_f32>},
    {"asinh", one_compute_type, run_unary<asinh_f32>},
    {"acosh", one_compute_type, run_unary<acosh_f32>},
    {"atanh", one_compute_type, run_unary<atanh_f32>},
    {"is_nan", compute_type_to_bool, run_is_nan},
    {"is_inf", compute_type_to_bool, run_is_inf},
    {"logical_not", boolean, run_logical_not},
    {"cast", any_type, run_cast},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> unary_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
