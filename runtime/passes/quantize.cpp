#include "trivet/passes/quantize.h"

#include <fmt/format.h>

#include <cmath>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// Ops that u8 numbers pass through unchanged in meaning. A relu does: what is behind one cannot be negative, so its
// zero point is 0, and clamping to u8 cuts the rest off. A max_pool does, because rounding keeps the order of numbers.
bool passes_bytes(const Node& node) {
  static const std::set<std::string_view> kOps = {"reshape", "relu", "max_pool"};
  return kOps.contains(node.op->name);
}

bool has_relu(const Node& node) {
  if (node.op->name == "relu") return true;
  return std::any_of(node.attrs.begin(), node.attrs.end(), [](const auto& attr) {
    return attr.first == "activation" && std::holds_alternative<std::string>(attr.second) &&
           std::get<std::string>(attr.second) == "relu";
  });
}

// What is known of a graph's values before it is rewritten.
class Analysis {
 public:
  explicit Analysis(const Graph& graph)
      : graph_(graph),
        fixed_(graph.values().size()),
        non_negative_(graph.values().size()),
        scale_(graph.values().size(), kNoValue) {
    for (std::size_t i = 0; i < fixed_.size(); ++i) {
      const ValueKind kind = graph.values()[i].kind;
      fixed_[i] = kind == ValueKind::state || kind == ValueKind::constant;
    }
    for (const Node& node : graph.nodes()) {
      const bool fixed = std::all_of(node.inputs.begin(), node.inputs.end(),
                                     [&](ValueId v) { return v == kNoValue || fixed_[at(v)]; });
      const bool kept = passes_bytes(node) && non_negative_[at(node.inputs[0])];
      for (const ValueId v : node.outputs) {
        fixed_[at(v)] = fixed && !node.inputs.empty();
        non_negative_[at(v)] = has_relu(node) || kept;
      }
    }
    for (const Node& node : graph.nodes()) {
      if (is_product(node)) scale_[at(node.inputs[0])] = node.inputs[0];
    }
    find_ways_in_bytes();
  }

  // Whether the node becomes one of 8 bits. Very small ones are not worth it, and sums of more products than the least
  // that may overflow 32 bits are not possible.
  bool is_product(const Node& node) const {
    if (node.op->name != "linear" && node.op->name != "conv2d") return false;
    const TensorType& w = graph_.type(node.inputs[1]);
    const bool biased = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
    const std::int64_t taps = w.elements() / std::max<std::int64_t>(w.dim(0), 1);
    return graph_.type(node.inputs[0]).dtype == DType::f32 && w.dtype == DType::f32 && !fixed_[at(node.inputs[0])] &&
           fixed_[at(node.inputs[1])] && (!biased || graph_.type(node.inputs[2]).dtype == DType::f32) &&
           w.dim(0) >= kLeastChannels && taps >= kLeastTaps && taps <= kMostTaps;
  }

  // The value whose scale this one has when it is u8; none if it stays in f32 for some reader.
  ValueId scale_of(ValueId v) const { return scale_[at(v)]; }
  bool all_in_bytes(ValueId v) const { return scale_[at(v)] != kNoValue && only_bytes_[at(v)]; }
  bool is_non_negative(ValueId v) const { return non_negative_[at(v)]; }

  // The values that have scales of their own, in the order of the graph.
  std::vector<ValueId> scaled() const {
    std::vector<ValueId> result;
    for (std::size_t i = 0; i < scale_.size(); ++i) {
      if (scale_[i] == static_cast<ValueId>(i)) result.push_back(scale_[i]);
    }
    return result;
  }

 private:
  static constexpr std::int64_t kLeastChannels = 16;
  static constexpr std::int64_t kLeastTaps = 32;
  static constexpr std::int64_t kMostTaps = ((std::int64_t{1} << 31) - 1) / (255 * 128);

  // From the end to the front: a value is in bytes for all if every reader takes it so, with one and the same scale.
  void find_ways_in_bytes() {
    only_bytes_.assign(graph_.values().size(), true);
    for (const NamedValue& o : graph_.outputs()) only_bytes_[at(o.value)] = false;
    for (const Update& u : graph_.updates()) only_bytes_[at(u.value)] = false;
    for (std::size_t n = graph_.nodes().size(); n-- > 0;) {
      const Node& node = graph_.nodes()[n];
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (node.inputs[i] != kNoValue) note_reader(node, i);
      }
    }
  }

  void note_reader(const Node& node, std::size_t input) {
    const ValueId v = node.inputs[input];
    if (is_product(node) && input == 0) return;
    const ValueId behind = passes_bytes(node) && all_in_bytes(node.outputs[0]) ? scale_of(node.outputs[0]) : kNoValue;
    ValueId& own = scale_[at(v)];
    if (behind == kNoValue || (own != kNoValue && own != behind)) {
      only_bytes_[at(v)] = false;
    } else {
      own = behind;
    }
  }

  const Graph& graph_;
  std::vector<bool> fixed_;  // depends on parameters and constants alone
  std::vector<bool> non_negative_;
  std::vector<ValueId> scale_;
  std::vector<bool> only_bytes_;
};

class Rewriter {
 public:
  explicit Rewriter(const Graph& graph)
      : graph_(graph), known_(graph), result_(graph.name()), copier_(graph, result_) {}

