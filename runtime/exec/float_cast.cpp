#include "trivet/exec/float_cast.h"

#include <fmt/format.h>

#include <cstring>

#include "kernels/math/small_float.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using kernels::BFloat16;
using kernels::Float16;

template <class From, class To>
void cast_all(std::span<const std::byte> bytes, std::span<std::byte> out) {
  for (std::size_t i = 0; i < out.size() / sizeof(To); ++i) {
    From x;
    std::memcpy(&x, bytes.data() + i * sizeof(From), sizeof x);
    const To y = kernels::from_f32<To>(kernels::to_f32(x));
    std::memcpy(out.data() + i * sizeof(To), &y, sizeof y);
  }
}

// Calls f with a value of the float's type; false for other dtypes.
template <class F>
bool with_float(DType dtype, const F& f) {
  if (dtype == DType::f32) return f(float{}), true;
  if (dtype == DType::bf16) return f(BFloat16{}), true;
  if (dtype == DType::f16) return f(Float16{}), true;
  return false;
}

}  // namespace

Tensor float_cast(const TensorType& type, std::span<const std::byte> bytes, DType to) {
  Tensor result(TensorType{to, type.shape});
  const bool known = with_float(type.dtype, [&](auto from) {
    if (!with_float(to, [&](auto target) { cast_all<decltype(from), decltype(target)>(bytes, result.data); })) {
      result = {};
    }
  });
  if (!known || result.type.dtype != to || bytes.size() != type.bytes()) {
    throw Error(ErrorCode::graph, fmt::format("cannot cast {} of {} bytes to {}: f32, bf16 and f16 are possible",
                                              to_string(type), bytes.size(), dtype_name(to)));
  }
  return result;
}

}  // namespace trivet
