// Stands for NCCL in tests: it has its symbols and the manners of a communicator that does not block, and writes down
// every call. Ranks are processes of this host, which find each other by the id, an unnamed file that all of them map.
// On which streams calls go on is up to the plug-in fake_cuda.cpp. Sums are added in a tree over the ranks, as the
// communicators of hosts do it.
//
// Environment: TRIVET_FAKE_NCCL_LOG: a line for each call goes to this file, followed by the rank's number.
// TRIVET_FAKE_NCCL_FAILS, TRIVET_FAKE_NCCL_HANGS: "1:4": the fourth call of rank 1 (counted from 1) fails, or never
// comes to its end.
#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr int kMostRanks = 8;
constexpr std::size_t kSlotBytes = std::size_t{16} << 20;

struct Shared {
  std::atomic<int> joined;
  std::atomic<std::uint64_t> staged[kMostRanks];  // the last call of which a rank has left its data in its slot
  std::atomic<std::uint64_t> taken[kMostRanks];   // the last one that it is done with
  alignas(64) std::byte slots[kMostRanks][kSlotBytes];
};

enum class Kind { all_reduce, reduce, reduce_scatter, all_gather, broadcast };

struct Call {
  Kind kind;
  const void* in;
  void* out;
  std::size_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
  int root;
  void* stream;
};

}  // namespace

struct ncclComm {
  int rank = 0, size = 1;
  Shared* shared = nullptr;
  std::string log;
  std::uint64_t calls = 0, put = 0;
  std::pair<int, std::uint64_t> fails, hangs;
  std::deque<Call> group;  // to be put on the stream by one of the next looks
  int looks = 0;           // until then
  bool aborted = false;
  ncclResult_t failure = ncclSuccess;
};

namespace {

// A call on its stream.
struct Step {
  ncclComm* comm;
  Call call;
  std::uint64_t number;
  bool staged = false;
};

using Put = void (*)(void* stream, bool (*step)(void*), void* state);

Put put_step = nullptr;
int depth = 0;  // of groups
std::vector<std::pair<ncclComm*, Call>> grouped;
std::vector<std::unique_ptr<ncclComm>> comms;  // all that ever were: steps may still point to them
std::deque<Step> steps;

std::size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32:
    case ncclInt32:
      return 4;
    case ncclFloat64:
    case ncclInt64:
      return 8;
    case ncclBfloat16:
      return 2;
    default:
      return 1;
  }
}

const char* name_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32:
      return "f32";
    case ncclFloat64:
      return "f64";
    case ncclInt32:
      return "i32";
    case ncclInt64:
      return "i64";
    case ncclBfloat16:
      return "bf16";
    case ncclUint8:
      return "u8";
    default:
      return "other";
  }
}

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"all_reduce", "reduce", "reduce_scatter", "all_gather", "broadcast"};
  return kNames[static_cast<int>(kind)];
}

void note(const ncclComm& comm, const std::string& line) {
  if (!comm.log.empty()) std::ofstream(comm.log, std::ios::app) << line << '\n';
}

// "1:4"
std::pair<int, std::uint64_t> call_named_by(const char* variable) {
  const char* value = std::getenv(variable);
  int rank = -1;
  unsigned long long number = 0;
  if (!value || std::sscanf(value, "%d:%llu", &rank, &number) != 2) return {-1, 0};
  return {rank, number};
}

template <class T, class Read, class Write>
void reduce_as(std::byte* out, std::vector<const std::byte*> in, std::size_t count, std::size_t width, ncclRedOp_t op,
               Read read, Write write) {
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<T> values;
    for (const std::byte* source : in) values.push_back(read(source + i * width));
    while (values.size() > 1) {
      std::vector<T> next;
      for (std::size_t k = 0; k + 1 < values.size(); k += 2) {
        const T a = values[k], b = values[k + 1];
        next.push_back(op == ncclMax ? std::max(a, b) : op == ncclMin ? std::min(a, b) : static_cast<T>(a + b));
      }
      if (values.size() % 2 == 1) next.push_back(values.back());
      values = std::move(next);
    }
    write(out + i * width, values[0]);
  }
}

