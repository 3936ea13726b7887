// Running sums over a group of threads: a warp, or a block of kGroup threads.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace trivet::kernels::cuda {

template <class V>
TRIVET_DEVICE V scan_warp(V v) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  TRIVET_UNROLL
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const V before = __shfl_up_sync(kFullMask, v, static_cast<unsigned>(distance));
    if (lane >= distance) v = before + v;
  }
  return v;
}

// What the threads before this one brought, together, and in `total` what all did. Nothing is subtracted, so infinities
// stay what they are. A block may call it again at once.
template <int kGroup, class V>
TRIVET_DEVICE V scan_before(V v, V& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const V running = scan_warp(v);
  V before = __shfl_up_sync(kFullMask, running, 1u);
  if (lane == 0) before = V{0};
  if constexpr (kGroup > kWarp) {
    TRIVET_SHARED(V, of_warps, kGroup / kWarp);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    __syncthreads();
    if (lane == kWarp - 1) of_warps[warp] = running;
    __syncthreads();
    const V warps = scan_warp(lane < kGroup / kWarp ? of_warps[lane] : V{0});
    total = __shfl_sync(kFullMask, warps, kGroup / kWarp - 1);
    const V of_others = __shfl_sync(kFullMask, warps, warp > 0 ? warp - 1 : 0);
    return warp > 0 ? of_others + before : before;
  } else {
    total = __shfl_sync(kFullMask, running, kWarp - 1);
    return before;
  }
}

}  // namespace trivet::kernels::cuda
