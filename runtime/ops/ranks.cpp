#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_ranks.h"

namespace trivet {
namespace {

using kernels::SumRanksAttrs;

constexpr int kMostSummed = 256;  // tensors of one sum

std::vector<TensorType> infer_sum_ranks(const OpContext& context) {
  const auto& attrs = context.attrs<SumRanksAttrs>();
  if (attrs.number < 0) context.fail(fmt::format("attribute 'number' is {}, expected at least 0", attrs.number));
  if (attrs.ranks < 1) context.fail(fmt::format("attribute 'ranks' is {}, expected at least 1", attrs.ranks));
  std::vector<TensorType> out;
  for (int i = 0; i < context.num_inputs(); ++i) {
    require_f32_or_bf16(context, i, fmt::format("tensor {}", i));
    if (context.in(i).dtype != context.in(0).dtype) context.fail("the tensors of one sum must have one type");
    out.push_back(context.in(i));
  }
  return out;
}

// What a rank sends at least, and receives: each of n parts of the data n - 1 times for the sum and n - 1 times for its
// result. Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations" (2009).
Cost start_cost(const OpContext& context, std::span<const TensorType> out) {
  double bytes = 0, elements = 0;
  for (const TensorType& type : out) {
    bytes += static_cast<double>(type.bytes());
    elements += static_cast<double>(type.elements());
  }
  const auto ranks = static_cast<double>(context.attrs<SumRanksAttrs>().ranks);
  return {.flops = elements * (ranks - 1) / ranks, .bytes = 2 * bytes * (ranks - 1) / ranks};
}

Cost no_cost(const OpContext&, std::span<const TensorType>) { return {.flops = 0, .bytes = 0}; }

std::vector<TensorType> infer_assign(const OpContext& context) {
  require_type(context, 1, "value", context.in(0));
  return {context.in(0)};
}

Cost assign_cost(const OpContext&, std::span<const TensorType> out) {
  return {.flops = 0, .bytes = 2 * static_cast<double>(out[0].bytes())};
}

OpDef sum_op(std::string name, Cost (*cost)(const OpContext&, std::span<const TensorType>)) {
  OpDef op{.name = std::move(name),
           .min_inputs = 1,
           .max_inputs = kMostSummed,
           .attrs = Attributes<SumRanksAttrs>()
                        .integer("number", &SumRanksAttrs::number, 0)
                        .integer("ranks", &SumRanksAttrs::ranks, 1),
           .infer = infer_sum_ranks,
           .cost = cost};
  for (int i = 0; i < kMostSummed; ++i) op.in_place.emplace_back(i, i);
  return op;
}

}  // namespace

std::vector<OpDef> ranks_ops() {
  return {
      // (tensors ...) -> the same, of which nothing may be read before the sum_ranks_wait of that number: their sums
      // over all ranks are under way. For one rank both ops give what they are given.
      sum_op("sum_ranks_start", start_cost),
      sum_op("sum_ranks_wait", no_cost),
      // (x, value) -> value, in the memory of x: how a state gets a value that was not computed in its place.
      {.name = "assign",
       .min_inputs = 2,
       .max_inputs = 2,
       .infer = infer_assign,
       .cost = assign_cost,
       .in_place = {{0, 0}}},
  };
}

}  // namespace trivet
