#include "trivet/base/mapping_loss.h"

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>

#include "runtime/base/mapping_list.h"

namespace trivet {
namespace {

constexpr std::size_t kMostMappings = 1024;
constexpr std::size_t kLongestPath = 1024;

// A signal handler reads entries while others write theirs: `begin` is set last and cleared first.
struct Mapping {
  std::atomic<const std::byte*> begin{nullptr};
  std::size_t bytes = 0;
  std::array<char, kLongestPath> path{};
};
static_assert(std::atomic<const std::byte*>::is_always_lock_free, "a signal handler reads it");

std::array<Mapping, kMostMappings> mappings;
std::mutex writers;
std::atomic<MappingLossHandler> chosen{nullptr};

bool holds(const Mapping& mapping, const std::byte* address) {
  const std::byte* begin = mapping.begin.load(std::memory_order_acquire);
  return begin && address >= begin && static_cast<std::size_t>(address - begin) < mapping.bytes;
}

void handle(int signal, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const Mapping& mapping : mappings) {
    if (holds(mapping, address)) chosen.load()(mapping.path.data(), mapping.bytes);
  }
  // Not ours, or nobody ended the process: the instruction is repeated, and the signal does what it does by itself.
  std::signal(signal, SIG_DFL);
}

}  // namespace

void on_mapping_loss(MappingLossHandler handler) {
  chosen = handler;
  struct sigaction action {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

void list_mapping(const std::byte* begin, std::size_t bytes, const std::filesystem::path& path) {
  const std::string& name = path.native();
  if (name.size() >= kLongestPath) return;
  const std::lock_guard lock(writers);
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load(std::memory_order_relaxed)) continue;
    mapping.bytes = bytes;
    name.copy(mapping.path.data(), name.size());
    mapping.path[name.size()] = '\0';
    mapping.begin.store(begin, std::memory_order_release);
    return;
  }
}

void unlist_mapping(const std::byte* begin) {
  const std::lock_guard lock(writers);
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load(std::memory_order_relaxed) == begin) {
      mapping.begin.store(nullptr, std::memory_order_release);
      return;
    }
  }
}

}  // namespace trivet
