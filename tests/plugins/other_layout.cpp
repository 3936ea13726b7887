// A plug-in of this version that was built with attribute structs of other sizes.
#include "trivet/kernels/plugin_layout.h"

extern "C" __attribute__((visibility("default"))) const TrivetBackend* trivet_backend_query(uint32_t) {
  static const TrivetBackend table = [] {
    TrivetBackend result{};
    result.version = TRIVET_BACKEND_VERSION;
    result.size = sizeof(TrivetBackend);
    result.layout = trivet::kernels::plugin_layout() + 1;
    return result;
  }();
  return &table;
}
