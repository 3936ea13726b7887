#include "tests/kernels/cuda/simulated_op.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/families.h"
#include "kernels/math/small_float.h"
#include "trivet/base/error.h"

namespace trivet::testing {
namespace {

using kernels::KernelArgs;
using kernels::KernelEntry;
using kernels::KernelSpec;
using kernels::TensorDesc;
using kernels::View;

constexpr std::size_t kAlign = 64;
constexpr std::size_t kGuardBytes = 64;
constexpr unsigned char kGuard = 0xC3;

// Memory as a device gives it, with a guard behind it. The address sanitizer guards it better, and gets exact sizes.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlign, bytes + guard_bytes() + 1) != 0) throw std::bad_alloc();
    memory_.reset(static_cast<unsigned char*>(memory));
    std::memset(memory, 0xFF, bytes);
    std::memset(memory_.get() + bytes, kGuard, guard_bytes());
  }
  explicit DeviceBuffer(const Tensor& t) : DeviceBuffer(t.data.size()) {
    if (bytes_ > 0) std::memcpy(memory_.get(), t.data.data(), bytes_);
  }
  void* data() const { return memory_.get(); }
  bool guard_intact() const {
    const unsigned char* const guard = memory_.get() + bytes_;
    return std::all_of(guard, guard + guard_bytes(), [](unsigned char c) { return c == kGuard; });
  }

 private:
  static constexpr std::size_t guard_bytes() {
#if defined(__SANITIZE_ADDRESS__)
    return 0;
#else
    return kGuardBytes;
#endif
  }
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::size_t bytes_;
  std::unique_ptr<unsigned char, Free> memory_;
};

TensorDesc desc_of(const SimulatedOp& op, const TensorType& type) {
  TensorDesc desc = type.desc();
  desc.dtype = op.dtype_of(desc.dtype);
  return desc;
}

struct Description {
  AppliedOp applied;
  std::vector<TensorDesc> in;
  std::vector<TensorDesc> out;
  const Node* node = nullptr;

  explicit Description(const SimulatedOp& op) : applied(apply_variant(op.variant)) {
    for (std::size_t i = 0; i < applied.inputs.size(); ++i) {
      const CaseInput& input = op.variant.variant->inputs[i];
      in.push_back(input.absent ? TensorDesc{} : desc_of(op, input.type));
    }
    for (const ValueId value : applied.outputs) out.push_back(desc_of(op, applied.graph.type(value)));
    node = &applied.graph.nodes().back();
  }
  KernelSpec spec() const { return {in, out, node->packed.data(), 1}; }
};

View view_of(const TensorDesc& desc, void* data) {
  View view;
  static_cast<TensorDesc&>(view) = desc;
  view.data = data;
  return view;
}

const std::pair<int, int>* shared_with(std::span<const std::pair<int, int>> in_place, std::size_t output) {
  for (const auto& pair : in_place) {
    if (static_cast<std::size_t>(pair.first) == output) return &pair;
  }
  return nullptr;
}

}  // namespace

std::vector<Tensor> inputs_of(const SimulatedOp& op) {
  std::vector<Tensor> inputs = draw_inputs(op.variant);
  for (Tensor& t : inputs) {
    if (!op.as_f16 || t.type.dtype != DType::bf16) continue;
    t.type.dtype = DType::f16;
    auto* const words = reinterpret_cast<std::uint16_t*>(t.data.data());
    for (std::size_t i = 0; 2 * i < t.data.size(); ++i) {
      words[i] = kernels::from_f32<kernels::Float16>(kernels::to_f32(kernels::BFloat16{words[i]})).bits;
    }
  }
  return inputs;
}

Support support_of(const SimulatedOp& op) {
  const KernelEntry* const kernel = kernels::cuda::find(op.variant.op_case->op);
  if (kernel == nullptr) return Support::no_kernel;
  return kernel->supports(Description(op).spec()) ? Support::yes : Support::not_these_types;
}

std::int64_t largest_tensor(const SimulatedOp& op) {
  const Description d(op);
  std::int64_t largest = 0;
  for (const TensorDesc& t : d.in) largest = std::max(largest, t.elements());
  for (const TensorDesc& t : d.out) largest = std::max(largest, t.elements());
  return largest;
}

std::vector<Tensor> simulate(const SimulatedOp& op, std::span<const Tensor> inputs,
                             std::span<const std::pair<int, int>> in_place) {
  const KernelEntry& kernel = *kernels::cuda::find(op.variant.op_case->op);
  const Description d(op);
  std::vector<DeviceBuffer> in_buffers, out_buffers;
  std::vector<View> in, out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    in_buffers.emplace_back(inputs[i]);
    in.push_back(op.variant.variant->inputs[i].absent ? View{} : view_of(d.in[i], in_buffers.back().data()));
  }
  for (std::size_t o = 0; o < d.out.size(); ++o) {
    const auto* const pair = shared_with(in_place, o);
    out_buffers.emplace_back(d.out[o].bytes());
    out.push_back(
        view_of(d.out[o], pair ? in_buffers[static_cast<std::size_t>(pair->second)].data() : out_buffers[o].data()));
  }
  const DeviceBuffer workspace(kernel.workspace ? kernel.workspace(d.spec(), nullptr) : 0);
  kernel.run(KernelArgs{in, out, workspace.data(), d.node->packed.data()});

  std::vector<Tensor> outputs;
  for (std::size_t o = 0; o < out.size(); ++o) {
    TensorType type = d.applied.graph.type(d.applied.outputs[o]);
    type.dtype = op.dtype_of(type.dtype);
    outputs.emplace_back(type);
    const std::size_t bytes = outputs.back().data.size();
    if (bytes > 0) std::memcpy(outputs.back().data.data(), out[o].data, bytes);
    EXPECT_TRUE(out_buffers[o].guard_intact()) << op.name() << ": the kernel wrote behind output " << o;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_TRUE(in_buffers[i].guard_intact()) << op.name() << ": the kernel wrote behind input " << i;
    const bool overwritten = std::any_of(in_place.begin(), in_place.end(),
                                         [i](const auto& p) { return static_cast<std::size_t>(p.second) == i; });
    if (overwritten || inputs[i].data.empty()) continue;
    EXPECT_EQ(std::memcmp(in_buffers[i].data(), inputs[i].data.data(), inputs[i].data.size()), 0)
        << op.name() << ": the kernel wrote to input " << i;
  }
  EXPECT_TRUE(workspace.guard_intact()) << op.name() << ": the kernel wrote behind its workspace";
  return outputs;
}

}  // namespace trivet::testing
