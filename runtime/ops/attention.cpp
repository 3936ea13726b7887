#include <fmt/format.h>

#include "runtime/ops/checks.h"
#include "runtime/ops/families.h"
#include "trivet/base/error.h"
#include "trivet/kernels/attrs_attention.h"
#include "trivet/ops/grad_context.h"

namespace trivet {
namespace {

using kernels::AttentionAttrs;
using kernels::RotaryEmbeddingAttrs;

void require_heads(const OpContext& context, int input, const char* name) {
  if (context.in(input).rank() != 4) {
    context.fail(fmt::format("{} has rank {}, expected 4: (batch, heads, positions, elements of a head)", name,
                             context.in(input).rank()));
  }
  if (context.in(input).elements() == 0) context.fail(fmt::format("{} has no elements", name));
}

void require_mask(const OpContext& context, int input, const Shape& scores) {
  const TensorType& mask = context.in(input);
  if (mask.dtype != DType::f32 && mask.dtype != DType::boolean) {
    context.fail(
        fmt::format("mask is {}, expected f32 (added to the scores) or bool (true: attend)", dtype_name(mask.dtype)));
  }
  bool fits = mask.rank() <= 4;
  for (int i = 1; fits && i <= mask.rank(); ++i) {
    fits = mask.dim(-i) == 1 || mask.dim(-i) == scores[static_cast<std::size_t>(4 - i)];
  }
  if (!fits) {
    context.fail(fmt::format("mask has shape {}, which does not broadcast to the scores' {}", to_string(mask.shape),
                             to_string(scores)));
  }
}

// Checks q, k, v, which are inputs 0 to 2, and the mask; gives the shape of the scores.
Shape checked_scores(const OpContext& context, int mask) {
  require_compute_type(context, 0, "q");
  require_heads(context, 0, "q");
  require_heads(context, 1, "k");
  require_heads(context, 2, "v");
  const TensorType& q = context.in(0);
  const TensorType& k = context.in(1);
  const TensorType& v = context.in(2);
  if (q.dim(1) % k.dim(1) != 0) {
    context.fail(
        fmt::format("q has {} heads and k {}; the first must be a multiple of the second", q.dim(1), k.dim(1)));
  }
  require_type(context, 1, "k", {q.dtype, {q.dim(0), k.dim(1), k.dim(2), q.dim(3)}});
  require_type(context, 2, "v", {q.dtype, {q.dim(0), k.dim(1), k.dim(2), v.dim(3)}});
  const double scale = context.attrs<AttentionAttrs>().scale;
  if (!(scale >= 0) || !std::isfinite(scale)) {
    context.fail(fmt::format("attribute 'scale' is {}, expected a finite number of at least 0", scale));
  }
  const Shape scores = {q.dim(0), q.dim(1), q.dim(2), k.dim(2)};
  if (context.has(mask)) require_mask(context, mask, scores);
  return scores;
}

std::vector<TensorType> infer_attention(const OpContext& context) {
  const Shape scores = checked_scores(context, 3);
  const TensorType& q = context.in(0);
  return {{q.dtype, {q.dim(0), q.dim(1), q.dim(2), context.in(2).dim(3)}},
          {DType::f32, {scores[0], scores[1], scores[2]}}};
}

std::vector<TensorType> infer_attention_backward(const OpContext& context) {
  const Shape scores = checked_scores(context, 6);
  const TensorType& q = context.in(0);
  const TensorType y = {q.dtype, {q.dim(0), q.dim(1), q.dim(2), context.in(2).dim(3)}};
  require_type(context, 3, "y", y);
  require_type(context, 4, "lse", {DType::f32, {scores[0], scores[1], scores[2]}});
  require_type(context, 5, "dy", y);
  return {q, context.in(1), context.in(2)};
}

// Products of scores with k's and v's elements; a causal mask leaves out the keys behind the query.
template <int kWithK, int kWithV>
Cost attention_cost(const OpContext& context, std::span<const TensorType>) {
  const TensorType& q = context.in(0);
  const double keys = static_cast<double>(context.in(1).dim(2));
  const double queries = static_cast<double>(q.dim(2));
  const double seen = std::min(keys, queries);
  const double pairs = context.attrs<AttentionAttrs>().is_causal
                           ? seen * (seen + 1) / 2 + std::max(0.0, queries - keys) * keys
                           : queries * keys;
  const double heads = static_cast<double>(q.dim(0) * q.dim(1));
  const double elements = static_cast<double>(kWithK * q.dim(3) + kWithV * context.in(2).dim(3));
  return {.flops = heads * pairs * (2 * elements + 5), .matrix = true};
}

void attention_gradient(GradContext& context) {
  if (context.dout(1) != kNoValue || (context.has(3) && context.needs(3))) {
    throw Error(ErrorCode::graph,
                fmt::format("scaled_dot_product_attention: {} has no gradient",
                            context.dout(1) != kNoValue ? "output 1 (log-sum-exp)" : "the mask"),
                "write the attention as matmul and softmax where that gradient is wanted");
  }
  const std::vector<ValueId> d = context.apply_all(
      "scaled_dot_product_attention_backward",
      {context.in(0), context.in(1), context.in(2), context.out(0), context.out(1), context.dout(), context.in(3)},
      context.attrs_list());
  for (int i = 0; i < 3; ++i) {
    if (context.needs(i)) context.set(i, d[static_cast<std::size_t>(i)]);
  }
}

std::int64_t turned_elements(const OpContext& context) {
  const auto& attrs = context.attrs<RotaryEmbeddingAttrs>();
  const std::int64_t width = context.in(0).dim(3);
  const std::int64_t turned = attrs.rotary_embedding_dim == 0 ? width : attrs.rotary_embedding_dim;
  if (turned < 2 || turned > width || turned % 2 != 0) {
    context.fail(fmt::format("{} elements of a head of {} cannot be turned in pairs", turned, width),
                 "rotary_embedding_dim is an even number of at most the head's size; 0 takes all of it");
  }
  return turned;
}

std::vector<TensorType> infer_rotary(const OpContext& context) {
  require_compute_type(context, 0, "x");
  require_heads(context, 0, "x");
  const TensorType& x = context.in(0);
  const std::int64_t half = turned_elements(context) / 2;
  const double base = context.attrs<RotaryEmbeddingAttrs>().base;
  if (!(base > 0) || !std::isfinite(base)) {
    context.fail(fmt::format("attribute 'base' is {}, expected a finite number above 0", base));
  }
  if (context.has(1)) {
    const TensorType& positions = context.in(1);
    const TensorType one{DType::i64, {x.dim(2)}};
    const TensorType each{DType::i64, {x.dim(0), x.dim(2)}};
    if (positions != one && positions != each) {
      context.fail(
          fmt::format("positions is {}, expected {} or {}", to_string(positions), to_string(one), to_string(each)));
    }
  }
  if (context.has(2) != context.has(3)) context.fail("cos and sin must be given together");
  if (context.has(2)) {
    const TensorType& table = context.in(2);
    const TensorType of_positions{DType::f32, {table.rank() == 2 ? table.dim(0) : 1, half}};
    require_type(context, 2, "cos", context.has(1) ? of_positions : TensorType{DType::f32, {x.dim(0), x.dim(2), half}});
    require_type(context, 3, "sin", table);
    if (table.elements() == 0) context.fail("cos has no elements");
  } else if (!context.has(1)) {
    context.fail("neither positions nor cos and sin are given");
  }
  return {x};
}

Cost rotary_cost(const OpContext& context, std::span<const TensorType>) {
  return {.flops = 3 * static_cast<double>(context.in(0).elements())};
}

void rotary_gradient(GradContext& context) {
  context.set(0, context.apply("rotary_embedding_backward",
                               {context.dout(), context.in(1), context.in(2), context.in(3)}, context.attrs_list()));
}

OpDef rotary_op(const char* name, void (*gradient)(GradContext&)) {
  return {.name = name,
          .min_inputs = 1,
          .max_inputs = 4,
          .attrs = Attributes<RotaryEmbeddingAttrs>()
                       .flag("interleaved", &RotaryEmbeddingAttrs::interleaved, false)
                       .integer("rotary_embedding_dim", &RotaryEmbeddingAttrs::rotary_embedding_dim, 0)
                       .number("base", &RotaryEmbeddingAttrs::base, 10000),
          .infer = infer_rotary,
          .gradient = gradient,
          .cost = rotary_cost,
          .in_place = {{0, 0}}};
}

AttrSchema attention_attributes() {
  return Attributes<AttentionAttrs>()
      .flag("is_causal", &AttentionAttrs::is_causal, false)
      .number("scale", &AttentionAttrs::scale, 0);
}

}  // namespace

std::vector<OpDef> attention_ops() {
  return {
      // (q (B, H, T, D), k (B, G, S, D), v (B, G, S, E), [mask]) -> (y (B, H, T, E), lse f32 (B, H, T)):
      // softmax(scale q k^T + mask) v. Heads h share key head h G / H. A mask broadcasts to (B, H, T, S): f32 is added,
      // bool keeps where true. Rows that see no key give 0, and lse (the scores' log-sum-exp, for the backward op)
      // is -inf. q, k, v are all f32 or all bf16. As ONNX's Attention in its 4-D form. Computed block by block:
      // Dao, "FlashAttention-2" (2023), algorithm 1.
      {.name = "scaled_dot_product_attention",
       .min_inputs = 3,
       .max_inputs = 4,
       .attrs = attention_attributes(),
       .infer = infer_attention,
       .gradient = attention_gradient,
       .cost = attention_cost<1, 1>},
      // (q, k, v, y, lse, dy, [mask]) -> (dq, dk, dv). The scores are computed again: algorithm 2 of the same paper.
      {.name = "scaled_dot_product_attention_backward",
       .min_inputs = 6,
       .max_inputs = 7,
       .attrs = attention_attributes(),
       .infer = infer_attention_backward,
       .cost = attention_cost<3, 2>},
      // (x (B, H, T, D), [positions i64 (T) or (B, T)], [cos], [sin]) -> x with pairs of elements turned: Su et al.,
      // "RoFormer" (2021), section 3.2.2. The angles come from positions and `base`, or from cos and sin, f32: rows
      // of (P, half) by position, where positions outside of it give NaN, or without positions (B, T, half), as in
      // ONNX's RotaryEmbedding. x: f32 or bf16.
      rotary_op("rotary_embedding", rotary_gradient),
      // The same of dy with the opposite angles.
      rotary_op("rotary_embedding_backward", nullptr),
  };
}

}  // namespace trivet
