// Sums down the columns of dense rows, in two stages: each block adds up the rows of one piece for a tile of columns,
// then one thread for each column joins the pieces in their order. The pieces depend on the shape alone. Bound: every
// element read once; the pieces' sums are a few per cent of that.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

// How a block of 256 threads lies over rows of `columns`: `lanes` threads side by side, each with N columns, and
// `strands` of them that take every so-manieth row.
struct ColumnLayout {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  int lanes = 1;
  int strands = kBlock;
  std::int64_t tiles = 1;
  std::int64_t rows_of_piece = 1;
  std::int64_t pieces = 1;

  ColumnLayout(std::int64_t row_count, std::int64_t column_count, int pack) : rows(row_count), columns(column_count) {
    while (lanes < kWarp && lanes * pack < columns) lanes *= 2;
    strands = kBlock / lanes;
    tiles = (columns + lanes * pack - 1) / (lanes * pack);
    constexpr std::int64_t kBlocks = 1024;
    const std::int64_t wanted = tiles < kBlocks ? kBlocks / tiles : 1;
    const std::int64_t least = 8 * strands;
    rows_of_piece = (rows + wanted - 1) / wanted;
    if (rows_of_piece < least) rows_of_piece = least;
    pieces = rows == 0 ? 0 : (rows + rows_of_piece - 1) / rows_of_piece;
  }
};

// Where the running thread is in a ColumnLayout, for a grid of (tiles, pieces).
struct ColumnPlace {
  std::int64_t piece;
  std::int64_t column;
  std::int64_t first;  // row of the piece
  std::int64_t last;
  int lane;
  int strand;

  TRIVET_DEVICE ColumnPlace(const ColumnLayout& layout, int pack)
      : piece(blockIdx.y), lane(static_cast<int>(threadIdx.x) % layout.lanes) {
    strand = static_cast<int>(threadIdx.x) / layout.lanes;
    column = (std::int64_t{blockIdx.x} * layout.lanes + lane) * pack;
    first = piece * layout.rows_of_piece;
    last = first + layout.rows_of_piece < layout.rows ? first + layout.rows_of_piece : layout.rows;
  }
};

// Joins the strands' values pair by pair; the results are left with strand 0. `scratch`: 256 * N floats.
template <int N, class Join = Plus>
TRIVET_DEVICE void join_strands(float (&v)[N], const ColumnLayout& layout, const ColumnPlace& at, float* scratch,
                                const Join& join = {}) {
  __syncthreads();  // an earlier call's reads are over
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) scratch[k * kBlock + static_cast<int>(threadIdx.x)] = v[k];
  for (int half = layout.strands / 2; half > 0; half /= 2) {
    __syncthreads();
    if (at.strand >= half) continue;
    const int mine = at.strand * layout.lanes + at.lane;
    TRIVET_UNROLL
    for (int k = 0; k < N; ++k) {
      float* const sum = scratch + k * kBlock + mine;
      *sum = join(*sum, sum[half * layout.lanes]);
    }
  }
  if (at.strand != 0) return;
  TRIVET_UNROLL
  for (int k = 0; k < N; ++k) v[k] = scratch[k * kBlock + at.lane];
}

// Columns that a block of the second stage joins, by 8 threads each.
inline constexpr int kJoined = 32;

// The pieces' values of one column, `stride` apart, added up in double and in a fixed order; the total is left with the
// threads 0 ... 31 of the block. `scratch`: 256 doubles.
TRIVET_DEVICE double join_pieces(const float* values, std::int64_t pieces, std::int64_t stride, bool inside,
                                 double* scratch) {
  const int strand = static_cast<int>(threadIdx.x) / kJoined;
  double sum = 0;
  for (std::int64_t p = strand; inside && p < pieces; p += kBlock / kJoined) {
    sum += static_cast<double>(values[p * stride]);
  }
  __syncthreads();
  scratch[threadIdx.x] = sum;
  __syncthreads();
  for (int s = 1; strand == 0 && s < kBlock / kJoined; ++s)
    sum += scratch[threadIdx.x + static_cast<unsigned>(s * kJoined)];
  return sum;
}

}  // namespace trivet::kernels::cuda
