// Ops that depend on the order of elements along one dimension. Elements become keys: unsigned integers in their order,
// the largest for every NaN, the same for 0 and -0, with the element's index behind them, so that all differ and equal
// elements keep their order. Bound: x read once and the results written once for lines of up to 2048 elements, and for
// the top 1024 of longer ones, whose chunks are sorted in shared memory and hand on their first items. Longer lines are
// sorted in memory (sort_keys.cuh).
#pragma once

#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/sort_keys.cuh"

namespace trivet::kernels::cuda {

// ---- keys ----

enum class NumberKind { unsigned_integer, signed_integer, floating };

// How elements, held as words of type T, are ordered.
template <class T>
struct KeyRule {
  NumberKind kind;
  T infinity;  // bits; of floats
  bool reversed;
  bool nan_first;  // for reversed keys: NaN counts as the smallest

  TRIVET_DEVICE T operator()(T bits) const {
    constexpr T kSign = static_cast<T>(T{1} << (8 * sizeof(T) - 1));
    T key = bits;
    if (kind == NumberKind::signed_integer) key = static_cast<T>(bits ^ kSign);
    if (kind == NumberKind::floating) {
      const auto magnitude = static_cast<T>(bits & ~kSign);
      if (magnitude > infinity) return reversed && !nan_first ? T{0} : static_cast<T>(~T{0});
      const bool negative = (bits & kSign) != 0;
      key = magnitude == 0 ? kSign : static_cast<T>(negative ? ~bits : bits | kSign);
    }
    return reversed ? static_cast<T>(~key) : key;
  }
};

template <class T>
struct ItemOf {
  using Type = std::uint64_t;
  TRIVET_DEVICE static Type make(T key, std::uint32_t index) { return (static_cast<std::uint64_t>(key) << 32) | index; }
};
template <>
struct ItemOf<std::uint64_t> {
  using Type = WideItem;
  TRIVET_DEVICE static Type make(std::uint64_t key, std::uint32_t index) { return {key, index}; }
};

TRIVET_DEVICE std::int64_t index_of(std::uint64_t item) { return static_cast<std::int64_t>(item & 0xFFFFFFFFu); }
TRIVET_DEVICE std::int64_t index_of(const WideItem& item) { return static_cast<std::int64_t>(item.index); }
// The item with its index for a key.
TRIVET_DEVICE std::uint64_t ordered_by_index(std::uint64_t item) { return item & 0xFFFFFFFFu; }
TRIVET_DEVICE WideItem ordered_by_index(const WideItem& item) { return {item.index, item.index}; }

// ---- sort, top_k ----

// Lines of n elements, `inner` apart; the first k of each in the order of the keys are wanted, or (not `sorted`) those
// in the order that they have in x.
template <class T>
struct Choice {
  const T* x;
  T* values;
  std::int64_t* indices;
  std::int64_t lines;
  std::int64_t n;
  std::int64_t inner;
  std::int64_t k;
  bool sorted;
  KeyRule<T> rule;

