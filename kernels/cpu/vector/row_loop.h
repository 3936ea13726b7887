// Nested loops over several tensors at once, with the innermost dimension handed out as rows. Element-wise ops with
// broadcasting and ops that move elements are built on it.
#pragma once

#include <cstdint>

#include "kernels/cpu/vector/parallel.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

[[gnu::always_inline]] inline std::int64_t element_count(const TensorDesc& t) {
  std::int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.shape[i];
  return n;
}

// Walks N tensors together. Each dimension has one size and a stride (in elements) for each tensor. Neighbouring
// dimensions are merged where all strides allow it: equal dense shapes become one row, a bias becomes rows between
// which it stands still, a scalar one row in which it stands still.
template <int N>
class RowLoop {
 public:
  // Adds dimensions from the outermost to the innermost.
  [[gnu::always_inline]] void add_dimension(std::int64_t size, const std::int64_t (&stride)[N]) {
    elements_ *= size;
    if (size == 1) return;
    bool merge = rank_ > 0;
    for (int k = 0; k < N; ++k) merge = merge && stride_[rank_ > 0 ? rank_ - 1 : 0][k] == size * stride[k];
    if (!merge) shape_[rank_++] = 1;
    shape_[rank_ - 1] *= size;
    for (int k = 0; k < N; ++k) stride_[rank_ - 1][k] = stride[k];
  }

  // A loop over nothing.
  [[gnu::always_inline]] static RowLoop empty() {
    RowLoop loop;
    loop.elements_ = 0;
    return loop;
  }

  std::int64_t elements() const { return elements_; }
  int rank() const { return rank_; }
  std::int64_t size(int d) const { return shape_[d]; }
  std::int64_t stride(int d, int k) const { return stride_[d][k]; }
  // The step of tensor k along a row.
  std::int64_t inner_stride(int k) const { return rank_ == 0 ? 1 : stride_[rank_ - 1][k]; }

  // Takes a dimension out, for a caller that loops over it by itself.
  [[gnu::always_inline]] void remove_dimension(int d) {
    elements_ /= shape_[d];
    --rank_;
    for (int i = d; i < rank_; ++i) {
      shape_[i] = shape_[i + 1];
      for (int k = 0; k < N; ++k) stride_[i][k] = stride_[i + 1][k];
    }
  }

  // Calls f(offsets, n) for rows, or parts of long rows: n elements, tensor k beginning at element offsets[k].
  // `weight`: the elements that are touched for each one of the loop, if it is a line of many.
  template <class F>
  [[gnu::always_inline]] void for_each_row(int threads, const F& f, std::int64_t weight = 1) const {
    if (elements_ == 0) return;
    const std::int64_t row = rank_ == 0 ? 1 : shape_[rank_ - 1];
    const std::int64_t piece = weight < kPieceElements / 16 ? kPieceElements / weight : 16;
    const std::int64_t parts = (row + piece - 1) / piece;
    const std::int64_t grain = row < piece ? piece / row : 1;
    parallel_pieces(elements_ / row * parts, grain, elements_ * weight, threads,
                    [&](std::int64_t begin, std::int64_t end) {
                      std::int64_t index[kMaxRank];
                      std::int64_t start[N];
                      seek(begin / parts, rank_ - 1, index, start);
                      std::int64_t part = begin % parts;
                      for (std::int64_t unit = begin; unit < end; ++unit) {
                        const std::int64_t skip = part * piece;
                        std::int64_t offsets[N];
                        for (int k = 0; k < N; ++k) offsets[k] = start[k] + skip * inner_stride(k);
                        f(offsets, row - skip < piece ? row - skip : piece);
                        if (++part == parts) {
                          part = 0;
                          advance(rank_ - 1, index, start);
                        }
                      }
                    });
  }

  // Index and offsets of item `i` of the first `dims` dimensions in row-major order.
  [[gnu::always_inline]] void seek(std::int64_t i, int dims, std::int64_t* index, std::int64_t* offsets) const {
    for (int k = 0; k < N; ++k) offsets[k] = 0;
    for (int d = dims - 1; d >= 0; --d) {
      index[d] = i % shape_[d];
      i /= shape_[d];
      for (int k = 0; k < N; ++k) offsets[k] += index[d] * stride_[d][k];
    }
  }

  // To the next item.
  [[gnu::always_inline]] void advance(int dims, std::int64_t* index, std::int64_t* offsets) const {
    for (int d = dims - 1; d >= 0; --d) {
      for (int k = 0; k < N; ++k) offsets[k] += stride_[d][k];
      if (++index[d] < shape_[d]) return;
      index[d] = 0;
      for (int k = 0; k < N; ++k) offsets[k] -= shape_[d] * stride_[d][k];
    }
  }

 private:
  static constexpr std::int64_t kPieceElements = 8192;

  int rank_ = 0;
  std::int64_t elements_ = 1;
  std::int64_t shape_[kMaxRank] = {};
  std::int64_t stride_[kMaxRank][N] = {};
};

// The loop over a dense output (tensor 0) and dense inputs (tensors 1 ...) that broadcast to it as in NumPy:
// dimensions are aligned at the last one, and size 1 or a missing dimension repeats.
template <int N>
[[gnu::always_inline]] inline RowLoop<N + 1> broadcast_loop(const TensorDesc& out, const View* const (&in)[N]) {
  std::int64_t dense[N + 1];
  std::int64_t stride[kMaxRank][N + 1];
  for (int k = 0; k <= N; ++k) dense[k] = 1;
  for (int d = out.rank - 1; d >= 0; --d) {
    for (int k = 0; k <= N; ++k) {
      const TensorDesc& tensor = k == 0 ? out : *in[k - 1];
      const int own = d - (out.rank - tensor.rank);
      const std::int64_t size = own >= 0 ? tensor.shape[own] : 1;
      stride[d][k] = size == 1 ? 0 : dense[k];
      dense[k] *= size;
    }
  }
  RowLoop<N + 1> loop;
  for (int d = 0; d < out.rank; ++d) loop.add_dimension(out.shape[d], stride[d]);
  return loop;
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
