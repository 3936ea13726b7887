#include "runtime/exec/ceilings_cache.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/hash.h"
#include "trivet/kernels/ceilings.h"

namespace trivet {
namespace {

using nlohmann::json;

std::string processor_model() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    if (line.starts_with("model name")) return line;
  }
  return "unknown processor";
}

fs::path cache_directory() {
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "trivet";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "trivet";
  return fs::temp_directory_path() / "trivet-cache";
}

std::optional<Ceilings> read_cached(const fs::path& path) {
  try {
    const json j = json::parse(read_file(path, 1 << 16));
    const Ceilings c{j.at("matrix_flops"), j.at("vector_flops"),   j.at("memory_bytes"),
                     j.at("cache_bytes"),  j.at("launch_seconds"), j.at("cache_size")};
    // A negative cache_size would have become a huge one.
    if (c.matrix_flops > 0 && c.vector_flops > 0 && c.memory_bytes > 0 && c.cache_bytes > 0 && c.launch_seconds > 0 &&
        j.at("cache_size") > 0) {
      return c;
    }
  } catch (const std::exception&) {
    // Absent or damaged: measured again below.
  }
  return std::nullopt;
}

}  // namespace

Ceilings cached_ceilings(const std::string& device, int threads) {
  const std::string machine = processor_model() + "; " + device;
  const fs::path path = cache_directory() / fmt::format("ceilings-{}.json", sha256_hex(machine).substr(0, 16));
  if (const auto cached = read_cached(path)) return *cached;
  const kernels::cpu::Ceilings m = kernels::cpu::measure_ceilings(threads);
  const Ceilings c{m.matrix_flops, m.vector_flops, m.memory_bytes, m.cache_bytes, m.launch_seconds, m.cache_size};
  const json j = {{"machine", machine},
                  {"matrix_flops", c.matrix_flops},
                  {"vector_flops", c.vector_flops},
                  {"memory_bytes", c.memory_bytes},
                  {"cache_bytes", c.cache_bytes},
                  {"launch_seconds", c.launch_seconds},
                  {"cache_size", c.cache_size}};
  try {
    fs::create_directories(path.parent_path());
    write_file_atomic(path, j.dump(2) + "\n");
  } catch (const std::exception&) {
    // A cache that cannot be written costs half a second each time, no more.
  }
  return c;
}

}  // namespace trivet
