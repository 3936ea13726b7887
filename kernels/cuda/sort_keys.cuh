// Sorting rows of keys that all differ: a bitonic network (Batcher, "Sorting networks and their applications", 1968).
// No atomics, and the same steps for all data. Bound: rows of up to 2048 keys pass through shared memory once; longer
// ones are read and written once for each step whose pairs are further apart, and once for the rest of each run.
#pragma once

#include "kernels/cuda/loop.cuh"

namespace trivet::kernels::cuda {

// A key of 64 bits with its index; 32-bit keys have theirs in the lower half of one word.
struct WideItem {
  std::uint64_t key;
  std::uint64_t index;
};
TRIVET_DEVICE bool is_before(std::uint64_t a, std::uint64_t b) { return a < b; }
TRIVET_DEVICE bool is_before(const WideItem& a, const WideItem& b) {
  return a.key < b.key || (a.key == b.key && a.index < b.index);
}

// What fills a row up to a power of two: behind all others.
template <class Item>
struct LastItem {
  TRIVET_DEVICE static Item value() { return ~std::uint64_t{0}; }
};
template <>
struct LastItem<WideItem> {
  TRIVET_DEVICE static WideItem value() { return {~std::uint64_t{0}, ~std::uint64_t{0}}; }
};

inline constexpr std::int64_t kSorted = 2048;  // items that a block sorts in shared memory

inline std::int64_t padded_count(std::int64_t count) {
  std::int64_t padded = 2;
  while (padded < count) padded *= 2;
  return padded;
}

template <class Item>
TRIVET_DEVICE void sort_pair(Item& a, Item& b, bool ascending) {
  const Item first = a;
  const Item second = b;
  const bool swap = is_before(second, first) == ascending;
  a = swap ? second : first;
  b = swap ? first : second;
}

// Element i's partner at distance `stride`, for pair p.
TRIVET_DEVICE std::int64_t first_of_pair(std::int64_t p, std::int64_t stride) {
  return (p & ~(stride - 1)) * 2 + (p & (stride - 1));
}

// By a whole block: the steps of the network that stay within the `count` items of `mine`, up to runs of `last` and
// from runs of `first` on. `begin` is the first item's place in its row, whose length `row` is a power of two.
template <class Item>
TRIVET_DEVICE void sort_shared(Item* mine, std::int64_t count, std::int64_t begin, std::int64_t row, std::int64_t first,
                               std::int64_t last) {
  for (std::int64_t run = first; run <= last; run *= 2) {
    for (std::int64_t stride = (run < count ? run : count) / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (std::int64_t p = threadIdx.x; p < count / 2; p += kBlock) {
        const std::int64_t i = first_of_pair(p, stride);
        sort_pair(mine[i], mine[i + stride], ((begin + i) & (row - 1) & run) == 0);
      }
    }
  }
  __syncthreads();
}

template <class Item>
__global__ void __launch_bounds__(kBlock, 2)
    sort_chunks_kernel(Item* items, std::int64_t n, std::int64_t row, std::int64_t first, std::int64_t last) {
  TRIVET_SHARED(Item, mine, kSorted);
  const std::int64_t begin = std::int64_t{blockIdx.x} * kSorted;
  const std::int64_t count = n - begin < kSorted ? n - begin : kSorted;
  for (std::int64_t i = threadIdx.x; i < count; i += kBlock) mine[i] = items[begin + i];
  sort_shared(mine, count, begin, row, first, last);
  for (std::int64_t i = threadIdx.x; i < count; i += kBlock) items[begin + i] = mine[i];
}

// One step whose pairs are further apart.
template <class Item>
__global__ void __launch_bounds__(kBlock, 2)
    sort_step_kernel(Item* items, std::int64_t pairs, std::int64_t row, std::int64_t stride, std::int64_t run) {
  for (std::int64_t p = global_thread(); p < pairs; p += global_threads()) {
    const std::int64_t i = first_of_pair(p, stride);
    sort_pair(items[i], items[i + stride], (i & (row - 1) & run) == 0);
  }
}

// Sorts each of `rows` rows of `row` items, a power of two.
template <class Item>
void sort_rows(Item* items, std::int64_t rows, std::int64_t row, void* stream) {
  const std::int64_t n = rows * row;
  if (n == 0) return;
  const auto chunks = static_cast<unsigned>((n + kSorted - 1) / kSorted);
  const std::int64_t inside = row < kSorted ? row : kSorted;
  TRIVET_LAUNCH((sort_chunks_kernel<Item>), dim3(chunks), dim3(kBlock), 0, stream, items, n, row, std::int64_t{2},
                inside);
  for (std::int64_t run = 2 * inside; run <= row; run *= 2) {
    for (std::int64_t stride = run / 2; stride >= kSorted; stride /= 2) {
      TRIVET_LAUNCH((sort_step_kernel<Item>), dim3(blocks_for(n / 2)), dim3(kBlock), 0, stream, items, n / 2, row,
                    stride, run);
    }
    TRIVET_LAUNCH((sort_chunks_kernel<Item>), dim3(chunks), dim3(kBlock), 0, stream, items, n, row, run, run);
  }
}

}  // namespace trivet::kernels::cuda
