#include "runtime/exec/plugin_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/exec/plugins.h"
#include "trivet/kernels/plugin_layout.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "libtrivet_cuda.so";
constexpr const char* kToolkitFolder = "/usr/local/cuda/lib64";
constexpr const char* kBuildHint = "build Trivet where the CUDA toolkit is (docs/cuda.md), or run on device: cpu";
constexpr const char* kRebuildHint = "take the program and libtrivet_cuda.so from the same build";

// In the order in which they need each other.
constexpr const char* kLibraries[] = {"libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13",
                                      "libcudnn.so.9",   "libnccl.so.2",      "libcupti.so.13"};

// The folders of a variable like PATH. Relative ones are left out: what is opened should not depend on where a job is
// started.
std::vector<fs::path> folders_of(const char* variable) {
  std::vector<fs::path> result;
  const char* value = std::getenv(variable);
  std::string_view rest = value ? value : "";
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    if (const fs::path folder = rest.substr(0, end); folder.is_absolute()) result.push_back(folder);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return result;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Opens each library from the first of the folders that has it. A plug-in, and what it opens later, then gets these:
// the loader knows them by their names.
void open_libraries(const std::vector<fs::path>& folders) {
  for (const char* library : kLibraries) {
    for (const fs::path& folder : folders) {
      if (is_file(folder / library) && ::dlopen((folder / library).c_str(), RTLD_LAZY | RTLD_LOCAL)) break;
    }
  }
}

void* open_file(const fs::path& file) {
  static std::once_flag once;
  const std::vector<fs::path> folders = folders_of("TRIVET_CUDA_LIBDIRS");
  std::call_once(once, [&] { open_libraries(folders); });
  if (void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  open_libraries({kToolkitFolder});
  if (void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const char* reason = ::dlerror();
  std::vector<std::string> looked;
  for (const fs::path& folder : folders) looked.push_back(folder.string());
  looked.emplace_back("the system's libraries");
  looked.emplace_back(kToolkitFolder);
  refuse_cuda(fmt::format("{} cannot be opened: {}; looked in {}", file.string(), reason ? reason : "unknown reason",
                          join(looked, ", ")),
              "set TRIVET_CUDA_LIBDIRS to the folders of the CUDA 13 libraries, separated by colons");
}

const TrivetBackend& checked_table(void* library, const fs::path& file) {
  const auto query = reinterpret_cast<TrivetBackendQuery>(::dlsym(library, TRIVET_BACKEND_QUERY));
  if (!query) {
    refuse_cuda(fmt::format("{} has no function {}: it is no plug-in of Trivet", file.string(), TRIVET_BACKEND_QUERY),
                kRebuildHint);
  }
  const TrivetBackend* table = query(TRIVET_BACKEND_VERSION);
  if (!table || table->version != TRIVET_BACKEND_VERSION) {
    refuse_cuda(fmt::format("{} has version {} of the interface, this program has {}", file.string(),
                            table ? std::to_string(table->version) : "none", TRIVET_BACKEND_VERSION),
                kRebuildHint);
  }
  if (table->size != sizeof(TrivetBackend) || table->layout != kernels::plugin_layout()) {
    refuse_cuda(fmt::format("{} was built with other structs of attributes than this program", file.string()),
                kRebuildHint);
  }
  return *table;
}

std::string text_of(const char* text, std::size_t capacity) { return {text, ::strnlen(text, capacity)}; }

template <std::size_t n>
std::string text_of(const char (&text)[n]) {
  return text_of(text, n);
}

void list_libraries(const TrivetBackend& backend, PluginReport& report) {
  std::vector<TrivetLibrary> libraries(16);
  const int count = backend.describe_libraries(libraries.data(), static_cast<std::int32_t>(libraries.size()));
  libraries.resize(std::min(libraries.size(), static_cast<std::size_t>(std::max(count, 0))));
  for (const TrivetLibrary& l : libraries) {
    report.libraries.push_back({text_of(l.name), text_of(l.version), text_of(l.place), l.required != 0});
  }
}

void list_devices(const TrivetBackend& backend, PluginReport& report) {
  const PluginDevices devices = count_devices(backend);
  report.problem = devices.why_not;
  for (int i = 0; i < devices.count; ++i) {
    TrivetDeviceInfo info{};
    TrivetMessage message{};
    if (backend.describe_device(i, &info, &message) == TRIVET_OK) {
      report.devices.push_back({text_of(info.name), info.memory_bytes});
    } else {
      report.devices.push_back({text_of(message.text), 0});
    }
  }
}

}  // namespace

std::vector<fs::path> plugin_folders() {
  std::vector<fs::path> folders = folders_of("TRIVET_PLUGIN_PATH");
  Dl_info self{};
  if (::dladdr(reinterpret_cast<const void*>(&plugin_folders), &self) != 0 && self.dli_fname) {
    std::error_code error;
    fs::path file = fs::canonical(self.dli_fname, error);
    // A program that was started by name alone is known by that name only.
    if (error || !is_file(file)) file = fs::canonical("/proc/self/exe", error);
    if (!error) {
      folders.push_back(file.parent_path());
      // Beside lib/libtrivet.so, and beside the folders bin and libexec/trivet of a program.
      folders.push_back(file.parent_path().parent_path() / "lib");
      folders.push_back(file.parent_path().parent_path().parent_path() / "lib");
    }
  }
  return folders;
}

fs::path find_plugin(const std::vector<fs::path>& folders) {
  for (const fs::path& folder : folders) {
    if (is_file(folder / kFile)) return folder / kFile;
  }
  return {};
}

void refuse_cuda(const std::string& reason, const std::string& hint) {
  throw Error(ErrorCode::usage, fmt::format("CUDA cannot be used: {}", reason), hint);
}

const TrivetBackend& open_plugin(const fs::path& file) {
  static std::mutex mutex;
  static std::map<fs::path, const TrivetBackend*> opened;
  const std::lock_guard lock(mutex);
  const TrivetBackend*& table = opened[file];
  if (!table) table = &checked_table(open_file(file), file);
  return *table;
}

const TrivetBackend& open_plugin() {
  const std::vector<fs::path> folders = plugin_folders();
  const fs::path file = find_plugin(folders);
  if (file.empty()) {
    std::vector<std::string> looked;
    for (const fs::path& folder : folders) looked.push_back(folder.string());
    refuse_cuda(fmt::format("there is no {}; looked in {}", kFile, join(looked, ", ")), kBuildHint);
  }
  return open_plugin(file);
}

PluginDevices count_devices(const TrivetBackend& backend) {
  std::int32_t count = 0;
  TrivetMessage message{};
  if (backend.count_devices(&count, &message) != TRIVET_OK) refuse_cuda(text_of(message.text), "see `trivet doctor`");
  return {std::max(count, 0), count > 0 ? std::string() : text_of(message.text)};
}

int count_gpus() {
  try {
    return count_devices(open_plugin()).count;
  } catch (const Error&) {
    return 0;
  }
}

PluginReport examine_cuda() {
  PluginReport report;
  const std::vector<fs::path> folders = plugin_folders();
  for (const fs::path& folder : folders) report.searched.push_back(folder.string());
  try {
    report.file = find_plugin(folders).string();
    const TrivetBackend& backend = open_plugin();
    report.build = backend.build;
    list_libraries(backend, report);
    list_devices(backend, report);
  } catch (const Error& e) {
    report.problem = e.message();
    report.hint = e.hint();
  }
  return report;
}

}  // namespace trivet
