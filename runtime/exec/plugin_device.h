// A device behind the border of trivet/kernels/plugin.h.
#pragma once

#include <memory>

#include "trivet/exec/device.h"
#include "trivet/kernels/plugin.h"

namespace trivet {

// The plug-in's device of this number, counted from 0. Error(usage) if there is none, with the plug-in's reason.
std::shared_ptr<const Device> open_plugin_device(const TrivetBackend& backend, int number);

}  // namespace trivet
