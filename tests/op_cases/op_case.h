// One case for each op. It drives the comparison of every device's kernels with a float64 reference, the gradient
// check by finite differences with random cotangents, and (in bench/) the micro-benchmark. A test fails if an op of
// the registry has no case.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trivet/graph/op.h"

namespace trivet::testing {

// A tensor of the reference: every dtype held as double (integers up to 2^53 are exact).
struct Ref {
  Shape shape;
  std::vector<double> data;
  std::int64_t size() const { return static_cast<std::int64_t>(data.size()); }
  double& operator[](std::int64_t i) { return data[static_cast<std::size_t>(i)]; }
  double operator[](std::int64_t i) const { return data[static_cast<std::size_t>(i)]; }
  static Ref zeros(Shape shape);
};

// How the driver fills an input before it is rounded to the dtype. All draws are Philox, so repeatable.
struct Fill {
  enum class Kind { normal, uniform, index, values } kind = Kind::normal;
  double a = 0;                     // normal: mean; uniform: low; index: integers from 0 ...
  double b = 1;                     // normal: standard deviation; uniform: high; index: ... to b - 1
  std::vector<double> values = {};  // values: repeated over the elements (NaN, infinities, ties, ...)
};

struct CaseInput {
  TensorType type;
  Fill fill = {};
  bool absent = false;  // an optional input left out
};

// One set of inputs and attributes. `name` says what is special about it ("broadcast_rows", "mean_1e4").
struct Variant {
  std::string name;
  std::vector<CaseInput> inputs;
  Attrs attrs = {};
  bool gradient = true;  // false where the op is not differentiable at these inputs (ties, infinities)
  // |error| <= tolerance * (scale + |reference|), scale being the tensor's largest element between 0.01 and 1; for
  // kernels in float32, larger where sums are long.
  double tolerance = 2e-6;
};

struct OpCase {
  std::string op;
  // Written from the definition, in plain loops over doubles; shares no code with any kernel.
  std::function<std::vector<Ref>(const std::vector<Ref>& in, const Variant& variant)> reference;
  std::vector<Variant> variants;  // small ones first; odd sizes (1, 3, 33, 1025), broadcasts, extreme values
  // Inputs whose gradient is checked by central differences of `reference` (float inputs). Empty: all float inputs.
  std::vector<int> differentiable = {};
  // Inputs that may be bf16 together. Not empty: the values of each variant are checked with bf16 there as well.
  std::vector<int> bf16_inputs = {};
};

// Attribute of a variant, or the schema's default.
AttrValue attribute(const std::string& op, const Variant& variant, const std::string& name);

// What a kernel for tensor cores is allowed for an output of type `type`. There attention's weights and slopes are
// factors of 16 bits, so for the gradients, sums of such products, it is four times the largest relative error of a
// rounding to that type; otherwise it is the variant's.
double tensor_core_tolerance(const OpCase& op_case, const Variant& variant, DType type);

std::vector<OpCase> elementwise_cases();
std::vector<OpCase> reduction_cases();
std::vector<OpCase> shape_cases();
std::vector<OpCase> padding_cases();
std::vector<OpCase> matrix_cases();
std::vector<OpCase> convolution_cases();
std::vector<OpCase> pooling_cases();
std::vector<OpCase> normalization_cases();
std::vector<OpCase> row_normalization_cases();
std::vector<OpCase> softmax_cases();
std::vector<OpCase> loss_cases();
std::vector<OpCase> pointwise_loss_cases();
std::vector<OpCase> random_cases();
std::vector<OpCase> optimizer_cases();
std::vector<OpCase> unary_cases();
std::vector<OpCase> activation_cases();
std::vector<OpCase> indexing_cases();
std::vector<OpCase> sorting_cases();
std::vector<OpCase> resize_cases();
std::vector<OpCase> recurrent_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> quantization_cases();
std::vector<OpCase> ranks_cases();

std::vector<OpCase> all_cases();

}  // namespace trivet::testing
