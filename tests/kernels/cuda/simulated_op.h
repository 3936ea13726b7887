// Calls CUDA kernels in the simulator with the inputs of op cases.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "tests/ops/op_case_driver.h"
#include "trivet/kernels/kernel.h"

namespace trivet::testing {

// A variant with its 16-bit floats as bf16, the way that cases have them, or as f16.
struct SimulatedOp {
  CaseVariant variant;
  bool as_f16 = false;

  DType dtype_of(DType given) const { return as_f16 && given == DType::bf16 ? DType::f16 : given; }
  std::string name() const { return variant.name() + (as_f16 ? " as f16" : ""); }
};

// The variant's inputs.
std::vector<Tensor> inputs_of(const SimulatedOp& op);

enum class Support { yes, no_kernel, not_these_types };
Support support_of(const SimulatedOp& op);

// The largest number of elements among inputs and outputs.
std::int64_t largest_tensor(const SimulatedOp& op);

// Runs the kernel. Outputs and workspace start as NaN; writing to an input, or behind a buffer, is a failure of the
// test (and, of reading, an error of the address sanitizer). `in_place` are pairs (output, input) that share memory.
std::vector<Tensor> simulate(const SimulatedOp& op, std::span<const Tensor> inputs,
                             std::span<const std::pair<int, int>> in_place = {});

}  // namespace trivet::testing
