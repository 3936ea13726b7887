// How the CPU's kernels share work: fixed pieces, so that results do not depend on the number of threads.
#pragma once

#include <omp.h>

#include <cstdint>

namespace trivet::kernels::cpu::TRIVET_ISA {

// Below this many elements a parallel region costs more than it saves (measured: 1.7 us against 1.2 us serial).
inline constexpr std::int64_t kSerialElements = 16 * 1024;

// Calls f(begin, end) for consecutive pieces of [0, n) of `grain` items (the last may be shorter). The pieces do not
// depend on `threads`: a sum over one piece has the same bits on any number of threads.
// `work` is the number of elements touched in all; below kSerialElements everything runs on the calling thread.
template <class F>
inline void parallel_pieces(std::int64_t n, std::int64_t grain, std::int64_t work, int threads, const F& f) {
  const std::int64_t pieces = (n + grain - 1) / grain;
  if (threads <= 1 || pieces <= 1 || work < kSerialElements) {
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::int64_t begin = p * grain;
      f(begin, begin + grain < n ? begin + grain : n);
    }
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t p = 0; p < pieces; ++p) {
    const std::int64_t begin = p * grain;
    f(begin, begin + grain < n ? begin + grain : n);
  }
}

// Calls f(begin, end) once for each thread's share of [0, n), for functions whose result does not depend on the shares.
template <class F>
inline void parallel_ranges(std::int64_t n, std::int64_t work, int threads, const F& f) {
  if (threads <= 1 || n <= 1 || work < kSerialElements) return f(std::int64_t{0}, n);
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t team = omp_get_num_threads();
    const std::int64_t lane = omp_get_thread_num();
    f(n * lane / team, n * (lane + 1) / team);
  }
}

// As parallel_pieces, with scratch memory for each thread: calls f(begin, end, lane), where lane < threads is the
// number of the thread that runs the piece.
template <class F>
inline void parallel_pieces_on_lanes(std::int64_t n, std::int64_t grain, std::int64_t work, int threads, const F& f) {
  const std::int64_t pieces = (n + grain - 1) / grain;
  if (threads <= 1 || pieces <= 1 || work < kSerialElements) {
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::int64_t begin = p * grain;
      f(begin, begin + grain < n ? begin + grain : n, 0);
    }
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t p = 0; p < pieces; ++p) {
    const std::int64_t begin = p * grain;
    f(begin, begin + grain < n ? begin + grain : n, omp_get_thread_num());
  }
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
