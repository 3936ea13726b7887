// What this program was built from, for the record of each run.
#pragma once

namespace trivet {

struct BuildInfo {
  const char* version;
  const char* commit;  // "unknown" outside of a git checkout
  const char* compiler;
  const char* build_type;
};

BuildInfo build_info();

}  // namespace trivet
