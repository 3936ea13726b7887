#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trivet/base/error.h"
#include "trivet/comm/communicator.h"
#include "trivet/launcher/ranks.h"

namespace trivet {
namespace {

using Get = std::function<const char*(const char*)>;

constexpr int kMostRanks = 1 << 20;

[[noreturn]] void fail(const std::string& name, const std::string& message) {
  throw Error(ErrorCode::usage, fmt::format("the environment variable {} {}", name, message),
              "it is set by what starts the ranks; docs/ranks.md lists what each of them says");
}

std::string text(const Get& get, const std::string& name) {
  const char* value = get(name.c_str());
  if (!value || *value == 0) fail(name, "is not set, and several ranks were started");
  return value;
}

int number(const Get& get, const std::string& name, int least, int most) {
  const std::string value = text(get, name);
  int result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size() || result < least || result > most) {
    fail(name, fmt::format("is '{}', expected an integer from {} to {}", value.substr(0, 40), least, most));
  }
  return result;
}

bool is_set(const Get& get, const char* name) {
  const char* value = get(name);
  return value && *value != 0;
}

std::string text_or(const Get& get, const char* name, const char* otherwise) {
  return is_set(get, name) ? get(name) : otherwise;
}

void read_rank(const Get& get, const std::string& rank, const std::string& size, RankPlace& place) {
  place.size = number(get, size, 1, kMostRanks);
  place.rank = number(get, rank, 0, place.size - 1);
}

void read_local_rank(const Get& get, const char* name, RankPlace& place) {
  place.local_rank = is_set(get, name) ? number(get, name, 0, kMostRanks) : place.rank % place.local_size;
}

void read_address(const Get& get, const std::string& address, const std::string& port, RankPlace& place) {
  place.address = text(get, address);
  place.port = number(get, port, 1, 65535);
}

// The first host of a list as Slurm writes it: "gpu[03-05,9],login" begins with gpu03.
std::string first_host(const std::string& list) {
  const std::size_t end = list.find_first_of(",[");
  std::string host = list.substr(0, end);
  if (end == std::string::npos || list[end] == ',') return host;
  const std::size_t close = list.find_first_of(",-]", end + 1);
  return host + list.substr(end + 1, close == std::string::npos ? close : close - end - 1);
}

// The first count of a list such as "2(x3),1".
int first_count(const Get& get, const char* name) {
  const std::string list = text_or(get, name, "1");
  int count = 0;
  std::from_chars(list.data(), list.data() + list.size(), count);
  return std::max(count, 1);
}

RankPlace of_trivet(const Get& get) {
  RankPlace place;
  read_rank(get, "TRIVET_RANK", "TRIVET_RANKS", place);
  place.local_size = number(get, "TRIVET_LOCAL_RANKS", 1, place.size);
  read_local_rank(get, "TRIVET_LOCAL_RANK", place);
  read_address(get, "TRIVET_ADDRESS", "TRIVET_PORT", place);
  place.token = text(get, "TRIVET_TOKEN");
  return place;
}

RankPlace of_torchrun(const Get& get) {
  RankPlace place;
  read_rank(get, "RANK", "WORLD_SIZE", place);
  place.local_size = is_set(get, "LOCAL_WORLD_SIZE") ? number(get, "LOCAL_WORLD_SIZE", 1, place.size) : 1;
  read_local_rank(get, "LOCAL_RANK", place);
  read_address(get, "MASTER_ADDR", "MASTER_PORT", place);
  place.token = fmt::format("torchrun {} {}", text_or(get, "TORCHELASTIC_RUN_ID", "none"),
                            text_or(get, "TORCHELASTIC_RESTART_COUNT", "0"));
  return place;
}

RankPlace of_slurm(const Get& get) {
  RankPlace place;
  read_rank(get, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", place);
  place.local_size = std::min(first_count(get, "SLURM_STEP_TASKS_PER_NODE"), place.size);
  read_local_rank(get, "SLURM_LOCALID", place);
  const int job = number(get, "SLURM_JOB_ID", 0, INT32_MAX);
  place.address =
      is_set(get, "MASTER_ADDR")
          ? get("MASTER_ADDR")
          : first_host(text_or(get, "SLURM_STEP_NODELIST", get("SLURM_JOB_NODELIST") ? get("SLURM_JOB_NODELIST") : ""));
  if (place.address.empty()) fail("SLURM_STEP_NODELIST", "is not set, and several ranks were started");
  place.port = is_set(get, "MASTER_PORT") ? number(get, "MASTER_PORT", 1, 65535) : 20'000 + job % 20'000;
  place.token =
      fmt::format("slurm {} {} {}", job, text_or(get, "SLURM_STEP_ID", "0"), text_or(get, "SLURM_RESTART_COUNT", "0"));
  return place;
}

RankPlace of_kubernetes(const Get& get) {
  RankPlace place;
  read_rank(get, "JOB_COMPLETION_INDEX", "WORLD_SIZE", place);
  read_address(get, "MASTER_ADDR", "MASTER_PORT", place);
  place.token = fmt::format("kubernetes {}", text_or(get, "JOB_NAME", "none"));
  return place;
}

}  // namespace

std::optional<RankPlace> rank_place(const Get& get) {
  std::optional<RankPlace> place;
  if (is_set(get, "TRIVET_RANK")) {
    place = of_trivet(get);
  } else if (is_set(get, "RANK") && is_set(get, "WORLD_SIZE")) {
    place = of_torchrun(get);
  } else if (is_set(get, "SLURM_PROCID") && text_or(get, "SLURM_STEP_NUM_TASKS", "1") != "1") {
    place = of_slurm(get);
  } else if (is_set(get, "JOB_COMPLETION_INDEX") && is_set(get, "WORLD_SIZE")) {
    place = of_kubernetes(get);
  }
  if (place && place->size == 1) return std::nullopt;
  return place;
}

std::optional<RankPlace> rank_place() {
  return rank_place([](const char* name) { return std::getenv(name); });
}

RankPlace local_place(int size) {
  RankPlace place;
  place.size = place.local_size = size;
  place.address = "127.0.0.1";
  place.port = free_port();
  place.token = random_token();
  return place;
}

}  // namespace trivet
