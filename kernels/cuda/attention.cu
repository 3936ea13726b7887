// Scaled dot product attention and its gradients, for heads of up to 128 elements.
#include <cmath>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/families.h"
#include "trivet/kernels/attrs_attention.h"

namespace trivet::kernels::cuda {
namespace {

constexpr std::int64_t kMostWidth = 128;
constexpr std::int64_t kMostPositions = std::int64_t{1} << 30;  // positions and offsets in a tile are ints

AttentionProblem problem_of(const KernelArgs& args, std::size_t mask_input) {
  const View &q = args.in[0], &k = args.in[1], &v = args.in[2];
  const auto& attrs = args.attributes<AttentionAttrs>();
  AttentionProblem p;
  p.heads = q.shape[0] * q.shape[1];
  p.key_heads = k.shape[0] * k.shape[1];
  p.h = static_cast<int>(q.shape[1]);
  p.g = static_cast<int>(k.shape[1]);
  p.t = static_cast<int>(q.shape[2]);
  p.s = static_cast<int>(k.shape[2]);
  p.d = static_cast<int>(q.shape[3]);
  p.e = static_cast<int>(v.shape[3]);
  p.causal = attrs.is_causal;
  p.scale = static_cast<float>(attrs.scale == 0 ? 1 / std::sqrt(static_cast<double>(p.d)) : attrs.scale);
  const int pack = static_cast<int>(16 / dtype_size(q.dtype));
  p.packed = p.d % pack == 0 && p.e % pack == 0 && is_aligned(q.data) && is_aligned(k.data) && is_aligned(v.data);
  if (mask_input < args.in.size() && args.in[mask_input].data != nullptr) {
    const View& mask = args.in[mask_input];
    p.mask = mask.data;
    p.mask_is_bool = mask.dtype == DType::boolean;
    std::int64_t stride = 1;
    for (int i = 1; i <= mask.rank; ++i) {
      if (mask.dim(-i) != 1) p.mask_stride[4 - i] = stride;
      stride *= mask.dim(-i);
    }
  }
  return p;
}

// Calls run(width) with the head size of the kernel, as a type.
template <class F>
void with_width(const AttentionProblem& p, const F& run) {
  if (p.d <= 64 && p.e <= 64) {
    run(Size<64>());
  } else {
    run(Size<128>());
  }
}

// A block may have more than 48 KiB of shared memory only where its kernel asks for it.
template <class Kernel>
void allow_shared_memory([[maybe_unused]] Kernel* kernel, [[maybe_unused]] std::size_t bytes) {
#if defined(__CUDACC__)
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) {
    throw LaunchError("attention cannot have " + std::to_string(bytes) +
                      " bytes of shared memory for a block: " + cudaGetErrorString(error));
  }
#endif
}

unsigned blocks_of(std::int64_t heads, int rows) {
  return blocks_for(heads * ((rows + kAttentionRows - 1) / kAttentionRows), 1);
}

void run_attention(const KernelArgs& args) {
  const AttentionProblem p = problem_of(args, 3);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    with_width(p, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      constexpr std::size_t kBytes = forward_shared_bytes<T, kWidth>();
      allow_shared_memory(attention_kernel<T, kWidth>, kBytes);
      TRIVET_LAUNCH((attention_kernel<T, kWidth>), dim3(blocks_of(p.heads, p.t)), dim3(kAttentionBlock), kBytes,
                    args.stream, args.in[0].as<const T>(), args.in[1].as<const T>(), args.in[2].as<const T>(),
                    args.out[0].as<T>(), args.out[1].as<float>(), p);
    });
  });
}

void run_attention_backward(const KernelArgs& args) {
  AttentionProblem p = problem_of(args, 6);
  p.packed = p.packed && is_aligned(args.in[5].data);
  float* const delta = static_cast<float*>(args.workspace);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const std::int64_t rows = p.heads * p.t;
    TRIVET_LAUNCH((attention_delta_kernel<T>), dim3(row_blocks<kWarp>(rows)), dim3(kBlock), 0, args.stream,
                  args.in[3].as<const T>(), args.in[5].as<const T>(), delta, rows, p.e);
    const AttentionGradients<T> a{args.in[0].as<const T>(),     args.in[1].as<const T>(), args.in[2].as<const T>(),
                                  args.in[4].as<const float>(), args.in[5].as<const T>(), delta,
                                  args.out[0].as<T>(),          args.out[1].as<T>(),      args.out[2].as<T>()};
    with_width(p, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      constexpr std::size_t kBytes = backward_shared_bytes<T, kWidth>();
      allow_shared_memory(attention_queries_backward_kernel<T, kWidth>, kBytes);
      TRIVET_LAUNCH((attention_queries_backward_kernel<T, kWidth>), dim3(blocks_of(p.heads, p.t)),
                    dim3(kAttentionBlock), kBytes, args.stream, a, p);
      allow_shared_memory(attention_keys_backward_kernel<T, kWidth>, kBytes);
      TRIVET_LAUNCH((attention_keys_backward_kernel<T, kWidth>), dim3(blocks_of(p.key_heads, p.s)),
                    dim3(kAttentionBlock), kBytes, args.stream, a, p);
    });
  });
}

std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(spec.in[4].elements()) * sizeof(float);
}

bool computes(const KernelSpec& spec) {
  const TensorDesc &q = spec.in[0], &k = spec.in[1], &v = spec.in[2];
  return is_compute_type(q.dtype) && q.shape[3] <= kMostWidth && v.shape[3] <= kMostWidth &&
         q.shape[1] <= kMostPositions && q.shape[2] <= kMostPositions && k.shape[2] <= kMostPositions;
}

constexpr KernelEntry kTable[] = {
    {"scaled_dot_product_attention", computes, run_attention},
    {"scaled_dot_product_attention_backward", computes, run_attention_backward, nullptr, backward_workspace},
};

}  // namespace

std::span<const KernelEntry> attention_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
