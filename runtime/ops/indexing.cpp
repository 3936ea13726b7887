#include "runtime/ops/families.h"

namespace trivet {

std::vector<OpDef> indexing_ops() { return {}; }

}  // namespace trivet
