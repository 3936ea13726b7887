#include "tests/op_cases/op_case.h"

namespace trivet::testing {

std::vector<OpCase> attention_cases() { return {}; }

}  // namespace trivet::testing