template <class T>
void reduce_plain(std::byte* out, std::vector<const std::byte*> in, std::size_t count, ncclRedOp_t op) {
  const auto read = [](const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  };
  reduce_as<T>(out, std::move(in), count, sizeof(T), op, read,
               [](std::byte* to, T value) { std::memcpy(to, &value, sizeof value); });
}

void reduce_bf16(std::byte* out, std::vector<const std::byte*> in, std::size_t count, ncclRedOp_t op) {
  const auto read = [](const std::byte* from) {
    std::uint16_t half;
    std::memcpy(&half, from, sizeof half);
    const std::uint32_t bits = std::uint32_t{half} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  };
  reduce_as<float>(out, std::move(in), count, 2, op, read, [](std::byte* to, float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits += 0x7FFF + (bits >> 16 & 1);  // to the nearest, ties to even
    const auto half = static_cast<std::uint16_t>(bits >> 16);
    std::memcpy(to, &half, sizeof half);
  });
}

void reduce(std::byte* out, std::vector<const std::byte*> in, const Call& call) {
  switch (call.type) {
    case ncclFloat32:
      return reduce_plain<float>(out, std::move(in), call.count, call.op);
    case ncclFloat64:
      return reduce_plain<double>(out, std::move(in), call.count, call.op);
    case ncclInt32:
      return reduce_plain<std::int32_t>(out, std::move(in), call.count, call.op);
    case ncclInt64:
      return reduce_plain<std::int64_t>(out, std::move(in), call.count, call.op);
    default:
      return reduce_bf16(out, std::move(in), call.count, call.op);
  }
}

// What a rank gives to a call, and then what it gets of what all have given.
std::size_t given_bytes(const ncclComm& comm, const Call& call) {
  const std::size_t bytes = call.count * bytes_of(call.type);
  return call.kind == Kind::reduce_scatter ? bytes * static_cast<std::size_t>(comm.size) : bytes;
}

void take(const ncclComm& comm, const Call& call) {
  const std::size_t bytes = call.count * bytes_of(call.type);
  auto* out = static_cast<std::byte*>(call.out);
  if (call.kind == Kind::broadcast) {
    std::memcpy(out, comm.shared->slots[call.root], bytes);
    return;
  }
  std::vector<const std::byte*> all;
  for (int r = 0; r < comm.size; ++r) all.push_back(comm.shared->slots[r]);
  if (call.kind == Kind::all_gather) {
    for (const std::byte* part : all) {
      std::memcpy(out, part, bytes);
      out += bytes;
    }
    return;
  }
  if (call.kind == Kind::reduce && comm.rank != call.root) {
    std::memset(out, 0xFF, bytes);  // not defined, and so nothing that could be taken for a sum
    return;
  }
  if (call.kind == Kind::reduce_scatter) {
    for (const std::byte*& part : all) part += static_cast<std::size_t>(comm.rank) * bytes;
  }
  reduce(out, std::move(all), call);
}

bool all_at_least(const ncclComm& comm, const std::atomic<std::uint64_t>* numbers, std::uint64_t number) {
  return std::all_of(numbers, numbers + comm.size, [&](const auto& n) { return n.load() >= number; });
}

bool run_step(void* state) {
  Step& step = *static_cast<Step*>(state);
  ncclComm& comm = *step.comm;
  if (comm.aborted) return true;
  if (comm.hangs == std::pair(comm.rank, step.number)) return false;
  Shared& shared = *comm.shared;
  const auto own = static_cast<std::size_t>(comm.rank);
  if (!step.staged) {
    if (!all_at_least(comm, shared.taken, step.number - 1)) return false;
    std::memcpy(shared.slots[own], step.call.in, given_bytes(comm, step.call));
    shared.staged[own] = step.number;
    step.staged = true;
  }
  if (!all_at_least(comm, shared.staged, step.number)) return false;
  take(comm, step.call);
  shared.taken[own] = step.number;
  return true;
}

