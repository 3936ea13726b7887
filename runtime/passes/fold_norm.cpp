#include <fmt/format.h>

#include "runtime/passes/readers.h"
#include "trivet/kernels/attrs_normalization.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/quantize.h"

namespace trivet {
namespace {

class NormFolder {
 public:
  explicit NormFolder(const Graph& graph)
      : graph_(graph), readers_(graph), result_(graph.name()), copier_(graph, result_) {}

  Graph run() {
    std::set<const Node*> done;
    for (const Node& node : graph_.nodes()) {
      if (done.contains(&node)) continue;
      const Node* norm = norm_behind(node);
      if (!norm) {
        copier_.copy(node);
        continue;
      }
      fold(node, *norm);
      done.insert(norm);
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  // The norm that this product can take in, whose parameters are there before any node runs.
  const Node* norm_behind(const Node& node) const {
    if ((node.op->name != "linear" && node.op->name != "conv2d") || !takes_activation(node)) return nullptr;
    const ValueId y = node.outputs[0];
    const Node* const norm = readers_.sole(y, "batch_norm");
    if (!norm || norm->inputs[0] != y || graph_.type(y).dtype != DType::f32) return nullptr;
    if (norm->inputs.size() > 5 && norm->inputs[5] != kNoValue) return nullptr;
    for (std::size_t i = 1; i < 5; ++i) {
      const ValueKind kind = graph_.value(norm->inputs[i]).kind;
      if (kind != ValueKind::state && kind != ValueKind::constant) return nullptr;
    }
    return norm;
  }

  // w' = w * s and b' = beta + (b - mean) * s, with s = gamma / sqrt(var + epsilon).
  void fold(const Node& product, const Node& norm) {
    enum { kX, kGamma, kBeta, kMean, kVar };
    const auto parameter = [&](int i) { return copier_(norm.inputs[static_cast<std::size_t>(i)]); };
    const auto named = [&](const char* what) { return norm.name + what; };
    const double epsilon = norm.attributes<kernels::BatchNormAttrs>().epsilon;
    const ValueId var = apply(result_, "affine", {parameter(kVar)}, {{"shift", epsilon}}, named(".variance"));
    const ValueId scale = apply(result_, "mul", {parameter(kGamma), apply(result_, "rsqrt", {var}, {}, named(".rstd"))},
                                {}, named(".scale"));
    const ValueId w = copier_(product.inputs[1]);
    Shape rows(graph_.type(product.inputs[1]).shape.size(), 1);
    rows[0] = graph_.type(product.inputs[1]).dim(0);
    const ValueId row_scale = apply(result_, "reshape", {scale}, {{"shape", rows}}, named(".row_scale"));
    const ValueId weights = apply(result_, "mul", {w, row_scale}, {}, named(".weights"));
    const bool biased = product.inputs.size() > 2 && product.inputs[2] != kNoValue;
    const ValueId mean = parameter(kMean);
    const ValueId from = biased ? apply(result_, "sub", {copier_(product.inputs[2]), mean}, {}, named(".centred"))
                                : apply(result_, "neg", {mean}, {}, named(".centred"));
    const ValueId bias =
        apply(result_, "add", {parameter(kBeta), apply(result_, "mul", {from, scale}, {}, named(".shift"))}, {},
              named(".offset"));
    const Attrs attrs = with_attribute(product.attrs, "activation", *find_attribute(norm, "activation"));
    const ValueId y = result_.add(*product.op, {copier_(product.inputs[kX]), weights, bias}, attrs, norm.name).front();
    copier_.map(norm.outputs[0], y);
  }

  const Graph& graph_;
  const Readers readers_;
  Graph result_;
  GraphCopier copier_;
};

}  // namespace

Graph fold_batch_norm(const Graph& graph) { return NormFolder(graph).run(); }

}  // namespace trivet
