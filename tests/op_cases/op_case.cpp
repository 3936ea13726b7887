#include "tests/op_cases/op_case.h"

#include <fmt/format.h>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {

Ref Ref::zeros(Shape shape) {
  Ref ref;
  ref.data.assign(static_cast<std::size_t>(element_count(shape)), 0.0);
  ref.shape = std::move(shape);
  return ref;
}

AttrValue attribute(const std::string& op, const Variant& variant, const std::string& name) {
  const Attrs attrs = require_op(op).attrs.complete(variant.attrs, fmt::format("{}/{}", op, variant.name));
  for (const auto& [key, value] : attrs) {
    if (key == name) return value;
  }
  throw Error(ErrorCode::internal,
              fmt::format("the case of op '{}' reads attribute '{}', which is not declared", op, name));
}

double tensor_core_tolerance(const OpCase& op_case, const Variant& variant, DType type) {
  if (op_case.op != "scaled_dot_product_attention_backward") return variant.tolerance;
  return type == DType::bf16 ? 4 * 0x1p-8 : type == DType::f16 ? 4 * 0x1p-11 : variant.tolerance;
}

std::vector<OpCase> all_cases() {
  std::vector<OpCase> all;
  for (auto family : {elementwise_cases,  reduction_cases,     shape_cases,
                      padding_cases,      matrix_cases,        convolution_cases,
                      pooling_cases,      normalization_cases, row_normalization_cases,
                      softmax_cases,      loss_cases,          pointwise_loss_cases,
                      random_cases,       optimizer_cases,     unary_cases,
                      activation_cases,   indexing_cases,      sorting_cases,
                      resize_cases,       recurrent_cases,     attention_cases,
                      quantization_cases, ranks_cases}) {
    for (OpCase& op_case : family()) all.push_back(std::move(op_case));
  }
  return all;
}

}  // namespace trivet::testing
