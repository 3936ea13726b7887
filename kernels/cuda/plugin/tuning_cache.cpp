#include "kernels/cuda/plugin/tuning_cache.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "kernels/cuda/plugin/cuda_check.h"

namespace trivet::kernels::cuda {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostLines = 100'000;
constexpr std::size_t kMostLine = 4096;

// As the host's cache of ceilings.
fs::path cache_folder() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "trivet";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "trivet";
  return fs::temp_directory_path() / "trivet-cache";
}

// Letters and digits of a device's name.
std::string file_name(const std::string& library, int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::string name = library + "-";
  for (const char* c = properties.name; *c; ++c) name += std::isalnum(static_cast<unsigned char>(*c)) ? *c : '-';
  return name + ".txt";
}

}  // namespace

TuningCache& TuningCache::of_this_device(const std::string& library) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, int>, std::unique_ptr<TuningCache>> caches;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  std::unique_ptr<TuningCache>& cache = caches[{library, device}];
  if (!cache) cache = std::make_unique<TuningCache>((cache_folder() / file_name(library, device)).string());
  return *cache;
}

TuningCache::TuningCache(std::string path) : path_(std::move(path)) { read(); }

std::optional<std::string> TuningCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(key);
  if (found == known_.end()) return std::nullopt;
  return found->second;
}

void TuningCache::remember(const std::string& key, const std::string& algorithm) {
  const std::lock_guard lock(mutex_);
  read();
  known_[key] = algorithm;
  write();
}

// A line is the key, a space and the algorithm. Lines that are not are left out; what the library thinks of an
// algorithm it is asked before it is used.
void TuningCache::read() {
  std::ifstream file(path_);
  std::string line;
  for (std::size_t lines = 0; lines < kMostLines && std::getline(file, line); ++lines) {
    const std::size_t space = line.find(' ');
    if (line.size() > kMostLine || space == 0 || space == std::string::npos || space + 1 == line.size()) continue;
    known_.emplace(line.substr(0, space), line.substr(space + 1));
  }
}

void TuningCache::write() const {
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);
  const std::string temporary = path_ + ".tmp-" + std::to_string(::getpid());
  {
    std::ofstream file(temporary, std::ios::trunc);
    for (const auto& [key, algorithm] : known_) file << key << ' ' << algorithm << '\n';
    file.close();
    if (!file) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) fs::rename(temporary, path_, error);
  if (error) fs::remove(temporary, error);
}

}  // namespace trivet::kernels::cuda
