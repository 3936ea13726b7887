#include "kernels/cuda/plugin/tuning_cache.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "kernels/cuda/plugin/cuda_check.h"

namespace trivet::kernels::cuda {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostLines = 100'000;
constexpr std::size_t kWords = sizeof(cublasLtMatmulAlgo_t::data) / sizeof(std::uint64_t);

// As the host's cache of ceilings.
fs::path cache_folder() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "trivet";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "trivet";
  return fs::temp_directory_path() / "trivet-cache";
}

// Letters and digits of a device's name.
std::string file_name(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::string name = "cublaslt-" + std::to_string(cublasLtGetVersion()) + "-";
  for (const char* c = properties.name; *c; ++c) name += std::isalnum(static_cast<unsigned char>(*c)) ? *c : '-';
  return name + ".txt";
}

}  // namespace

TuningCache& TuningCache::of_this_device() {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<TuningCache>> caches;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  std::unique_ptr<TuningCache>& cache = caches[device];
  if (!cache) cache = std::make_unique<TuningCache>((cache_folder() / file_name(device)).string());
  return *cache;
}

TuningCache::TuningCache(std::string path) : path_(std::move(path)) { read(); }

std::optional<cublasLtMatmulAlgo_t> TuningCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = known_.find(key);
  if (found == known_.end()) return std::nullopt;
  return found->second;
}

void TuningCache::remember(const std::string& key, const cublasLtMatmulAlgo_t& algorithm) {
  const std::lock_guard lock(mutex_);
  read();
  known_[key] = algorithm;
  write();
}

// A line is the key and the algorithm's words in hexadecimal. Lines that are not are left out; what the library thinks
// of an algorithm it is asked before it is used.
void TuningCache::read() {
  std::ifstream file(path_);
  std::string line;
  for (std::size_t lines = 0; lines < kMostLines && std::getline(file, line); ++lines) {
    std::istringstream fields(line);
    std::string key;
    cublasLtMatmulAlgo_t algorithm{};
    fields >> key >> std::hex;
    for (std::size_t i = 0; i < kWords; ++i) fields >> algorithm.data[i];
    if (fields) known_.emplace(key, algorithm);
  }
}

void TuningCache::write() const {
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);
  const std::string temporary = path_ + ".tmp-" + std::to_string(::getpid());
  {
    std::ofstream file(temporary, std::ios::trunc);
    for (const auto& [key, algorithm] : known_) {
      file << key << std::hex;
      for (std::size_t i = 0; i < kWords; ++i) file << ' ' << algorithm.data[i];
      file << std::dec << '\n';
    }
    file.close();
    if (!file) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) fs::rename(temporary, path_, error);
  if (error) fs::remove(temporary, error);
}

}  // namespace trivet::kernels::cuda
