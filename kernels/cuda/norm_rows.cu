// Layer and RMS normalization.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/families.h"
#include "kernels/cuda/norm_rows.cuh"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cuda {
namespace {

struct Matrix {
  std::int64_t rows = 1;
  std::int64_t columns = 1;

  Matrix(const TensorDesc& t, std::int64_t axis_attribute) {
    const std::int64_t axis = axis_attribute < 0 ? t.rank + axis_attribute : axis_attribute;
    for (int i = 0; i < t.rank; ++i) (i < axis ? rows : columns) *= t.shape[i];
  }
};

template <bool kCentered>
void run_forward(const KernelArgs& args) {
  const auto& attrs = args.attributes<LayerNormAttrs>();
  const Matrix m(args.in[0], attrs.axis);
  if (m.rows * m.columns == 0) return;
  const NormalizedRows norm{args.in[1].as<const float>(), optional_input<float>(args, 2),
                            kCentered ? args.out[1].as<float>() : nullptr, args.out[kCentered ? 2 : 1].as<float>(),
                            static_cast<float>(attrs.epsilon)};
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    const bool packed = is_aligned(x) && is_aligned(y) && is_aligned(norm.gamma) && is_aligned(norm.beta);
    with_row_sizes<T>(m.columns, packed, [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const RowLayout layout(m.columns, kGroup, kN);
      TRIVET_LAUNCH((norm_rows_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(m.rows)), dim3(kBlock),
                    layout.shared_bytes(), args.stream, x, y, m.rows, layout, norm);
    });
  });
}

// dgamma and dbeta (or null) from the pieces' sums.
__global__ void __launch_bounds__(kBlock, 2) join_gradients_kernel(const float* partial, std::int64_t pieces,
                                                                   std::int64_t columns, float* dgamma, float* dbeta) {
  TRIVET_SHARED(double, scratch, kBlock);
  const std::int64_t c = std::int64_t{blockIdx.x} * kJoined + threadIdx.x % kJoined;
  const bool inside = c < columns;
  const double of_gamma = join_pieces(partial + c, pieces, 2 * columns, inside, scratch);
  const double of_beta =
      join_pieces(partial + columns + c, dbeta != nullptr ? pieces : 0, 2 * columns, inside, scratch);
  if (!inside || threadIdx.x >= kJoined) return;
  dgamma[c] = static_cast<float>(of_gamma);
  if (dbeta != nullptr) dbeta[c] = static_cast<float>(of_beta);
}

// (dy, x, gamma, mean, rstd) -> (dx, dgamma, dbeta), or without centering (dy, x, gamma, rstd) -> (dx, dgamma).
template <bool kCentered>
void run_backward(const KernelArgs& args) {
  const Matrix m(args.in[0], args.attributes<LayerNormBackwardAttrs>().axis);
  if (m.columns == 0) return;
  auto* const partial = static_cast<float*>(args.workspace);
  const NormGradients norm{args.in[2].as<const float>(), kCentered ? args.in[3].as<const float>() : nullptr,
                           args.in[kCentered ? 4 : 3].as<const float>(), partial};
  std::int64_t piece_count = 0;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const dy = args.in[0].as<const T>();
    const T* const x = args.in[1].as<const T>();
    T* const dx = args.out[0].as<T>();
    const bool packed = is_aligned(dy) && is_aligned(x) && is_aligned(dx) && is_aligned(norm.gamma);
    with_row_sizes<T>(m.columns, packed, [&](auto group, auto pack) {
      constexpr int kGroup = decltype(group)::value;
      constexpr int kN = decltype(pack)::value;
      const NormPieces pieces(m.rows, m.columns, kGroup, kN);
      piece_count = pieces.pieces;
      if (m.rows == 0) return;
      const std::size_t shared =
          pieces.shared ? static_cast<std::size_t>(2 * pieces.slots * kGroup) * sizeof(float) : 0;
      TRIVET_LAUNCH((norm_rows_backward_kernel<kGroup, kN, T>), dim3(static_cast<unsigned>(pieces.pieces)),
                    dim3(kGroup), shared, args.stream, dy, x, dx, m.rows, m.columns, pieces, norm);
    });
  });
  float* const dgamma = args.out[1].as<float>();
  float* const dbeta = kCentered ? args.out[2].as<float>() : nullptr;
  TRIVET_LAUNCH(join_gradients_kernel, dim3(blocks_for(m.columns, kJoined)), dim3(kBlock), 0, args.stream, partial,
                piece_count, m.columns, dgamma, dbeta);
}

// x and dy have a type that kernels compute in; the others are f32.
bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

std::size_t backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Matrix m(spec.in[0], spec.attributes<LayerNormBackwardAttrs>().axis);
  const NormPieces pieces(m.rows, m.columns, m.columns <= kWarpRow ? kWarp : kBlock, 1);
  return static_cast<std::size_t>(2 * pieces.pieces * m.columns) * sizeof(float);
}

constexpr KernelEntry kTable[] = {
    {"layer_norm", is_supported, run_forward<true>},
    {"layer_norm_backward", is_supported, run_backward<true>, nullptr, backward_workspace},
    {"rms_norm", is_supported, run_forward<false>},
    {"rms_norm_backward", is_supported, run_backward<false>, nullptr, backward_workspace},
};

}  // namespace

std::span<const KernelEntry> norm_rows_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
