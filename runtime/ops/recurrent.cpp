#include "runtime/ops/families.h"

namespace trivet {

std::vector<OpDef> recurrent_ops() { return {}; }

}  // namespace trivet
