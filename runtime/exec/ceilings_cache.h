// Ceilings are measured once for a machine and kept in the user's cache folder.
#pragma once

#include <string>

#include "trivet/plan/target.h"

namespace trivet {

Ceilings cached_ceilings(const std::string& device, int threads);

}  // namespace trivet