  Graph run() {
    for (const Node& node : graph_.nodes()) {
      if (known_.is_product(node)) {
        add_product(node);
      } else if (takes_bytes(node)) {
        const ValueId x = bytes_of(node.inputs[0], known_.scale_of(node.outputs[0]));
        bytes_[{node.outputs[0], known_.scale_of(node.outputs[0])}] =
            node.op->name == "relu" ? x : result_.add(*node.op, {x}, node.attrs, node.name).front();
      } else {
        copier_.copy(node);
      }
    }
    copier_.finish();
    return std::move(result_);
  }

 private:
  struct Scale {
    ValueId scale, zero_point;
  };

  // Of the value in the given graph, which names it.
  Scale scale_of(ValueId v) {
    const auto [known, added] = scales_.try_emplace(v);
    if (added) {
      const std::string& name = graph_.value(v).name;
      known->second.scale =
          result_.state("scale/" + name, {DType::f32, {}}, MemoryClass::activations, {Init::Kind::constant, 1});
      known->second.zero_point = known_.is_non_negative(v)
                                     ? result_.constant(Tensor({DType::u8, {}}), "zero")
                                     : result_.state("zero_point/" + name, {DType::u8, {}}, MemoryClass::activations);
    }
    return known->second;
  }

  // The value in u8, with the scale of the value `scaled`.
  ValueId bytes_of(ValueId v, ValueId scaled) {
    const auto [known, added] = bytes_.try_emplace({v, scaled}, kNoValue);
    if (added) {
      const Scale s = scale_of(scaled);
      known->second = apply(result_, "quantize_linear", {copier_(v), s.scale, s.zero_point}, {},
                            fmt::format("{}.u8", graph_.value(v).name));
    }
    return known->second;
  }

  // Where its input is not there in u8, a max_pool stays in f32: its result has fewer numbers to be made u8.
  bool takes_bytes(const Node& node) const {
    if (!passes_bytes(node) || !known_.all_in_bytes(node.outputs[0])) return false;
    return node.op->name != "max_pool" || bytes_.contains({node.inputs[0], known_.scale_of(node.outputs[0])});
  }

  // i8 weights (N, ..) and their scales (N).
  std::array<ValueId, 2> weights_of(const Node& node) {
    const ValueId w = copier_(node.inputs[1]);
    std::vector<std::int64_t> axes;
    for (int i = 1; i < result_.type(w).rank(); ++i) axes.push_back(i);
    const auto named = [&](const char* what) { return node.name + what; };
    const ValueId magnitude = apply(result_, "reduce_max", {apply(result_, "abs", {w}, {}, named(".magnitudes"))},
                                    {{"axes", axes}, {"keepdims", false}}, named(".magnitude"));
    // A channel of zeros alone has a scale as well.
    const ValueId scale =
        apply(result_, "clamp", {apply(result_, "affine", {magnitude}, {{"scale", 1.0 / 127}}, named(".step"))},
              {{"min", 1e-30}}, named(".weight_scale"));
    const Attrs attrs = {{"axis", std::int64_t{0}}, {"dtype", std::string("i8")}};
    return {apply(result_, "quantize_linear", {w, scale}, attrs, named(".weights_i8")), scale};
  }

  void add_product(const Node& node) {
    const ValueId x = node.inputs[0];
    const ValueId y = node.outputs[0];
    const Scale x_scale = scale_of(x);
    const auto [w, w_scale] = weights_of(node);
    const ValueId bias = node.inputs.size() > 2 ? copier_(node.inputs[2]) : kNoValue;
    std::vector<ValueId> inputs = {bytes_of(x, x), x_scale.scale, x_scale.zero_point, w, w_scale, bias};
    const bool in_bytes = known_.all_in_bytes(y);
    if (in_bytes) {
      const Scale y_scale = scale_of(known_.scale_of(y));
      inputs.insert(inputs.end(), {y_scale.scale, y_scale.zero_point});
    }
    const ValueId out = apply(result_, node.op->name + "_int8", std::move(inputs), node.attrs, node.name);
    if (in_bytes) {
      bytes_[{y, known_.scale_of(y)}] = out;
    } else {
      copier_.map(y, out);
    }
  }

  const Graph& graph_;
  const Analysis known_;
  Graph result_;
  GraphCopier copier_;
  std::map<ValueId, Scale> scales_;
  std::map<std::pair<ValueId, ValueId>, ValueId> bytes_;  // by value and the one whose scale it has
};

}  // namespace

Graph quantize(const Graph& graph) { return Rewriter(graph).run(); }

Graph with_ranges(const Graph& graph) {
  const Analysis known(graph);
  Graph result(graph.name() + ".ranges");
  GraphCopier copier(graph, result);
  for (const Node& node : graph.nodes()) copier.copy(node);
  copier.finish();
  for (const ValueId v : known.scaled()) {
    const std::string& name = graph.value(v).name;
    for (const auto& [what, op] : {std::pair{"lowest/", "reduce_min"}, {"highest/", "reduce_max"}}) {
      result.set_output(what + name, apply(result, op, {copier(v)}, {{"keepdims", false}}, what + name));
    }
  }
  return result;
}

Quantization quantization_of(float lowest, float highest) {
  if (!std::isfinite(lowest) || !std::isfinite(highest)) {
    throw Error(ErrorCode::diverged, fmt::format("values from {} to {} cannot be kept in 8 bits", lowest, highest),
                "the model or its data are not finite");
  }
  const double low = std::min(static_cast<double>(lowest), 0.0);
  const double high = std::max(static_cast<double>(highest), 0.0);
  if (low == high) return {};
  const double scale = (high - low) / 255;
  return {static_cast<float>(scale), static_cast<std::uint8_t>(std::lround(-low / scale))};
}

}  // namespace trivet
