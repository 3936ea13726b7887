// What the plan compiler needs to know of a device. Devices (trivet/exec/device.h) implement it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet {

// What the machine can do at best, measured on it; per second.
struct Ceilings {
  double matrix_flops = 0;       // matrix products, f32
  double bf16_matrix_flops = 0;  // matrix products, bf16 with f32 sums
  double int8_matrix_flops = 0;  // matrix products, 8-bit integers with 32-bit sums
  double vector_flops = 0;       // everything else
  double memory_bytes = 0;       // data larger than the caches, bytes read plus bytes written: a copy
  double triad_bytes = 0;        // the same for two arrays read and one written
  double cache_bytes = 0;        // data that stays in the caches
  double launch_seconds = 0;     // cost of starting one kernel
  std::size_t cache_size = 0;

  // The rate of matrix products whose operands have this type.
  double matrix_rate(DType type) const {
    if (type == DType::bf16) return bf16_matrix_flops;
    return type == DType::u8 || type == DType::i8 ? int8_matrix_flops : matrix_flops;
  }
};

class Target {
 public:
  virtual ~Target() = default;
  // "cpu avx512, 2 threads": part of the plan's hash, because kernels are chosen by it.
  virtual std::string description() const = 0;
  virtual const kernels::KernelEntry* find(std::string_view op) const = 0;  // null: no kernel
  virtual int threads() const = 0;
  virtual std::size_t alignment() const = 0;  // of every buffer, in bytes
  // To be called by the thread that prepares or runs kernels.
  virtual void enter() const = 0;
};

}  // namespace trivet
