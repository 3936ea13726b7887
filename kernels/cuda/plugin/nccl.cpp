#include "kernels/cuda/plugin/nccl.h"

#include <dlfcn.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "kernels/cuda/plugin/open_library.h"
#include "trivet/kernels/view.h"

// Communicators do not block: a call returns ncclInProgress where it would wait for other ranks, and whoever makes it
// looks whether it is done, for as long as its own deadline allows.
struct TrivetRanks {
  ncclComm_t comm = nullptr;  // null: aborted
};

namespace trivet::kernels::cuda {
namespace {

constexpr const char* kFile = "libnccl.so.2";
constexpr int kOldest = 21800;  // communicators that do not block, and errors in words, in the form used here
constexpr std::chrono::seconds kTimeToEnd(10);

static_assert(sizeof(ncclUniqueId) == sizeof(TrivetRanksId));

// The functions of libnccl.so.2 that are called.
struct Nccl {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetLastError) last_error;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init_rank;
  decltype(&ncclCommGetAsyncError) async_error;
  decltype(&ncclCommFinalize) finalize;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclReduce) reduce;
  decltype(&ncclReduceScatter) reduce_scatter;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclBroadcast) broadcast;
};

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  if (!function) throw std::runtime_error(std::string("NCCL cannot be used: ") + kFile + " has no function " + name);
}

Nccl opened() {
  void* const library = open_library(kFile);
  if (!library) {
    throw std::runtime_error(std::string("NCCL cannot be used: ") + kFile +
                             " was not found; name its folder in TRIVET_CUDA_LIBDIRS");
  }
  Nccl result{};
  find(library, "ncclGetVersion", result.get_version);
  find(library, "ncclGetErrorString", result.error_string);
  find(library, "ncclGetLastError", result.last_error);
  find(library, "ncclGetUniqueId", result.get_unique_id);
  find(library, "ncclCommInitRankConfig", result.init_rank);
  find(library, "ncclCommGetAsyncError", result.async_error);
  find(library, "ncclCommFinalize", result.finalize);
  find(library, "ncclCommDestroy", result.destroy);
  find(library, "ncclCommAbort", result.abort);
  find(library, "ncclGroupStart", result.group_start);
  find(library, "ncclGroupEnd", result.group_end);
  find(library, "ncclAllReduce", result.all_reduce);
  find(library, "ncclReduce", result.reduce);
  find(library, "ncclReduceScatter", result.reduce_scatter);
  find(library, "ncclAllGather", result.all_gather);
  find(library, "ncclBroadcast", result.broadcast);
  int version = 0;
  if (result.get_version(&version) != ncclSuccess || version < kOldest) {
    throw std::runtime_error("NCCL cannot be used: " + std::string(kFile) + " has version " + std::to_string(version) +
                             ", expected " + std::to_string(kOldest) + " or later");
  }
  return result;
}

const Nccl& nccl() {
  static const Nccl functions = opened();
  return functions;
}

void check(ncclResult_t result, ncclComm_t comm, const char* call) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  std::string text = std::string(call) + ": " + nccl().error_string(result);
  const char* const details = nccl().last_error(comm);
  if (details && *details != '\0') text += std::string(" (") + details + ")";
  throw std::runtime_error(text);
}

ncclDataType_t type_of(std::uint8_t dtype) {
  switch (static_cast<DType>(dtype)) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
      return ncclFloat16;
    case DType::i8:
      return ncclInt8;
    case DType::u8:
    case DType::boolean:
      break;
  }
  return ncclUint8;
}

ncclRedOp_t op_of(std::int32_t op) { return op == TRIVET_MAX ? ncclMax : op == TRIVET_MIN ? ncclMin : ncclSum; }

ncclResult_t make(const TrivetRanksCall& call, const TrivetPiece& piece, ncclComm_t comm, cudaStream_t stream) {
  const ncclDataType_t type = type_of(call.dtype);
  const auto count = static_cast<std::size_t>(piece.elements);
  switch (call.operation) {
    case TRIVET_ALL_REDUCE:
      return nccl().all_reduce(piece.in, piece.out, count, type, op_of(call.op), comm, stream);
    case TRIVET_REDUCE:
      return nccl().reduce(piece.in, piece.out, count, type, op_of(call.op), call.root, comm, stream);
    case TRIVET_REDUCE_SCATTER:
      return nccl().reduce_scatter(piece.in, piece.out, count, type, op_of(call.op), comm, stream);
    case TRIVET_ALL_GATHER:
      return nccl().all_gather(piece.in, piece.out, count, type, comm, stream);
    case TRIVET_BROADCAST:
      return nccl().broadcast(piece.in, piece.out, count, type, call.root, comm, stream);
    default:
      return ncclInvalidArgument;
  }
}

// ncclSuccess when what was begun is done.
ncclResult_t state_of(ncclComm_t comm) {
  ncclResult_t state = ncclSuccess;
  check(nccl().async_error(comm, &state), comm, "ncclCommGetAsyncError");
  check(state, comm, "NCCL");
  return state;
}

}  // namespace

void make_ranks_id(TrivetRanksId& id) {
  ncclUniqueId own{};
  check(nccl().get_unique_id(&own), nullptr, "ncclGetUniqueId");
  std::memcpy(id.bytes, own.internal, sizeof id.bytes);
}

TrivetRanks* join_ranks(const TrivetRanksId& id, std::int32_t rank, std::int32_t size) {
  ncclUniqueId own{};
  std::memcpy(own.internal, id.bytes, sizeof id.bytes);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  auto ranks = std::make_unique<TrivetRanks>();
  check(nccl().init_rank(&ranks->comm, size, own, rank, &config), nullptr, "ncclCommInitRankConfig");
  return ranks.release();
}

// The pieces are one group, of which NCCL makes as few launches as it can.
void call_ranks(TrivetRanks& ranks, const TrivetRanksCall& call, void* stream) {
  if (!ranks.comm) throw std::runtime_error("the ranks were aborted");
  check(nccl().group_start(), ranks.comm, "ncclGroupStart");
  ncclResult_t result = ncclSuccess;
  for (std::size_t i = 0; i < call.count && (result == ncclSuccess || result == ncclInProgress); ++i) {
    if (call.pieces[i].elements == 0) continue;
    result = make(call, call.pieces[i], ranks.comm, static_cast<cudaStream_t>(stream));
  }
  const ncclResult_t end = nccl().group_end();  // also after an error, which would else leave the group open
  check(result, ranks.comm, "a call of NCCL");
  check(end, ranks.comm, "ncclGroupEnd");
}

bool ranks_ready(TrivetRanks& ranks) {
  if (!ranks.comm) throw std::runtime_error("the ranks were aborted");
  return state_of(ranks.comm) == ncclSuccess;
}

void abort_ranks(TrivetRanks& ranks) noexcept {
  if (!ranks.comm) return;
  nccl().abort(ranks.comm);
  ranks.comm = nullptr;
}

// The other ranks come to their end, too; one that does not is not waited for.
void release_ranks(TrivetRanks* ranks) noexcept {
  const std::unique_ptr<TrivetRanks> own(ranks);
  if (!own || !own->comm) return;
  try {
    check(nccl().finalize(own->comm), own->comm, "ncclCommFinalize");
    const auto until = std::chrono::steady_clock::now() + kTimeToEnd;
    while (state_of(own->comm) == ncclInProgress && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (state_of(own->comm) == ncclSuccess) {
      nccl().destroy(own->comm);
      return;
    }
  } catch (const std::exception&) {
    // Nothing is left to be said between the ranks.
  }
  abort_ranks(*own);
}

}  // namespace trivet::kernels::cuda
