// Casts between all dtypes. By way of f32 for the float types of 16 bits.
#include "kernels/cuda/families.h"
#include "kernels/cuda/map.cuh"
#include "trivet/kernels/attrs_elementwise.h"

namespace trivet::kernels::cuda {
namespace {

template <class T>
inline constexpr bool kSmallFloat = sizeof(T) == 2;  // no integer type has two bytes
template <class T>
inline constexpr bool kFloat = static_cast<T>(0.5) != T{0};

// The range of an integer type, from its lowest number to one above its largest: both are powers of two or 0, and so
// exact as float.
template <class To>
struct Range {
  static constexpr bool kSigned = static_cast<To>(-1) < To{0};
  static constexpr int kBits = 8 * static_cast<int>(sizeof(To)) - (kSigned ? 1 : 0);
  static constexpr std::uint64_t kEnd = std::uint64_t{1} << (kBits % 64);
  static constexpr To kHighest = static_cast<To>(kEnd - 1);
  static constexpr To kLowest = kSigned ? static_cast<To>(std::uint64_t{0} - kEnd) : To{0};
};

// Fractions are cut off, what is outside becomes the nearest end, NaN becomes 0.
template <class To, class From>
TRIVET_DEVICE To integer_of(From x) {
  constexpr From kEnd = static_cast<From>(Range<To>::kEnd);
  constexpr From kLow = static_cast<From>(Range<To>::kLowest);
  // What is converted is inside; choices instead of branches, of which a pack of 16 would have too many.
  const From inside = x >= kLow && x < kEnd ? x : From{0};
  const To high = x >= kEnd ? Range<To>::kHighest : static_cast<To>(static_cast<std::int64_t>(inside));
  return x < kLow ? Range<To>::kLowest : high;
}

template <class To, class From>
TRIVET_DEVICE To converted(From x) {
  if constexpr (kSmallFloat<From>) {
    return converted<To>(widen(x));
  } else if constexpr (kSmallFloat<To>) {
    return narrow<To>(converted<float>(x));
  } else if constexpr (kFloat<To>) {
    return static_cast<To>(x);
  } else if constexpr (kFloat<From>) {
    return integer_of<To>(x);
  } else {
    constexpr auto kLow = static_cast<std::int64_t>(Range<To>::kLowest);
    constexpr auto kHigh = static_cast<std::int64_t>(Range<To>::kHighest);
    const auto wide = static_cast<std::int64_t>(x);
    const std::int64_t raised = wide < kLow ? kLow : wide;
    return static_cast<To>(raised > kHigh ? kHigh : raised);
  }
}

template <class To>
struct Convert {
  template <class From>
  TRIVET_DEVICE To operator()(From x) const {
    return converted<To>(x);
  }
};

// Everything but 0 is true, NaN too.
struct ToBool {
  template <class From>
  TRIVET_DEVICE std::uint8_t operator()(From x) const {
    if constexpr (kSmallFloat<From>) {
      return widen(x) != 0.0f ? 1 : 0;
    } else {
      return x != From{0} ? 1 : 0;
    }
  }
};

template <class F>
void with_type(DType type, const F& f) {
  if (type == DType::f64) return f(double{});
  if (is_compute_type(type)) return with_compute_type(type, f);
  with_integer_type(type, f);
}

void run_cast(const KernelArgs& args) {
  const DType to = args.attributes<CastAttrs>().to;
  with_type(args.in[0].dtype, [&](auto from) {
    using From = decltype(from);
    if (to == DType::boolean) return map<std::uint8_t, From>(args, ToBool{});
    with_type(to, [&](auto target) {
      using To = decltype(target);
      map<To, From>(args, Convert<To>{});
    });
  });
}

constexpr KernelEntry kTable[] = {{"cast", any_type, run_cast}};

}  // namespace

std::span<const KernelEntry> cast_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
