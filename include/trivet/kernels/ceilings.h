// What this machine's CPU can do at best, measured; a plan's predicted time follows from it by the roofline model
// (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009).
#pragma once

#include <cstddef>

namespace trivet::kernels::cpu {

struct Ceilings {
  // Matrix products as the kernels do them, operations per second: matmul on f32 and bf16, linear_int8.
  double matrix_flops = 0;
  double bf16_matrix_flops = 0;
  double int8_matrix_flops = 0;
  double vector_flops = 0;     // multiplications and additions on registers, operations per second
  double memory_bytes = 0;     // reading one array and writing another, larger than the last cache, bytes per second
  double triad_bytes = 0;      // reading two arrays and writing a third (STREAM's triad), as large
  double cache_bytes = 0;      // as memory_bytes, in each thread's level-2 cache
  double launch_seconds = 0;   // starting and ending one parallel region
  std::size_t cache_size = 0;  // bytes of the level-2 caches of `threads` cores
};

// Measures with `threads` threads of the calling thread's pool, in less than a second and with up to 256 MiB. Rates
// are the sum of what each thread does by itself; other processes on the machine change them little.
Ceilings measure_ceilings(int threads);

}  // namespace trivet::kernels::cpu
