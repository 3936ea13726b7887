// Finds and opens libtrivet_cuda.so. An opened plug-in stays open until the program ends: what CUDA has started in a
// process cannot be undone.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "trivet/kernels/plugin.h"

namespace trivet {

// Where the plug-in is looked for, in this order: the folders of TRIVET_PLUGIN_PATH, that of the program (or of
// libtrivet, if that is what calls), and the folder lib beside it.
std::vector<std::filesystem::path> plugin_folders();

// The first folder's that has one; empty if none has.
std::filesystem::path find_plugin(const std::vector<std::filesystem::path>& folders);

// Opens it, or takes it as it was opened before. Error(usage) with the reason if it cannot be opened, is no plug-in or
// one of another version. Libraries are taken from TRIVET_CUDA_LIBDIRS, the system's search, and the toolkit's folder.
const TrivetBackend& open_plugin(const std::filesystem::path& file);

// "CUDA cannot be used: <reason>" with a hint, as an Error(usage).
[[noreturn]] void refuse_cuda(const std::string& reason, const std::string& hint);

// The plug-in of this machine. Error(usage) as above, and if there is none.
const TrivetBackend& open_plugin();

// Why there is no device, as the plug-in says; how many otherwise. Error(usage) if even that cannot be found out.
struct PluginDevices {
  int count = 0;
  std::string why_not;
};
PluginDevices count_devices(const TrivetBackend& backend);

}  // namespace trivet
