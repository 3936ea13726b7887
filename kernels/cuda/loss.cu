// Losses of classification.
#include "kernels/cuda/families.h"
#include "kernels/cuda/loss.cuh"
#include "trivet/kernels/attrs_loss.h"

namespace trivet::kernels::cuda {
namespace {

Labels labels_of(const View& v) {
  return {v.dtype == DType::i32 ? v.as<const std::int32_t>() : nullptr,
          v.dtype == DType::i64 ? v.as<const std::int64_t>() : nullptr};
}

// `gradient` may be null.
void launch_cross_entropy(const KernelArgs& args, const float* weights, const float* dloss, float* loss,
                          void* gradient) {
  const View& logits = args.in[0];
  const auto& attrs = args.attributes<CrossEntropyAttrs>();
  const std::int64_t rows = logits.shape[0];
  const std::int64_t n = logits.shape[1];
  if (rows == 0) return;
  const CrossEntropy rule{attrs.ignore_index, static_cast<float>(attrs.label_smoothing), weights, dloss, loss};
  const Labels labels = labels_of(args.in[1]);
  with_compute_type(logits.dtype, [&](auto element) {
    using T = decltype(element);
    const T* const z = logits.as<const T>();
    T* const d = static_cast<T*>(gradient);
    with_row_sizes<T>(n, is_aligned(z) && is_aligned(d), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const RowLayout layout(n, kGroup, kN);
      TRIVET_LAUNCH((cross_entropy_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(rows)), dim3(kBlock),
                    layout.shared_bytes(), args.stream, z, labels, d, rows, layout, rule);
    });
  });
}

void run_cross_entropy(const KernelArgs& args) {
  launch_cross_entropy(args, optional_input<float>(args, 2), nullptr, args.out[0].as<float>(), nullptr);
}
void run_cross_entropy_backward(const KernelArgs& args) {
  launch_cross_entropy(args, nullptr, args.in[2].as<const float>(), nullptr, args.out[0].data);
}
void run_softmax_cross_entropy(const KernelArgs& args) {
  launch_cross_entropy(args, optional_input<float>(args, 3), args.in[2].as<const float>(), args.out[0].as<float>(),
                       args.out[1].data);
}

void launch_soft(const KernelArgs& args, const float* dloss, float* loss, void* gradient) {
  const View& logits = args.in[0];
  const std::int64_t rows = logits.shape[0];
  const std::int64_t n = logits.shape[1];
  if (rows == 0) return;
  const float* const t = args.in[1].as<const float>();
  with_compute_type(logits.dtype, [&](auto element) {
    using T = decltype(element);
    const T* const z = logits.as<const T>();
    T* const d = static_cast<T*>(gradient);
    with_row_sizes<T>(n, is_aligned(z) && is_aligned(t) && is_aligned(d), [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const RowLayout layout(n, kGroup, kN);
      TRIVET_LAUNCH((soft_cross_entropy_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(rows)), dim3(kBlock),
                    layout.shared_bytes(), args.stream, z, t, dloss, loss, d, rows, layout);
    });
  });
}

void run_soft_cross_entropy(const KernelArgs& args) { launch_soft(args, nullptr, args.out[0].as<float>(), nullptr); }
void run_soft_cross_entropy_backward(const KernelArgs& args) {
  launch_soft(args, args.in[2].as<const float>(), nullptr, args.out[0].data);
}

// The sum of all counts, by one block.
__global__ void __launch_bounds__(kBlock, 2) count_kernel(const std::int32_t* counts, std::int64_t n, float* total) {
  std::int64_t sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kBlock) sum += counts[i];
  sum = join_group<kBlock>(sum, std::int64_t{0}, Plus{});
  if (threadIdx.x == 0) *total = static_cast<float>(sum);
}

void run_top_k_correct(const KernelArgs& args) {
  const View& logits = args.in[0];
  const std::int64_t rows = logits.shape[0];
  auto* const correct = static_cast<std::int32_t*>(args.workspace);
  const Labels labels = labels_of(args.in[1]);
  const std::int64_t n = logits.shape[1];
  const std::int64_t k = args.attributes<TopKCorrectAttrs>().k;
  if (rows > 0) {
    with_compute_type(logits.dtype, [&](auto element) {
      using T = decltype(element);
      const T* const z = logits.as<const T>();
      TRIVET_LAUNCH((top_k_kernel<T>), dim3(row_blocks<kWarp>(rows)), dim3(kBlock), 0, args.stream, z, labels, correct,
                    rows, n, k);
    });
  }
  float* const total = args.out[0].as<float>();
  TRIVET_LAUNCH(count_kernel, dim3(1), dim3(kBlock), 0, args.stream, correct, rows, total);
}

std::size_t top_k_workspace(const KernelSpec& spec, const Prepared*) {
  return static_cast<std::size_t>(spec.in[0].shape[0]) * sizeof(std::int32_t);
}

bool takes_labels(const KernelSpec& spec) {
  const DType labels = spec.in[1].dtype;
  return is_compute_type(spec.in[0].dtype) && (labels == DType::i32 || labels == DType::i64);
}
bool takes_targets(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.in[1].dtype == DType::f32;
}

constexpr KernelEntry kTable[] = {
    {"cross_entropy", takes_labels, run_cross_entropy},
    {"cross_entropy_backward", takes_labels, run_cross_entropy_backward},
    {"softmax_cross_entropy", takes_labels, run_softmax_cross_entropy},
    {"soft_cross_entropy", takes_targets, run_soft_cross_entropy},
    {"soft_cross_entropy_backward", takes_targets, run_soft_cross_entropy_backward},
    {"top_k_correct", takes_labels, run_top_k_correct, nullptr, top_k_workspace},
};

}  // namespace

std::span<const KernelEntry> loss_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
