// The running sum along a dimension.
#include "kernels/cuda/cumulative.cuh"
#include "kernels/cuda/families.h"
#include "trivet/kernels/attrs_sorting.h"

namespace trivet::kernels::cuda {
namespace {

std::int64_t pieces_of(std::int64_t n) { return (n + SumRows::kPiece - 1) / SumRows::kPiece; }

template <int kGroup, int N, class T>
void launch_rows(const KernelArgs& args, const SumRows& s) {
  using Sum = decltype(widen_sum(T{}));
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  auto* const sums = static_cast<Sum*>(args.workspace);
  const std::int64_t units = s.rows * s.pieces;
  if (s.pieces > 1) {
    TRIVET_LAUNCH((sum_pieces_kernel<N, T, Sum>), dim3(blocks_for(units, 1)), dim3(kBlock), 0, args.stream, x, sums, s);
  }
  TRIVET_LAUNCH((sum_rows_kernel<kGroup, N, T, Sum>), dim3(row_blocks<kGroup>(units)), dim3(kBlock), 0, args.stream, x,
                y, static_cast<const Sum*>(sums), s);
}

template <class T>
void run_as(const KernelArgs& args) {
  const auto& attrs = args.attributes<CumulativeSumAttrs>();
  const Extents e = extents_of(args.in[0], attrs.axis);
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  if (e.inner > 1) {
    TRIVET_LAUNCH((sum_columns_kernel<T>), dim3(blocks_for(e.outer * e.inner)), dim3(kBlock), 0, args.stream, x, y, e,
                  attrs.exclusive, attrs.reverse);
    return;
  }
  const SumRows s{e.outer, e.size, pieces_of(e.size), attrs.exclusive, attrs.reverse};
  with_row_sizes<T>(e.size, is_aligned(x) && is_aligned(y), [&](auto group, auto pack) {
    launch_rows<decltype(group)::value, decltype(pack)::value, T>(args, s);
  });
}

void run_cumulative_sum(const KernelArgs& args) {
  if (args.in[0].elements() == 0) return;
  if (args.in[0].dtype == DType::i32) return run_as<std::int32_t>(args);
  if (args.in[0].dtype == DType::i64) return run_as<std::int64_t>(args);
  with_compute_type(args.in[0].dtype, [&](auto element) { run_as<decltype(element)>(args); });
}

bool summed_type(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return is_compute_type(type) || type == DType::i32 || type == DType::i64;
}

std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  const Extents e = extents_of(spec.in[0], spec.attributes<CumulativeSumAttrs>().axis);
  const std::int64_t pieces = e.inner == 1 ? pieces_of(e.size) : 1;
  return pieces > 1 ? static_cast<std::size_t>(e.outer * pieces) * sizeof(double) : 0;
}

constexpr KernelEntry kTable[] = {{"cumulative_sum", summed_type, run_cumulative_sum, nullptr, workspace}};

}  // namespace

std::span<const KernelEntry> cumulative_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
