// What this machine's CPU can do at best, measured; a plan's predicted time follows from it by the roofline model
// (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009).
#pragma once

#include <cstddef>

namespace trivet::kernels::cpu {

struct Ceilings {
  double matrix_flops = 0;     // float32 matrix product as the matmul kernel does it, operations per second
  double vector_flops = 0;     // multiplications and additions on registers, operations per second
  double memory_bytes = 0;     // reading one array and writing another, larger than the last cache, bytes per second
  double cache_bytes = 0;      // the same in each thread's level-2 cache
  double launch_seconds = 0;   // starting and ending one parallel region
  std::size_t cache_size = 0;  // bytes of the level-2 caches of `threads` cores
};

// Measures with `threads` threads of the calling thread's pool, in about half a second and with up to 256 MiB. Rates
// are the sum of what each thread does by itself; other processes on the machine change them little.
Ceilings measure_ceilings(int threads);

}  // namespace trivet::kernels::cpu
