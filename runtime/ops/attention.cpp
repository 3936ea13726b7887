#include "runtime/ops/families.h"

namespace trivet {

std::vector<OpDef> attention_ops() { return {}; }

}  // namespace trivet
