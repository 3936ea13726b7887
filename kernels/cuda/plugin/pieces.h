// What kernels that call a library of CUDA have in common: pieces of a workspace, operands rounded to bf16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/plugin/support.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

// The types of operands and results.
inline bool computes(DType type) { return type == DType::f32 || type == DType::bf16; }

// Hands out aligned pieces of a workspace.
class Pieces {
 public:
  std::size_t add(std::size_t bytes) {
    const std::size_t offset = size_;
    size_ += (bytes + 255) / 256 * 256;
    return offset;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

inline std::byte* at(const KernelArgs& args, std::size_t offset) {
  return static_cast<std::byte*>(args.workspace) + offset;
}

// An operand that is rounded to bf16 before the product: f32 weights beside bf16 activations.
struct Rounded {
  std::int64_t elements = 0;  // 0: used as it is
  std::size_t offset = 0;

  static Rounded of(const TensorDesc& operand, DType type, Pieces& pieces) {
    Rounded result;
    if (operand.dtype == type || type != DType::bf16) return result;
    result.elements = operand.elements();
    result.offset = pieces.add(static_cast<std::size_t>(result.elements) * dtype_size(DType::bf16));
    return result;
  }
  void* ready(const View& operand, const KernelArgs& args) const {
    if (elements == 0) return operand.data;
    round_to_bf16(operand.as<const float>(), at(args, offset), elements, args.stream);
    return at(args, offset);
  }
};

// What libraries want of a workspace, and the buffer of a plan need not have.
inline constexpr std::size_t kLibraryAlignment = 256;

inline void* aligned_workspace(void* workspace) {
  const auto address = reinterpret_cast<std::uintptr_t>(workspace);
  return reinterpret_cast<void*>((address + kLibraryAlignment - 1) / kLibraryAlignment * kLibraryAlignment);
}

// A kernel that was prepared with the pieces of workspace it needs.
struct PiecewiseKernel : Prepared {
  virtual void run(const KernelArgs& args) const = 0;
  Pieces pieces;
};

using MakeKernel = std::unique_ptr<Prepared> (*)(const KernelSpec&);

// The entry of an op whose inputs and first output are of types that are computed with.
template <MakeKernel make>
constexpr KernelEntry piecewise_entry(const char* op) {
  KernelEntry result{};
  result.op = op;
  result.supports = [](const KernelSpec& spec) {
    for (const TensorDesc& t : spec.in) {
      if (!computes(t.dtype)) return false;
    }
    return computes(spec.out[0].dtype);
  };
  result.run = [](const KernelArgs& args) { static_cast<const PiecewiseKernel*>(args.prepared)->run(args); };
  result.prepare = [](const KernelSpec& spec) { return make(spec); };
  result.workspace = [](const KernelSpec&, const Prepared* p) {
    return static_cast<const PiecewiseKernel*>(p)->pieces.size();
  };
  return result;
}

}  // namespace trivet::kernels::cuda
