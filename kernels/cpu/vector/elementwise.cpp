#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/row_loop.h"
#include "kernels/cpu/vector/storage.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// Elements that one piece of a loop without broadcasting touches.
constexpr std::int64_t kMapGrain = 8192;

// Beyond these x, the distribution functions in gelu and silu are 0 or 1 in float32; it makes them right at infinities,
// where their formulas say infinity times zero.
constexpr float kSaturated = 128.0f;

// y[i] = f(x[i]). `omp simd` tells the compiler that y may be x, but never x shifted.
template <class Out, class In, class F>
void map_unary(const KernelArgs& args, const F f) {
  const View& x_view = args.in[0];
  const In* const x = x_view.as<const In>();
  Out* const y = args.out[0].as<Out>();
  const std::int64_t n = element_count(x_view);
  parallel_pieces(n, kMapGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) y[i] = f(x[i]);
  });
}

// y[i] = f(dy[i], saved[i]), for the backward ops: all of one shape.
template <class F>
void map_backward(const KernelArgs& args, const F f) {
  const View& dy_view = args.in[0];
  const float* const dy = dy_view.as<const float>();
  const float* const saved = args.in[1].as<const float>();
  float* const dx = args.out[0].as<float>();
  const std::int64_t n = element_count(dy_view);
  parallel_pieces(n, kMapGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) dx[i] = f(dy[i], saved[i]);
  });
}

// --- binary ops with broadcasting ---

// Integer arithmetic wraps around.
struct Add {
  TRIVET_INLINE float operator()(float a, float b) const { return a + b; }
  TRIVET_INLINE std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  TRIVET_INLINE std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
};
struct Sub {
  TRIVET_INLINE float operator()(float a, float b) const { return a - b; }
  TRIVET_INLINE std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
  }
  TRIVET_INLINE std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  }
};
struct Mul {
  TRIVET_INLINE float operator()(float a, float b) const { return a * b; }
  TRIVET_INLINE std::int32_t operator()(std::int32_t a, std::int32_t b) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b));
  }
  TRIVET_INLINE std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};
struct Div {
  TRIVET_INLINE float operator()(float a, float b) const { return a / b; }
};
struct Maximum {
  TRIVET_INLINE float operator()(float a, float b) const { return max_f32(a, b); }
};
struct Minimum {
  TRIVET_INLINE float operator()(float a, float b) const { return min_f32(a, b); }
};
struct Pow {
  TRIVET_INLINE float operator()(float a, float b) const { return pow_f32(a, b); }
};
struct Equal {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a == b ? 1 : 0;
  }
};
struct Less {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a < b ? 1 : 0;
  }
};
struct Greater {
  template <class T>
  TRIVET_INLINE std::uint8_t operator()(T a, T b) const {
    return a > b ? 1 : 0;
  }
};

template <int kStrideA, int kStrideB, class Out, class In, class F>
TRIVET_INLINE void binary_row(Out* y, const In* a, const In* b, std::int64_t n, const F f) {
  const In a0 = a[0];
  const In b0 = b[0];
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(kStrideA != 0 ? a[i] : a0, kStrideB != 0 ? b[i] : b0);
}

template <class Out, class In, class F>
void map_binary(const KernelArgs& args, const F f) {
  const View& y_view = args.out[0];
  const View* const inputs[2] = {&args.in[0], &args.in[1]};
  const RowLoop<3> loop = broadcast_loop(y_view, inputs);
  const In* const a = inputs[0]->as<const In>();
  const In* const b = inputs[1]->as<const In>();
  Out* const y = y_view.as<Out>();
  const bool a_moves = loop.inner_stride(1) != 0;
  const bool b_moves = loop.inner_stride(2) != 0;
  loop.for_each_row(args.threads, [=](const std::int64_t* offsets, std::int64_t n) {
    if (a_moves && b_moves) {
      binary_row<1, 1>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    } else if (a_moves) {
      binary_row<1, 0>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    } else {
      binary_row<0, 1>(y + offsets[0], a + offsets[1], b + offsets[2], n, f);
    }
  });
}

template <class F>
void run_binary_f32(const KernelArgs& args) {
  map_binary<float, float>(args, F{});
}

