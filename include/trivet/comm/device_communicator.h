// Ranks whose devices speak with each other, GPUs through NCCL.
#pragma once

#include <memory>

#include "trivet/comm/communicator.h"
#include "trivet/exec/collectives.h"
#include "trivet/exec/device.h"

namespace trivet {

// Two faces of one thing: calls are made through one of them at a time.
struct JoinedDevices {
  // "nccl": all memory is that of the device. What a call is about must be there, on whichever stream it was made, when
  // the call is made, and is done when it returns. Sums are made in an order that NCCL chooses by version, number of
  // ranks and how the devices are connected: the same every time on the same machines, but not the tree of the others.
  std::shared_ptr<Communicator> communicator;
  std::shared_ptr<Collectives> collectives;  // for an arena on the device
};

// Collective: `host` is what the ranks speak through otherwise, by which they find each other and, after a failure, who
// is at fault; its deadline counts. Error(usage) if the device cannot speak with others, with the reason, Error(rank)
// if the others do not come.
JoinedDevices join_devices(std::shared_ptr<const Device> device, std::shared_ptr<Communicator> host);

}  // namespace trivet
