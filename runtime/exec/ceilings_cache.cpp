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

struct Figure {
  const char* name;
  double Ceilings::*value;
};
constexpr Figure kFigures[] = {
    {"matrix_flops", &Ceilings::matrix_flops},
    {"bf16_matrix_flops", &Ceilings::bf16_matrix_flops},
    {"int8_matrix_flops", &Ceilings::int8_matrix_flops},
    {"vector_flops", &Ceilings::vector_flops},
    {"memory_bytes", &Ceilings::memory_bytes},
    {"triad_bytes", &Ceilings::triad_bytes},
    {"cache_bytes", &Ceilings::cache_bytes},
    {"launch_seconds", &Ceilings::launch_seconds},
};

std::optional<Ceilings> read_cached(const fs::path& path) {
  try {
    const json j = json::parse(read_file(path, 1 << 16));
    Ceilings c;
    for (const Figure& figure : kFigures) {
      c.*figure.value = j.at(figure.name);
      if (!(c.*figure.value > 0)) return std::nullopt;
    }
    // A negative cache_size would become a huge one.
    if (!(j.at("cache_size") > 0)) return std::nullopt;
    c.cache_size = j.at("cache_size");
    return c;
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
  const Ceilings c{.matrix_flops = m.matrix_flops,
                   .bf16_matrix_flops = m.bf16_matrix_flops,
                   .int8_matrix_flops = m.int8_matrix_flops,
                   .vector_flops = m.vector_flops,
                   .memory_bytes = m.memory_bytes,
                   .triad_bytes = m.triad_bytes,
                   .cache_bytes = m.cache_bytes,
                   .launch_seconds = m.launch_seconds,
                   .cache_size = m.cache_size};
  json j = {{"machine", machine}, {"cache_size", c.cache_size}};
  for (const Figure& figure : kFigures) j[figure.name] = c.*figure.value;
  try {
    fs::create_directories(path.parent_path());
    write_file_atomic(path, j.dump(2) + "\n");
  } catch (const std::exception&) {
    // A cache that cannot be written costs a second each time, no more.
  }
  return c;
}

}  // namespace trivet
