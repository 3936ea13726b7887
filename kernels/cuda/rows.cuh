// Groups of threads that work on one row together, and rows kept in shared memory, so that a kernel that needs a row
// twice reads it from memory once.
#pragma once

#include "kernels/cuda/numbers.cuh"

namespace trivet::kernels::cuda {

// ---- joining the values of a group: a warp, or a block of kGroup threads ----

template <class V>
TRIVET_DEVICE V shuffle_xor(const V& v, int distance) {
  return __shfl_xor_sync(kFullMask, v, distance);
}

// Structs of several numbers bring a shuffle_xor of their own, and no initializers: they lie in shared memory.
template <class Join, class V>
TRIVET_DEVICE V join_warp(V v, const Join& join) {
  TRIVET_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) v = join(v, shuffle_xor(v, distance));
  return v;
}

// The same value in every thread of the group. A block may call it again at once: the first barrier keeps the writes
// of this call behind the reads of the one before.
template <int kGroup, class V, class Join>
TRIVET_DEVICE V join_group(V v, V start, const Join& join) {
  v = join_warp(v, join);
  if constexpr (kGroup > kWarp) {
    TRIVET_SHARED(V, of_warps, kGroup / kWarp);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    __syncthreads();
    if (lane == 0) of_warps[threadIdx.x / kWarp] = v;
    __syncthreads();
    v = join_warp(lane < kGroup / kWarp ? of_warps[lane] : start, join);
  }
  return v;
}

struct Plus {
  template <class V>
  TRIVET_DEVICE V operator()(V a, V b) const {
    return a + b;
  }
};
struct Larger {
  TRIVET_DEVICE float operator()(float a, float b) const { return larger(a, b); }
};

template <int kGroup>
TRIVET_DEVICE float group_sum(float v) {
  return join_group<kGroup>(v, 0.0f, Plus{});
}
template <int kGroup>
TRIVET_DEVICE float group_max(float v) {
  return join_group<kGroup>(v, -infinity(), Larger{});
}

// ---- rows ----

// Rows up to this length are taken by a warp each, longer ones by a block.
inline constexpr std::int64_t kWarpRow = 1024;
inline constexpr std::int64_t kMostKept = 48;  // elements for each thread: 48 KiB for 256 threads

// How rows of n elements are laid out over groups of kGroup threads that read N elements at a time.
struct RowLayout {
  std::int64_t n = 0;
  std::int64_t slots = 0;  // elements that each thread takes at most
  bool kept = false;       // in shared memory

  RowLayout(std::int64_t columns, int group, int pack) : n(columns) {
    const std::int64_t step = std::int64_t{group} * pack;
    slots = (n + step - 1) / step * pack;
    kept = slots <= kMostKept;
  }
  std::size_t shared_bytes() const { return kept ? static_cast<std::size_t>(slots) * kBlock * sizeof(float) : 0; }
};

// Calls run(group, pack) with the sizes for rows of n elements as types; `packed`: all rows are aligned to 16 bytes.
template <int kValue>
struct Size {
  static constexpr int value = kValue;
};
template <class T, class F>
void with_row_sizes(std::int64_t n, bool packed, const F& run) {
  const bool packs = packed && n % kPack<T> == 0;
  if (n <= kWarpRow) {
    packs ? run(Size<kWarp>(), Size<kPack<T>>()) : run(Size<kWarp>(), Size<1>());
  } else {
    packs ? run(Size<kBlock>(), Size<kPack<T>>()) : run(Size<kBlock>(), Size<1>());
  }
}

// Blocks of 256 threads for rows, and the row of the running group.
template <int kGroup>
unsigned row_blocks(std::int64_t rows) {
  return blocks_for(rows, kBlock / kGroup);
}
template <int kGroup>
TRIVET_DEVICE std::int64_t first_row() {
  return global_thread() / kGroup;
}
template <int kGroup>
TRIVET_DEVICE std::int64_t row_step() {
  return global_threads() / kGroup;
}

// The running thread's part of one row. Each thread reads, keeps and writes columns of its own, so nothing has to be
// waited for; kept elements of neighbouring threads are neighbours, so that no banks of shared memory collide.
template <int kGroup, int N, class T>
struct Row {
  const T* from;
  float* kept;  // null: read again from memory
  std::int64_t n;
  int lane;

  TRIVET_DEVICE Row(const T* row, float* shared, const RowLayout& layout)
      : from(row), n(layout.n), lane(static_cast<int>(threadIdx.x) % kGroup) {
    kept =
        layout.kept ? shared + static_cast<std::int64_t>(threadIdx.x) / kGroup * layout.slots * kGroup + lane : nullptr;
  }

  // Calls f(first column, values) for each pack of N columns, for the first time.
  template <class F>
  TRIVET_DEVICE void load_packs(const F& f) {
    float* slot = kept;
    TRIVET_NO_UNROLL  // four packs at once spill registers
        for (std::int64_t c = std::int64_t{lane} * N; c < n; c += std::int64_t{kGroup} * N) {
      float v[N];
      load_floats(from + c, v);
      if (kept != nullptr) {
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) slot[k * kGroup] = v[k];
        slot += N * kGroup;
      }
      f(c, v);
    }
  }

  // Again.
  template <class F>
  TRIVET_DEVICE void each_pack(const F& f) const {
    const float* slot = kept;
    TRIVET_NO_UNROLL
    for (std::int64_t c = std::int64_t{lane} * N; c < n; c += std::int64_t{kGroup} * N) {
      float v[N];
      if (kept != nullptr) {
        TRIVET_UNROLL
        for (int k = 0; k < N; ++k) v[k] = slot[k * kGroup];
        slot += N * kGroup;
      } else {
        load_floats(from + c, v);
      }
      f(c, v);
    }
  }

  // Calls f(first column, values) and writes what it leaves in values.
  template <class F>
  TRIVET_DEVICE void write_packs(T* to, const F& f) const {
    each_pack([&](std::int64_t c, float(&v)[N]) {
      f(c, v);
      store_floats(to + c, v);
    });
  }

  // The same element by element, for functions of a value and nothing else.
  template <class F>
  TRIVET_DEVICE void load(const F& f) {
    load_packs([&](std::int64_t, const float(&v)[N]) {
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) f(v[k]);
    });
  }
  template <class F>
  TRIVET_DEVICE void each(const F& f) const {
    each_pack([&](std::int64_t, const float(&v)[N]) {
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) f(v[k]);
    });
  }
  template <class F>
  TRIVET_DEVICE void write(T* to, const F& f) const {
    write_packs(to, [&](std::int64_t, float(&v)[N]) {
      TRIVET_UNROLL
      for (int k = 0; k < N; ++k) v[k] = f(v[k]);
    });
  }
};

}  // namespace trivet::kernels::cuda
