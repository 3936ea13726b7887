// What the plug-in for tests has done so far; its function fake_counts() gives them.
#pragma once

struct FakeCounts {
  int open_devices = 0;
  int allocations = 0;
  int kernels = 0;  // put on a stream or captured one by one
  int graphs = 0;
  int graph_launches = 0;
  int synchronizations = 0;
};
