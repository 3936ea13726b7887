#include "trivet/exec/evaluate.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

#include "trivet/base/error.h"
#include "trivet/exec/initialize.h"

namespace trivet {
namespace {

using kernels::KernelArgs;
using kernels::KernelEntry;
using kernels::KernelSpec;
using kernels::TensorDesc;
using kernels::View;

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<void, FreeDeleter>;

AlignedBytes allocate(std::size_t bytes) {
  constexpr std::size_t kAlign = 64;
  return AlignedBytes(std::aligned_alloc(kAlign, (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign));
}

void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);  // without bytes there may be no memory
}

class Evaluator {
 public:
  Evaluator(const Graph& graph, kernels::cpu::Isa isa, int threads)
      : graph_(graph), isa_(isa), threads_(threads), memory_(graph.values().size()) {}

  void bind(const std::map<std::string, Tensor>& bindings) {
    for (std::size_t i = 0; i < graph_.values().size(); ++i) {
      const Value& v = graph_.values()[i];
      if (v.kind == ValueKind::computed) continue;
      memory_[i] = allocate(v.type.bytes());
      const auto found = bindings.find(v.name);
      if (v.kind == ValueKind::constant) {
        const Tensor& t = graph_.constant_of(static_cast<ValueId>(i));
        copy(memory_[i].get(), t.data.data(), t.data.size());
      } else if (found != bindings.end()) {
        if (found->second.type != v.type) {
          throw Error(ErrorCode::graph,
                      fmt::format("'{}' is {}, bound to {}", v.name, to_string(v.type), to_string(found->second.type)));
        }
        copy(memory_[i].get(), found->second.data.data(), v.type.bytes());
      } else if (v.kind == ValueKind::state) {
        fill_initial(v, 0, {static_cast<std::byte*>(memory_[i].get()), v.type.bytes()});
      } else {
        throw Error(ErrorCode::graph, fmt::format("input '{}' is not bound", v.name));
      }
    }
  }

  void run(const Node& node) {
    for (const ValueId v : node.outputs) memory_[static_cast<std::size_t>(v)] = allocate(graph_.type(v).bytes());
    std::vector<View> in, out;
    for (const ValueId v : node.inputs) in.push_back(view(v));
    for (const ValueId v : node.outputs) out.push_back(view(v));
    if (node.op->alias) {
      copy(out[0].data, in[0].data, out[0].bytes());
      return;
    }
    const KernelEntry* kernel = kernels::cpu::find(node.op->name, isa_);
    std::vector<TensorDesc> in_desc(in.begin(), in.end()), out_desc(out.begin(), out.end());
    const KernelSpec spec{in_desc, out_desc, node.packed.data(), threads_};
    if (!kernel || !kernel->supports(spec)) {
      throw Error(ErrorCode::graph,
                  fmt::format("{}: the CPU has no kernel for op '{}' with these types", node.name, node.op->name));
    }
    const auto prepared = kernel->prepare ? kernel->prepare(spec) : nullptr;
    const AlignedBytes workspace = allocate(kernel->workspace ? kernel->workspace(spec, prepared.get()) : 0);
    kernel->run(KernelArgs{in, out, workspace.get(), node.packed.data(), prepared.get(), threads_});
  }

  Tensor get(ValueId v) const {
    Tensor t(graph_.type(v));
    copy(t.data.data(), memory_[static_cast<std::size_t>(v)].get(), t.data.size());
    return t;
  }

 private:
  View view(ValueId v) const {
    View w;
    if (v == kNoValue) return w;
    static_cast<TensorDesc&>(w) = graph_.type(v).desc();
    w.data = memory_[static_cast<std::size_t>(v)].get();
    return w;
  }

  const Graph& graph_;
  kernels::cpu::Isa isa_;
  int threads_;
  std::vector<AlignedBytes> memory_;
};

}  // namespace

std::vector<Tensor> evaluate(const Graph& graph, const std::map<std::string, Tensor>& bindings, kernels::cpu::Isa isa,
                             int threads) {
  kernels::cpu::set_threads(threads);
  Evaluator evaluator(graph, isa, threads);
  evaluator.bind(bindings);
  for (const Node& node : graph.nodes()) evaluator.run(node);
  std::vector<Tensor> outputs;
  for (const NamedValue& o : graph.outputs()) outputs.push_back(evaluator.get(o.value));
  return outputs;
}

}  // namespace trivet
