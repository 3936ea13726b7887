// A plug-in of a later version, which has no table for this one.
#include "trivet/kernels/plugin.h"

extern "C" __attribute__((visibility("default"))) const TrivetBackend* trivet_backend_query(uint32_t) {
  static const uint32_t version[16] = {TRIVET_BACKEND_VERSION + 1};  // nothing else may be read
  return reinterpret_cast<const TrivetBackend*>(version);
}