  // Element 0 of a line that has `length` elements.
  TRIVET_DEVICE std::int64_t first(std::int64_t line, std::int64_t length) const {
    const Quotient at = divide(line, inner);
    return at.quotient * length * inner + at.rest;
  }
  TRIVET_DEVICE typename ItemOf<T>::Type item(std::int64_t line, std::int64_t j) const {
    return ItemOf<T>::make(rule(x[first(line, n) + j * inner]), static_cast<std::uint32_t>(j));
  }
  TRIVET_DEVICE void write(std::int64_t line, std::int64_t j, std::int64_t index) const {
    const std::int64_t to = first(line, k) + j * inner;
    values[to] = x[first(line, n) + index * inner];
    indices[to] = index;
  }
};

// One pass over lines of `length` items, which are made of x or lie in `from` (lines, length): each chunk of `row`
// items (a power of two) hands its first `keep` on to `to` (lines, chunks, keep), or, if that is null, to the results.
template <class Item>
struct ChoicePass {
  const Item* from;
  Item* to;
  std::int64_t length;
  std::int64_t row;
  std::int64_t chunks;
  std::int64_t keep;
};

template <class Item, class T>
__global__ void __launch_bounds__(kBlock, 2) choose_kernel(const __grid_constant__ Choice<T> c, ChoicePass<Item> pass) {
  TRIVET_SHARED(Item, mine, kSorted);
  const std::int64_t rows = kSorted / pass.row;  // of one block
  const std::int64_t units = c.lines * pass.chunks;
  for (std::int64_t begin = blockIdx.x * rows; begin < units; begin += gridDim.x * rows) {
    const std::int64_t here = units - begin < rows ? units - begin : rows;
    __syncthreads();
    for (std::int64_t e = threadIdx.x; e < kSorted; e += kBlock) {
      // Neighbouring threads read neighbours: of one line, or of lines that lie side by side.
      const Quotient by_row = divide(e, c.inner == 1 ? pass.row : rows);
      const std::int64_t r = c.inner == 1 ? by_row.quotient : by_row.rest;
      const std::int64_t j = c.inner == 1 ? by_row.rest : by_row.quotient;
      const Quotient unit = divide(begin + r, pass.chunks);
      const std::int64_t place = unit.rest * pass.row + j;
      Item item = LastItem<Item>::value();
      if (r < here && place < pass.length) {
        item = pass.from != nullptr ? pass.from[unit.quotient * pass.length + place] : c.item(unit.quotient, place);
      }
      mine[r * pass.row + j] = item;
    }
    sort_shared(mine, kSorted, 0, pass.row, 2, pass.row);
    if (pass.to == nullptr && !c.sorted) {
      for (std::int64_t e = threadIdx.x; e < kSorted; e += kBlock) {
        mine[e] = divide(e, pass.row).rest < c.k ? ordered_by_index(mine[e]) : LastItem<Item>::value();
      }
      sort_shared(mine, kSorted, 0, pass.row, 2, pass.row);
    }
    for (std::int64_t e = threadIdx.x; e < here * pass.keep; e += kBlock) {
      const Quotient by_row = divide(e, c.inner == 1 ? pass.keep : here);
      const std::int64_t r = c.inner == 1 ? by_row.quotient : by_row.rest;
      const std::int64_t j = c.inner == 1 ? by_row.rest : by_row.quotient;
      const Item item = mine[r * pass.row + j];
      if (pass.to != nullptr) {
        pass.to[(begin + r) * pass.keep + j] = item;
      } else {
        c.write(begin + r, j, index_of(item));
      }
    }
  }
}

// Items of all lines, filled up to rows of a power of two.
template <class Item, class T>
__global__ void __launch_bounds__(kBlock, 2)
    make_items_kernel(const __grid_constant__ Choice<T> c, Item* items, std::int64_t row) {
  for (std::int64_t i = global_thread(); i < c.lines * row; i += global_threads()) {
    const Quotient at = divide(i, row);
    items[i] = at.rest < c.n ? c.item(at.quotient, at.rest) : LastItem<Item>::value();
  }
}

// The first k of each row by their index, the others last.
template <class Item>
__global__ void __launch_bounds__(kBlock, 2)
    order_by_index_kernel(Item* items, std::int64_t n, std::int64_t row, std::int64_t k) {
  for (std::int64_t i = global_thread(); i < n; i += global_threads()) {
    items[i] = divide(i, row).rest < k ? ordered_by_index(items[i]) : LastItem<Item>::value();
  }
}

template <class Item, class T>
__global__ void __launch_bounds__(kBlock, 2)
    write_items_kernel(const __grid_constant__ Choice<T> c, const Item* items, std::int64_t row) {
  for (std::int64_t i = global_thread(); i < c.lines * c.k; i += global_threads()) {
    // In the order of the results, which are (outer, k, inner).
    const Quotient by_inner = divide(i, c.inner);
    const Quotient by_k = divide(by_inner.quotient, c.k);
    const std::int64_t line = by_k.quotient * c.inner + by_inner.rest;
    c.write(line, by_k.rest, index_of(items[line * row + by_k.rest]));
  }
}

// ---- argmax, argmin ----

TRIVET_DEVICE WideItem shuffle_xor(const WideItem& v, int distance) {
  return {shuffle_xor(v.key, distance), shuffle_xor(v.index, distance)};
}
struct LaterItem {
  template <class Item>
  TRIVET_DEVICE Item operator()(const Item& a, const Item& b) const {
    return is_before(a, b) ? b : a;
  }
};

// Elements with their places, the best one last. Of equal ones the first has the largest number behind its key, or the
// last has.
template <class T>
struct ArgRule {
  KeyRule<T> rule;
  bool select_last;

