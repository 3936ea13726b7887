#include "trivet/ops/registry.h"
#include "trivet/passes/passes.h"

namespace trivet {

std::string data_state_name(const std::string& input) { return "data/" + input; }

Graph gather_inputs(const Graph& graph, std::span<const std::string> names, std::int64_t samples) {
  Graph result(graph.name());
  GraphCopier copier(graph, result, names);
  for (const std::string& name : names) {
    const std::optional<ValueId> input = graph.find(name);
    if (!input) continue;
    TensorType all = graph.type(*input);
    const std::int64_t batch = all.shape[0];
    all.shape[0] = samples;
    const ValueId rows = result.state(data_state_name(name), all, MemoryClass::data);
    const std::optional<ValueId> given = result.find("sample");
    const ValueId sample = given ? *given : result.input("sample", {DType::i64, {batch}});
    copier.map(*input, apply(result, "gather", {rows, sample}, {{"axis", std::int64_t{0}}}, name));
  }
  for (const Node& node : graph.nodes()) copier.copy(node);
  copier.finish();
  return result;
}

}  // namespace trivet
