#include "kernels/cpu/families.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

std::span<const KernelEntry> activation_kernels() { return {}; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