  TRIVET_DEVICE typename ItemOf<T>::Type item(T bits, std::int64_t place) const {
    const auto index = static_cast<std::uint32_t>(place);
    return ItemOf<T>::make(rule(bits), select_last ? index : ~index);
  }
  template <class Item>
  TRIVET_DEVICE std::int64_t place(const Item& item) const {
    const auto index = static_cast<std::uint32_t>(index_of(item));
    return static_cast<std::int64_t>(select_last ? index : ~index);
  }
};

template <int kGroup, int N, class T>
__global__ void __launch_bounds__(kBlock, 2)
    arg_rows_kernel(const T* x, std::int64_t* y, std::int64_t rows, std::int64_t n, ArgRule<T> rule) {
  using Item = typename ItemOf<T>::Type;
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  for (std::int64_t r = first_row<kGroup>(); r < rows; r += row_step<kGroup>()) {
    Item best{};
    for (std::int64_t c = std::int64_t{lane} * N; c < n; c += std::int64_t{kGroup} * N) {
      const Pack<T, N> pack = load_pack<N>(x + r * n + c);
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) best = LaterItem{}(best, rule.item(pack.v[k], c + k));
    }
    best = join_group<kGroup>(best, Item{}, LaterItem{});
    if (lane == 0) y[r] = rule.place(best);
  }
}

// Along another dimension than the last: a thread for each column, neighbours take neighbours.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    arg_columns_kernel(const T* x, std::int64_t* y, Extents e, ArgRule<T> rule) {
  using Item = typename ItemOf<T>::Type;
  for (std::int64_t i = global_thread(); i < e.outer * e.inner; i += global_threads()) {
    const Quotient at = divide(i, e.inner);
    const T* const column = x + at.quotient * e.size * e.inner + at.rest;
    Item best{};
    for (std::int64_t k = 0; k < e.size; ++k) best = LaterItem{}(best, rule.item(column[k * e.inner], k));
    y[i] = rule.place(best);
  }
}

// ---- non_zero ----

// Bound: x read twice, and 8 bytes written for each dimension and element. Each block has a tile of x.
struct NonZero {
  static constexpr std::int64_t kTile = 8 * kBlock;
  std::int64_t n;
  std::int64_t tiles;
  int rank;
  std::int64_t shape[kMaxRank];
};

template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    count_tiles_kernel(const T* x, T mask, std::int64_t* begins, const __grid_constant__ NonZero z) {
  for (std::int64_t tile = blockIdx.x; tile < z.tiles; tile += gridDim.x) {
    std::int64_t count = 0;
    for (std::int64_t i = tile * NonZero::kTile + threadIdx.x; i < (tile + 1) * NonZero::kTile; i += kBlock) {
      count += i < z.n && (x[i] & mask) != 0 ? 1 : 0;
    }
    count = join_group<kBlock>(count, std::int64_t{0}, Plus{});
    if (threadIdx.x == 0) begins[tile] = count;
  }
}

// Counts become the column where each tile begins; by one block. The total goes to `total`.
template <class Count>
__global__ void __launch_bounds__(kBlock, 2) scan_tiles_kernel(Count* begins, std::int64_t tiles, Count* total) {
  Count sum = 0;
  for (std::int64_t first = 0; first < tiles; first += kBlock) {
    const std::int64_t i = first + threadIdx.x;
    const Count count = i < tiles ? begins[i] : Count{0};
    Count all = 0;
    const Count before = scan_before<kBlock>(count, all);
    if (i < tiles) begins[i] = sum + before;
    sum += all;
  }
  if (threadIdx.x == 0) *total = sum;
}

template <class T>
__global__ void __launch_bounds__(kBlock, 2) write_places_kernel(const T* x, T mask, const std::int64_t* begins,
                                                                 std::int64_t* y, const __grid_constant__ NonZero z) {
  for (std::int64_t tile = blockIdx.x; tile < z.tiles; tile += gridDim.x) {
    std::int64_t column = begins[tile];
    for (std::int64_t first = tile * NonZero::kTile; first < (tile + 1) * NonZero::kTile; first += kBlock) {
      const std::int64_t i = first + threadIdx.x;
      const bool found = i < z.n && (x[i] & mask) != 0;
      std::int64_t all = 0;
      std::int64_t to = column + scan_before<kBlock>(std::int64_t{found ? 1 : 0}, all);
      column += all;
      if (!found) continue;
      std::int64_t rest = i;
      for (int d = z.rank - 1; d >= 0; --d) {
        const Quotient at = divide(rest, z.shape[d]);
        y[d * z.n + to] = at.rest;
        rest = at.quotient;
      }
    }
  }
}

// The columns behind the last one hold x's shape.
__global__ void __launch_bounds__(kBlock, 2)
    fill_columns_kernel(std::int64_t* y, const std::int64_t* total, const __grid_constant__ NonZero z) {
  for (std::int64_t i = global_thread(); i < z.n * z.rank; i += global_threads()) {
    const Quotient at = divide(i, z.n);
    if (at.rest >= *total) y[i] = z.shape[at.quotient];
  }
}

}  // namespace trivet::kernels::cuda