template <class F>
void run_arithmetic(const KernelArgs& args) {
  switch (args.in[0].dtype) {
    case DType::i32:
      return map_binary<std::int32_t, std::int32_t>(args, F{});
    case DType::i64:
      return map_binary<std::int64_t, std::int64_t>(args, F{});
    default:
      return map_binary<float, float>(args, F{});
  }
}

template <class F>
void run_compare(const KernelArgs& args) {
  switch (args.in[0].dtype) {
    case DType::i32:
      return map_binary<std::uint8_t, std::int32_t>(args, F{});
    case DType::i64:
      return map_binary<std::uint8_t, std::int64_t>(args, F{});
    default:
      return map_binary<std::uint8_t, float>(args, F{});
  }
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

// --- unary ops ---

TRIVET_INLINE float neg(float x) { return -x; }
TRIVET_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
TRIVET_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
TRIVET_INLINE float reciprocal(float x) { return 1.0f / x; }
TRIVET_INLINE float square(float x) { return x * x; }
TRIVET_INLINE float sign(float x) {
  const float y = x > 0.0f ? 1.0f : x;  // x if NaN or zero
  return y < 0.0f ? -1.0f : y;
}
TRIVET_INLINE float relu(float x) { return x <= 0.0f ? 0.0f : x; }
TRIVET_INLINE float silu(float x) { return x * sigmoid_f32(x); }

TRIVET_INLINE float gelu(float x) { return x * normal_cdf_f32(x); }

// (1 + tanh(u)) / 2 is sigmoid(2 u), which keeps its relative accuracy for negative x.
constexpr float kGeluScale = 1.59576912160573071f;  // 2 sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;
TRIVET_INLINE float gelu_tanh(float x) { return x * sigmoid_f32(kGeluScale * (x + kGeluCubic * x * x * x)); }

// From below only: at plus infinity x times 1 is right.
template <float (*F)(float)>
TRIVET_INLINE float saturated(float x) {
  return F(x < -kSaturated ? -kSaturated : x);
}

template <float (*F)(float)>
void run_unary(const KernelArgs& args) {
  map_unary<float, float>(args, [](float x) { return F(x); });
}

void run_gelu(const KernelArgs& args) {
  if (args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh) {
    run_unary<saturated<gelu_tanh>>(args);
  } else {
    run_unary<saturated<gelu>>(args);
  }
}

void run_clamp(const KernelArgs& args) {
  const auto low = static_cast<float>(args.attributes<ClampAttrs>().min_value);
  const auto high = static_cast<float>(args.attributes<ClampAttrs>().max_value);
  map_unary<float, float>(args, [=](float x) { return clamp_f32(x, low, high); });
}

void run_affine(const KernelArgs& args) {
  const auto scale = static_cast<float>(args.attributes<AffineAttrs>().scale);
  const auto shift = static_cast<float>(args.attributes<AffineAttrs>().shift);
  map_unary<float, float>(args, [=](float x) { return scale * x + shift; });
}

// --- backward ops: derivative times dy ---

TRIVET_INLINE float tanh_derivative(float y) { return 1.0f - y * y; }
TRIVET_INLINE float sigmoid_derivative(float y) { return y * (1.0f - y); }
TRIVET_INLINE float silu_derivative(float x) {
  const float s = sigmoid_f32(x);
  return s + x * (s * (1.0f - s));
}
TRIVET_INLINE float gelu_derivative(float x) { return normal_cdf_f32(x) + x * normal_density_f32(x); }
TRIVET_INLINE float gelu_tanh_derivative(float x) {
  const float s = sigmoid_f32(kGeluScale * (x + kGeluCubic * x * x * x));
  return s + x * (s * (1.0f - s)) * (kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x));
}

template <float (*F)(float)>
TRIVET_INLINE float saturated_both(float x) {
  return F(clamp_f32(x, -kSaturated, kSaturated));
}

template <float (*F)(float)>
void run_backward(const KernelArgs& args) {
  map_backward(args, [](float dy, float saved) { return dy * F(saved); });
}

