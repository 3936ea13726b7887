// Tensors for tests of kernels.
#pragma once

#include <cmath>
#include <cstdlib>
#include <memory>

#include "kernels/math/small_float.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::testing {

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Memory = std::unique_ptr<void, Free>;

inline Memory allocate(std::size_t bytes) { return Memory(std::aligned_alloc(64, bytes / 64 * 64 + 64)); }

enum class Numbers { fractions, integers };

// Numbers that repeat: fractions from -1 to 1, or integers from -3 to 3, which every type holds.
struct Operand {
  Operand(DType type, std::initializer_list<std::int64_t> shape, std::uint32_t seed = 0,
          Numbers numbers = Numbers::fractions) {
    view.dtype = type;
    for (const std::int64_t size : shape) view.shape[view.rank++] = size;
    memory = allocate(view.bytes());
    view.data = memory.get();
    seed += static_cast<std::uint32_t>(view.elements());
    for (std::int64_t i = 0; i < view.elements(); ++i) {
      seed = seed * 1664525U + 1013904223U;
      const float fraction = static_cast<float>(seed >> 8) / 8388608.0F - 1.0F;
      set(i, numbers == Numbers::integers ? std::round(3 * fraction) : fraction);
    }
  }

  void set(std::int64_t i, float value) {
    switch (view.dtype) {
      case DType::f32:
        view.as<float>()[i] = value;
        break;
      case DType::bf16:
        view.as<BFloat16>()[i] = from_f32<BFloat16>(value);
        break;
      default:
        view.as<std::int8_t>()[i] = static_cast<std::int8_t>(value);
    }
  }
  float get(std::int64_t i) const {
    return view.dtype == DType::bf16 ? to_f32(view.as<BFloat16>()[i]) : view.as<float>()[i];
  }

  View view;
  Memory memory;
};

}  // namespace trivet::kernels::testing
