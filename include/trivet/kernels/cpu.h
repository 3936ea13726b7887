// The CPU's kernels, by op name and instruction set.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu {

enum class Isa { baseline, avx2, avx512 };

const char* isa_name(Isa isa);

// The widest instruction set that this processor has and this program was built for.
Isa best_isa();

// Null if the CPU has no kernel for this op.
const KernelEntry* find(std::string_view op, Isa isa);

// Sets how many threads the calling thread's parallel regions use from now on (oneDNN's as well). One OpenMP
// pool serves the whole program: a second pool on the same cores costs 2.6 to 12 times (measured).
void set_threads(int threads);

// Calls task(i, thread) for each i below `tasks`, shared among `threads` threads of the pool. What one of them throws
// is thrown here.
void run_tasks(std::int64_t tasks, int threads, const std::function<void(std::int64_t, int)>& task);

// Resident bytes of one more OpenMP thread, stack included, as the plan counts them.
inline constexpr std::size_t kThreadBytes = 256 * 1024;

}  // namespace trivet::kernels::cpu
