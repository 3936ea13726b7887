#include <omp.h>

#include <algorithm>

#include "kernels/cpu/onednn.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

#if defined(__x86_64__)

namespace {

// The features of the psABI's levels x86-64-v3 and x86-64-v4, which the vector kernels are compiled for.
bool has_v3() {
  return __builtin_cpu_supports("avx") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

Isa best_isa() {
  static const Isa best = [] {
    __builtin_cpu_init();
    return has_v4() ? Isa::avx512 : has_v3() ? Isa::avx2 : Isa::baseline;
  }();
  return best;
}

#else

Isa best_isa() { return Isa::baseline; }

#endif

void set_threads(int threads) {
  // A oneDNN primitive made for n threads leaves work undone if a region is given fewer, so none may be asked for that
  // OMP_THREAD_LIMIT would refuse, nor may OMP_DYNAMIC take any away.
  omp_set_dynamic(0);
  omp_set_num_threads(std::clamp(threads, 1, omp_get_thread_limit()));
}

void run_tasks(std::int64_t tasks, int threads, const std::function<void(std::int64_t, int)>& task) {
  onednn::parallel_tasks(tasks, threads, task);
}

}  // namespace trivet::kernels::cpu
