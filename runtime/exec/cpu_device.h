// The device that is always there.
#pragma once

#include <memory>

#include "trivet/exec/device.h"

namespace trivet {

// Error(usage) for an instruction set that this processor does not have.
std::shared_ptr<const Device> open_cpu(const DeviceOptions& options);

}  // namespace trivet