// Chosen, not multiplied: 0 times an infinite dy would be NaN.
void run_relu_backward(const KernelArgs& args) {
  map_backward(args, [](float dy, float y) { return y <= 0.0f ? 0.0f : dy; });
}

void run_gelu_backward(const KernelArgs& args) {
  if (args.attributes<GeluAttrs>().approximate == GeluApproximation::tanh) {
    run_backward<saturated_both<gelu_tanh_derivative>>(args);
  } else {
    run_backward<saturated_both<gelu_derivative>>(args);
  }
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

template <DType kType>
constexpr bool kSmallFloat = kType == DType::bf16 || kType == DType::f16;

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
    // The upper end is not a float32, but the number after it is: a power of two.
    constexpr From kEnd = static_cast<From>(Range<kTo>::kHigh / 2 + 1) * From{2};
    constexpr From kBegin = static_cast<From>(Range<kTo>::kLow);
    using Wide = __typeof__(sizeof(To) == 1 ? std::int32_t{} : To{});
    const To inside = x >= kBegin && x < kEnd ? static_cast<To>(static_cast<Wide>(x)) : To{0};
    const To high = x >= kEnd ? static_cast<To>(Range<kTo>::kHigh) : inside;
    return x < kBegin ? static_cast<To>(Range<kTo>::kLow) : high;
  } else {
    std::int64_t wide = static_cast<std::int64_t>(x);
    wide = wide < Range<kTo>::kLow ? Range<kTo>::kLow : wide;
    return static_cast<To>(wide > Range<kTo>::kHigh ? Range<kTo>::kHigh : wide);
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

bool all_f32(const KernelSpec& spec) {
  for (std::size_t i = 0; i < spec.in.size(); ++i) {
    if (spec.in[i].dtype != DType::f32) return false;
  }
  return spec.out[0].dtype == DType::f32;
}

bool f32_or_index(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return spec.in[1].dtype == type && (type == DType::f32 || type == DType::i32 || type == DType::i64);
}

bool any_type(const KernelSpec&) { return true; }

bool where_types(const KernelSpec& spec) {
  return spec.in[0].dtype == DType::boolean && spec.in[1].dtype == spec.in[2].dtype;
}

constexpr KernelEntry kTable[] = {
    {"add", f32_or_index, run_arithmetic<Add>},
    {"sub", f32_or_index, run_arithmetic<Sub>},
    {"mul", f32_or_index, run_arithmetic<Mul>},
    {"div", all_f32, run_binary_f32<Div>},
    {"maximum", all_f32, run_binary_f32<Maximum>},
    {"minimum", all_f32, run_binary_f32<Minimum>},
    {"pow", all_f32, run_binary_f32<Pow>},
    {"equal", f32_or_index, run_compare<Equal>},
    {"less", f32_or_index, run_compare<Less>},
    {"greater", f32_or_index, run_compare<Greater>},
    {"where", where_types, run_where},
    {"neg", all_f32, run_unary<neg>},
    {"abs", all_f32, run_unary<abs_f32>},
    {"exp", all_f32, run_unary<exp_f32>},
    {"log", all_f32, run_unary<log_f32>},
    {"sqrt", all_f32, run_unary<sqrt>},
    {"rsqrt", all_f32, run_unary<rsqrt>},
    {"reciprocal", all_f32, run_unary<reciprocal>},
    {"square", all_f32, run_unary<square>},
    {"sign", all_f32, run_unary<sign>},
    {"tanh", all_f32, run_unary<tanh_f32>},
    {"sigmoid", all_f32, run_unary<sigmoid_f32>},
    {"relu", all_f32, run_unary<relu>},
    {"gelu", all_f32, run_gelu},
    {"silu", all_f32, run_unary<saturated<silu>>},
    {"clamp", all_f32, run_clamp},
    {"affine", all_f32, run_affine},
    {"cast", any_type, run_cast},
    {"relu_backward", all_f32, run_relu_backward},
    {"tanh_backward", all_f32, run_backward<tanh_derivative>},
    {"sigmoid_backward", all_f32, run_backward<sigmoid_derivative>},
    {"silu_backward", all_f32, run_backward<saturated_both<silu_derivative>>},
    {"gelu_backward", all_f32, run_gelu_backward},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> elementwise_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
