// The entry points of libFuzzer, for one of the targets: TRIVET_FUZZ=csv fuzz [libFuzzer's options] CORPUS
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/fuzz/targets.h"

namespace {

const trivet::testing::FuzzTarget* chosen = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = std::getenv("TRIVET_FUZZ");
  for (const trivet::testing::FuzzTarget& target : trivet::testing::fuzz_targets()) {
    if (name != nullptr && std::strcmp(name, target.name) == 0) chosen = &target;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr, "set TRIVET_FUZZ to one of:");
    for (const trivet::testing::FuzzTarget& target : trivet::testing::fuzz_targets())
      std::fprintf(stderr, " %s", target.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  trivet::testing::run_fuzz_target(*chosen, {data, size});
  return 0;
}
