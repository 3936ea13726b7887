#include "tests/op_cases/op_case.h"

namespace trivet::testing {

std::vector<OpCase> resize_cases() { return {}; }

}  // namespace trivet::testing