ncclResult_t add(ncclComm_t comm, const Call& call) {
  ++comm->calls;
  char line[160];
  std::snprintf(line, sizeof line, "%s %zu %s %s root %d stream %p", name_of(call.kind), call.count, name_of(call.type),
                call.op == ncclMax   ? "max"
                : call.op == ncclMin ? "min"
                                     : "sum",
                call.root, call.stream);
  note(*comm, line);
  if (depth == 0) return ncclInvalidUsage;  // a call by itself is not what is expected here
  if (given_bytes(*comm, call) > kSlotBytes) return ncclInvalidArgument;
  if (comm->fails == std::pair(comm->rank, comm->calls)) comm->failure = ncclSystemError;
  grouped.emplace_back(comm, call);
  return ncclInProgress;
}

// As NCCL puts a group on its stream by a thread of its own, a little later.
void put_group(ncclComm& comm) {
  for (const Call& call : comm.group) {
    steps.push_back({&comm, call, ++comm.put});
    put_step(call.stream, run_step, &steps.back());
  }
  comm.group.clear();
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

void fake_nccl_use_streams(Put put) { put_step = put; }

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) { return result == ncclSystemError ? "system error" : "error"; }

const char* ncclGetLastError(ncclComm_t) { return "it was told to fail"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const int file = ::memfd_create("fake_nccl", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, sizeof(Shared)) != 0) return ncclSystemError;
  std::snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", static_cast<int>(::getpid()), file);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (size > kMostRanks || config->blocking != 0) return ncclInvalidArgument;
  const int file = ::open(id.internal, O_RDWR | O_CLOEXEC);
  if (file < 0) return ncclSystemError;
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (memory == MAP_FAILED) return ncclSystemError;
  auto comm = std::make_unique<ncclComm>();
  comm->rank = rank;
  comm->size = size;
  comm->shared = static_cast<Shared*>(memory);
  if (const char* log = std::getenv("TRIVET_FAKE_NCCL_LOG")) comm->log = log + std::to_string(rank);
  comm->fails = call_named_by("TRIVET_FAKE_NCCL_FAILS");
  comm->hangs = call_named_by("TRIVET_FAKE_NCCL_HANGS");
  note(*comm, "init " + std::to_string(rank) + " of " + std::to_string(size));
  ++comm->shared->joined;
  *made = comms.emplace_back(std::move(comm)).get();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = ncclSuccess;
  if (comm->failure != ncclSuccess) {
    *state = comm->failure;
  } else if (comm->shared->joined < comm->size || comm->looks-- > 0) {
    *state = ncclInProgress;
  } else {
    put_group(*comm);
  }
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--depth > 0) return ncclSuccess;
  ncclComm* comm = nullptr;
  for (const auto& [owner, call] : grouped) {
    comm = owner;
    comm->group.push_back(call);
  }
  grouped.clear();
  if (!comm) return ncclSuccess;
  note(*comm, "end of group");
  comm->looks = 2;
  return ncclInProgress;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return add(comm, {Kind::all_reduce, in, out, count, type, op, 0, stream});
}

ncclResult_t ncclReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return add(comm, {Kind::reduce, in, out, count, type, op, root, stream});
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return add(comm, {Kind::reduce_scatter, in, out, count, type, op, 0, stream});
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return add(comm, {Kind::all_gather, in, out, count, type, ncclSum, 0, stream});
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return add(comm, {Kind::broadcast, in, out, count, type, ncclSum, root, stream});
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  note(*comm, "finalize");
  comm->looks = 2;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  note(*comm, "destroy");
  comm->aborted = true;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  note(*comm, "abort");
  comm->aborted = true;
  return ncclSuccess;
}

#pragma GCC visibility pop
}
