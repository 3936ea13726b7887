#include "kernels/cpu/epilogue.h"

#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {

const Epilogue& epilogue() {
  switch (best_isa()) {
#if defined(__x86_64__)
    case Isa::avx512:
      return avx512::kEpilogue;
    case Isa::avx2:
      return avx2::kEpilogue;
#endif
    default:
      return baseline::kEpilogue;
  }
}

}  // namespace trivet::kernels::cpu
