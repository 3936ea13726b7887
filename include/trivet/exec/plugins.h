// What a machine has for CUDA: the plug-in libtrivet_cuda.so, the libraries that it needs, and devices.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace trivet {

struct PluginReport {
  struct Library {
    std::string name;
    std::string version;  // empty: missing
    std::string place;    // its file, or why it is missing
    bool required = false;
  };
  struct Device {
    std::string name;
    std::size_t memory_bytes = 0;
  };

  std::vector<std::string> searched;  // folders, in this order
  std::string file;                   // of the plug-in; empty if there is none
  std::string build;                  // what the plug-in was built with and for
  std::vector<Library> libraries;     // the driver and others, as the plug-in finds them
  std::vector<Device> devices;
  std::string problem;  // why CUDA cannot be used; empty if it can
  std::string hint;     // how to mend it
};

// Looks, and opens the plug-in if there is one. What is wrong is in the report, never thrown.
PluginReport examine_cuda();

// How many GPUs there are; 0 if CUDA cannot be used.
int count_gpus();

}  // namespace trivet
