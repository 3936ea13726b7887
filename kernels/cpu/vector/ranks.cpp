// What a rank does by itself for sums and broadcasts over ranks: nothing, where the results have the places of the
// inputs. The session does the rest (trivet/exec/collectives.h).
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kGrain = 256 * 1024;  // bytes

void copy(const View& from, const View& to, int threads) {
  if (from.data == to.data) return;
  std::int64_t bytes = static_cast<std::int64_t>(dtype_size(to.dtype));
  for (int i = 0; i < to.rank; ++i) bytes *= to.shape[i];
  const char* in = static_cast<const char*>(from.data);
  char* out = static_cast<char*>(to.data);
  parallel_pieces(bytes, kGrain, bytes / 4, threads, [=](std::int64_t begin, std::int64_t end) {
    __builtin_memcpy(out + begin, in + begin, static_cast<std::size_t>(end - begin));
  });
}

void copy_all(const KernelArgs& args) {
  for (std::size_t i = 0; i < args.out.size(); ++i) copy(args.in[i], args.out[i], args.threads);
}

void assign(const KernelArgs& args) { copy(args.in[1], args.out[0], args.threads); }

void set_to_zero(const KernelArgs& args) { *static_cast<float*>(args.out[0].data) = 0; }

bool any(const KernelSpec&) { return true; }

constexpr KernelEntry kKernels[] = {
    {"sum_ranks_start", any, copy_all},         {"sum_ranks_wait", any, copy_all},
    {"reduce_ranks_start", any, copy_all},      {"reduce_ranks_wait", any, copy_all},
    {"reduce_ranks_sent", any, set_to_zero},    {"broadcast_ranks_send", any, set_to_zero},
    {"broadcast_ranks_receive", any, copy_all}, {"assign", any, assign},
};

}  // namespace

std::span<const KernelEntry> ranks_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
