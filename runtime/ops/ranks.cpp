#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/kernels/attrs_ranks.h"

namespace trivet {
namespace {

using kernels::RootedRanksAttrs;
using kernels::SumRanksAttrs;

constexpr int kMostSummed = 256;  // tensors of one sum, or of one broadcast

// The first `count` inputs.
std::vector<TensorType> tensors_of_a_sum(const OpContext& context, int count) {
  std::vector<TensorType> out;
  for (int i = 0; i < count; ++i) {
    require_compute_type(context, i, fmt::format("tensor {}", i));
    if (context.in(i).dtype != context.in(0).dtype) context.fail("the tensors of one sum must have one type");
    out.push_back(context.in(i));
  }
  return out;
}

std::vector<TensorType> infer_sum_ranks(const OpContext& context) {
  const auto& attrs = context.attrs<SumRanksAttrs>();
  if (attrs.number < 0) context.fail(fmt::format("attribute 'number' is {}, expected at least 0", attrs.number));
  if (attrs.ranks < 1) context.fail(fmt::format("attribute 'ranks' is {}, expected at least 1", attrs.ranks));
  return tensors_of_a_sum(context, context.num_inputs());
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

void check_rooted(const OpContext& context) {
  const auto& attrs = context.attrs<RootedRanksAttrs>();
  if (attrs.number < 0) context.fail(fmt::format("attribute 'number' is {}, expected at least 0", attrs.number));
  if (attrs.ranks < 1) context.fail(fmt::format("attribute 'ranks' is {}, expected at least 1", attrs.ranks));
  if (attrs.root < 0 || attrs.root >= attrs.ranks) {
    context.fail(
        fmt::format("attribute 'root' is {}, expected one of the {} ranks, counted from 0", attrs.root, attrs.ranks));
  }
}

std::vector<TensorType> infer_token(const OpContext& context) {
  check_rooted(context);
  return {{DType::f32, {}}};
}

std::vector<TensorType> infer_receive(const OpContext& context) {
  check_rooted(context);
  if (context.num_inputs() % 2 != 0) {
    context.fail(fmt::format("has {} inputs, expected as many to wait for as to receive", context.num_inputs()));
  }
  std::vector<TensorType> out;
  for (int i = 0; i < context.num_inputs() / 2; ++i) out.push_back(context.in(i));
  return out;
}

// Each byte leaves the root once, or comes to a rank once.
Cost send_cost(const OpContext& context, std::span<const TensorType>) {
  double bytes = 0;
  for (int i = 0; i < context.num_inputs(); ++i) bytes += static_cast<double>(context.in(i).bytes());
  return {.flops = 0, .bytes = bytes};
}

Cost receive_cost(const OpContext&, std::span<const TensorType> out) {
  double bytes = 0;
  for (const TensorType& type : out) bytes += static_cast<double>(type.bytes());
  return {.flops = 0, .bytes = bytes};
}

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

std::vector<TensorType> infer_reduce_start(const OpContext& context) {
  check_rooted(context);
  return tensors_of_a_sum(context, context.num_inputs());
}

std::vector<TensorType> infer_reduce_wait(const OpContext& context) {
  check_rooted(context);
  if (context.num_inputs() < 2) context.fail("has no tensor, expected some and one to wait for");
  return tensors_of_a_sum(context, context.num_inputs() - 1);
}

// What a rank sends: of each of n parts its own to the rank that adds it, n - 1 times, and the sum of one to the root.
Cost reduce_cost(const OpContext& context, std::span<const TensorType> out) {
  double bytes = 0, elements = 0;
  for (const TensorType& type : out) {
    bytes += static_cast<double>(type.bytes());
    elements += static_cast<double>(type.elements());
  }
  const auto ranks = static_cast<double>(context.attrs<RootedRanksAttrs>().ranks);
  return {.flops = elements * (ranks - 1) / ranks, .bytes = bytes};
}

AttrSchema rooted_attributes() {
  return Attributes<RootedRanksAttrs>()
      .integer("number", &RootedRanksAttrs::number, 0)
      .integer("ranks", &RootedRanksAttrs::ranks, 1)
      .integer("root", &RootedRanksAttrs::root, 0);
}

OpDef rooted_op(std::string name, int min_inputs, int max_inputs, std::vector<TensorType> (*infer)(const OpContext&),
                Cost (*cost)(const OpContext&, std::span<const TensorType>)) {
  return {.name = std::move(name),
          .min_inputs = min_inputs,
          .max_inputs = max_inputs,
          .attrs = rooted_attributes(),
          .infer = infer,
          .cost = cost};
}

// The outputs have the places of the inputs.
OpDef in_place(OpDef op) {
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
      // (tensors ...) -> the same, of which nothing may be read before the node that waits for that number: their sums
      // for rank `root` are under way.
      in_place(rooted_op("reduce_ranks_start", 1, kMostSummed, infer_reduce_start, reduce_cost)),
      // (tensors ..., other) -> the sums, on rank `root`. `other` may be left out and is not read: the node waits for
      // it, so that it does not hold up what is to be done before.
      in_place(rooted_op("reduce_ranks_wait", 1, kMostSummed + 1, infer_reduce_wait, no_cost)),
      // (tensors ..., other) -> 0, on the other ranks: their part is on its way and the tensors are needed no more.
      rooted_op("reduce_ranks_sent", 1, kMostSummed + 1, infer_token, no_cost),
      // (tensors ...) -> 0: gives them to the other ranks, where they are there when the run ends.
      rooted_op("broadcast_ranks_send", 1, kMostSummed, infer_token, send_cost),
      // (n tensors, n others) -> the first n, which have the values of rank `root` when the run ends. The others are
      // not read: the node waits for them.
      in_place(rooted_op("broadcast_ranks_receive", 2, 2 * kMostSummed, infer_receive, receive_cost)),
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
