#include "runtime/comm/gloo_communicator.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <csignal>
#include <cstring>
#include <stdexcept>

#include "runtime/comm/sum.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet::comm {
namespace {

constexpr std::size_t kSmallBytes = 64 << 10;  // all that a rank receives when everything goes to all
constexpr std::size_t kRoundBytes = 4 << 20;   // of a long message, whose rounds overlap

class StoreOnRendezvous : public gloo::rendezvous::Store {
 public:
  StoreOnRendezvous(RendezvousClient& client, TimePoint deadline) : client_(client), deadline_(deadline) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    client_.set("gloo/" + key, std::string(data.begin(), data.end()), deadline_);
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = client_.get("gloo/" + key, deadline_);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds&) override { wait(keys); }

 private:
  RendezvousClient& client_;
  const TimePoint deadline_;
};

// FNV-1a, folded to 32 bits.
template <class... T>
std::uint64_t digest_of(T... values) {
  std::uint64_t digest = 14695981039346656037U;
  ((digest = (digest ^ static_cast<std::uint64_t>(values)) * 1099511628211U), ...);
  return (digest ^ digest >> 32) & 0xffffffffU;
}

enum class Operation { all_reduce, reduce, reduce_scatter, all_gather, broadcast, barrier };

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

}  // namespace

// Sends and receives that go on at the same time, one of each for a peer. Messages meet by their slot, which all ranks
// count alike; it holds a digest of the call as well, so that those of different calls never meet.
class GlooCommunicator::Exchange {
 public:
  explicit Exchange(GlooCommunicator& owner) : owner_(owner), slot_(owner.next_slot()) {
    const std::lock_guard lock(owner_.mutex_);
    owner_.running_.insert(this);
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() {
    const std::lock_guard lock(owner_.mutex_);
    owner_.running_.erase(this);
  }

  void send(int peer, const void* data, std::size_t bytes) { start(peer, const_cast<void*>(data), bytes, true); }
  void receive(int peer, void* data, std::size_t bytes) { start(peer, data, bytes, false); }

  // Error(rank) if one of them fails or the call's deadline passes.
  void wait() {
    for (Transfer& transfer : transfers_) {
      try {
        // To Gloo 0 is no limit.
        const milliseconds left = std::max(milliseconds(1), remaining(owner_.until()));
        const bool done = !owner_.interrupted_ &&
                          (transfer.sends ? transfer.buffer->waitSend(left) : transfer.buffer->waitRecv(left));
        if (!done) throw std::runtime_error("interrupted");
      } catch (const std::exception& e) {
        owner_.fail_with(transfer.peer, e.what());
      }
    }
    const std::lock_guard lock(owner_.mutex_);
    transfers_.clear();
  }

  // With the owner's mutex.
  void interrupt() {
    for (Transfer& transfer : transfers_) {
      transfer.buffer->abortWaitSend();
      transfer.buffer->abortWaitRecv();
    }
  }

 private:
  struct Transfer {
    std::unique_ptr<gloo::transport::UnboundBuffer> buffer;
    int peer;
    bool sends;
  };

  void start(int peer, void* data, std::size_t bytes, bool sends) {
    if (bytes == 0) return;
    try {
      auto buffer = owner_.context_->createUnboundBuffer(data, bytes);
      gloo::transport::UnboundBuffer& started = *buffer;
      {
        const std::lock_guard lock(owner_.mutex_);
        transfers_.push_back({std::move(buffer), peer, sends});
      }
      sends ? started.send(peer, slot_) : started.recv(peer, slot_);
    } catch (const std::exception& e) {
      owner_.fail_with(peer, e.what());
    }
  }

  GlooCommunicator& owner_;
  const std::uint64_t slot_;
  std::vector<Transfer> transfers_;
};

// A stretch of a long message on its way.
struct GlooCommunicator::Round {
  Round(GlooCommunicator& owner, Buffers& own_buffers, std::int64_t first_element, std::int64_t elements,
        std::size_t element_bytes)
      : buffers(own_buffers),
        first(first_element),
        element(element_bytes),
        parts(elements, owner.size(), element_bytes),
        inward(owner),
        outward(owner) {}

  std::size_t offset(int rank) const { return static_cast<std::size_t>(parts.begin(rank)) * element; }
  std::size_t bytes(int rank) const { return static_cast<std::size_t>(parts.count(rank)) * element; }

  Buffers& buffers;
  std::int64_t first;
  std::size_t element;
  Parts parts;
  std::byte* data = nullptr;  // the stretch: where it is, if it lies in one piece, else packed
  bool packed = false;
  Exchange inward, outward;
};

GlooCommunicator::GlooCommunicator(const CommunicatorOptions& options, std::unique_ptr<RendezvousServer> server,
                                   std::unique_ptr<RendezvousClient> client, TimePoint join_deadline)
    : NumberedCommunicator(options.rank, options.size, options.deadline),
      server_(std::move(server)),
      client_(std::move(client)) {
  // Gloo writes to connections that the other side may have closed, which by default would end the process.
  struct sigaction action {};
  if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
  const std::string& address = options.interface_address.empty() ? client_->own_address() : options.interface_address;
  try {
    gloo::transport::tcp::attr attributes;
    attributes.hostname = address;
    std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(attributes);
    StoreOnRendezvous store(*client_, join_deadline);
    context_ = std::make_shared<gloo::rendezvous::Context>(options.rank, options.size);
    // Gloo waits five times as long for a connection.
    context_->setTimeout(std::max(milliseconds(1), remaining(join_deadline) / 5));
    context_->connectFullMesh(store, device);
    client_->watch([this] { interrupt(); });
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    const Verdict verdict = client_->report(
        ReportKind::broken, -1, fmt::format("rank {} cannot connect by its address {}: {}", rank(), address, e.what()));
    throw Error(ErrorCode::rank, fmt::format("rank {} of {}: {}", rank(), this->size(), to_string(verdict)),
                "set the address of the network interface by which the other ranks reach this one");
  }
}

// Connections are not closed as after an error, which would throw away what the others have still to read.
GlooCommunicator::~GlooCommunicator() { client_->leave(); }

void GlooCommunicator::interrupt() {
  const std::lock_guard lock(mutex_);
  interrupted_ = true;
  for (Exchange* exchange : running_) exchange->interrupt();
}

void GlooCommunicator::begin_call(const char* operation, std::uint64_t digest) {
  begin(operation);
  digest_ = digest;
}

void GlooCommunicator::abort(const std::string& reason) noexcept {
  client_->report(ReportKind::aborted, rank(), "failed: " + reason.substr(0, 1000));
  try {
    interrupt();
    context_->closeConnections();
  } catch (const std::exception&) {
    // They are closed already.
  }
}

// The connections are closed first: a rank that waits for this one, not for the one that failed, learns of it so.
void GlooCommunicator::fail_with(int peer, const std::string& what) {
  const bool late = remaining(until()) == milliseconds(0);
  context_->closeConnections();
  std::string text =
      late ? fmt::format("did not come within {}", format_seconds(static_cast<double>(deadline().count()) / 1e3))
           : fmt::format("closed the connection to rank {} ({})", rank(), what);
  Verdict verdict = client_->report(late ? ReportKind::late : ReportKind::broken, peer, text);
  fail(verdict);
}

void GlooCommunicator::all_reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  const PieceList message(pieces, dtype);
  begin_call("all_reduce", digest_of(Operation::all_reduce, message.elements(), dtype, op));
  reduce_message(message, dtype, op, kAllRanks);
}

void GlooCommunicator::reduce(std::span<const Piece> pieces, DType dtype, ReduceOp op, int root) {
  check_root(root);
  check_reducible(dtype);
  const PieceList message(pieces, dtype);
  begin_call("reduce", digest_of(Operation::reduce, message.elements(), dtype, op, root));
  reduce_message(message, dtype, op, root);
}

void GlooCommunicator::reduce_message(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const std::size_t bytes = static_cast<std::size_t>(message.elements()) * dtype_size(dtype);
  if (bytes * static_cast<std::size_t>(size() - 1) <= kSmallBytes) return reduce_small(message, dtype, op, root);
  reduce_large(message, dtype, op, root);
}

void GlooCommunicator::reduce_small(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const std::size_t element = dtype_size(dtype);
  const std::size_t bytes = static_cast<std::size_t>(message.elements()) * element;
  std::vector<std::byte> all(bytes * static_cast<std::size_t>(size()));
  const auto of = [&](int r) { return all.data() + static_cast<std::size_t>(r) * bytes; };
  message.for_range(0, message.elements(), [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
    copy_bytes(of(rank()) + static_cast<std::size_t>(begin) * element, memory,
               static_cast<std::size_t>(count) * element);
  });
  Exchange exchange(*this);
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + k) % size();
    const int to = (rank() + size() - k) % size();
    if (takes(root)) exchange.receive(from, of(from), bytes);
    if (root == kAllRanks || root == to) exchange.send(to, of(rank()), bytes);
  }
  exchange.wait();
  if (!takes(root)) return;
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  message.for_range(0, message.elements(), [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
    for (int r = 0; r < size(); ++r) {
      sources[static_cast<std::size_t>(r)] = of(r) + static_cast<std::size_t>(begin) * element;
    }
    reduce_tree(memory, nullptr, sources, count, dtype, op);
  });
}

void GlooCommunicator::reduce_large(const PieceList& message, DType dtype, ReduceOp op, int root) {
  const auto round_elements = static_cast<std::int64_t>(kRoundBytes / dtype_size(dtype));
  const std::int64_t count = (message.elements() + round_elements - 1) / round_elements;
  std::optional<Round> rounds[kRounds];
  const auto round_of = [&](std::int64_t i) -> std::optional<Round>& {
    return rounds[static_cast<std::size_t>(i) % kRounds];
  };
  for (std::int64_t i = 0; i < count + 2; ++i) {
    if (i < count) {
      const std::int64_t first = i * round_elements;
      round_of(i).emplace(*this, buffers_[static_cast<std::size_t>(i) % kRounds], first,
                          std::min(round_elements, message.elements() - first), dtype_size(dtype));
      send_parts(*round_of(i), message);
    }
    if (i >= 1 && i <= count) reduce_part(*round_of(i - 1), dtype, op, root);
    if (i >= 2) take_parts(*round_of(i - 2), message, root);
  }
}

void GlooCommunicator::send_parts(Round& round, const PieceList& message) {
  const std::int64_t end = round.first + round.parts.elements;
  message.for_range(round.first, end, [&](std::byte* memory, std::int64_t, std::int64_t count) {
    if (count == round.parts.elements) round.data = memory;
  });
  if (round.data == nullptr) {
    round.packed = true;
    round.buffers.packed.resize(static_cast<std::size_t>(round.parts.elements) * round.element);
    round.data = round.buffers.packed.data();
    message.for_range(round.first, end, [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
      copy_bytes(round.data + static_cast<std::size_t>(begin - round.first) * round.element, memory,
                 static_cast<std::size_t>(count) * round.element);
    });
  }
  const std::size_t bytes = round.bytes(rank());
  round.buffers.arrived.resize(bytes * static_cast<std::size_t>(size()));
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + k) % size();
    const int to = (rank() + size() - k) % size();
    round.inward.receive(from, round.buffers.arrived.data() + static_cast<std::size_t>(from) * bytes, bytes);
    round.inward.send(to, round.data + round.offset(to), round.bytes(to));
  }
}

void GlooCommunicator::reduce_part(Round& round, DType dtype, ReduceOp op, int root) {
  round.inward.wait();
  const std::size_t bytes = round.bytes(rank());
  std::byte* own = round.data + round.offset(rank());
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  for (int r = 0; r < size(); ++r) {
    sources[static_cast<std::size_t>(r)] = round.buffers.arrived.data() + static_cast<std::size_t>(r) * bytes;
  }
  sources[static_cast<std::size_t>(rank())] = own;
  reduce_tree(own, nullptr, sources, round.parts.count(rank()), dtype, op);
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + k) % size();
    const int to = (rank() + size() - k) % size();
    if (takes(root)) round.outward.receive(from, round.data + round.offset(from), round.bytes(from));
    if (root == kAllRanks || root == to) round.outward.send(to, own, bytes);
  }
}

void GlooCommunicator::take_parts(Round& round, const PieceList& message, int root) {
  round.outward.wait();
  if (!round.packed || !takes(root)) return;
  message.for_range(round.first, round.first + round.parts.elements,
                    [&](std::byte* memory, std::int64_t begin, std::int64_t count) {
                      copy_bytes(memory, round.data + static_cast<std::size_t>(begin - round.first) * round.element,
                                 static_cast<std::size_t>(count) * round.element);
                    });
}

void GlooCommunicator::reduce_scatter(const void* in, void* out, std::int64_t elements, DType dtype, ReduceOp op) {
  check_reducible(dtype);
  begin_call("reduce_scatter", digest_of(Operation::reduce_scatter, elements, dtype, op));
  const std::size_t element = dtype_size(dtype);
  const auto* from = static_cast<const std::byte*>(in);
  const std::int64_t round_elements =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(kRoundBytes / element) / size());
  std::vector<const void*> sources(static_cast<std::size_t>(size()));
  std::vector<std::byte> arrived;
  for (std::int64_t first = 0; first < elements; first += round_elements) {
    const std::int64_t count = std::min(round_elements, elements - first);
    const std::size_t bytes = static_cast<std::size_t>(count) * element;
    arrived.resize(bytes * static_cast<std::size_t>(size()));
    const auto own = [&](int r) { return from + static_cast<std::size_t>(r * elements + first) * element; };
    Exchange exchange(*this);
    for (int k = 1; k < size(); ++k) {
      const int source = (rank() + k) % size();
      const int target = (rank() + size() - k) % size();
      exchange.receive(source, arrived.data() + static_cast<std::size_t>(source) * bytes, bytes);
      exchange.send(target, own(target), bytes);
    }
    exchange.wait();
    for (int r = 0; r < size(); ++r) {
      sources[static_cast<std::size_t>(r)] = arrived.data() + static_cast<std::size_t>(r) * bytes;
    }
    sources[static_cast<std::size_t>(rank())] = own(rank());
    reduce_tree(static_cast<std::byte*>(out) + static_cast<std::size_t>(first) * element, nullptr, sources, count,
                dtype, op);
  }
}

void GlooCommunicator::all_gather(const void* in, void* out, std::size_t bytes) {
  begin_call("all_gather", digest_of(Operation::all_gather, bytes));
  auto* to = static_cast<std::byte*>(out);
  Exchange exchange(*this);
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + k) % size();
    exchange.receive(from, to + static_cast<std::size_t>(from) * bytes, bytes);
    exchange.send((rank() + size() - k) % size(), in, bytes);
  }
  exchange.wait();
  std::byte* own = to + static_cast<std::size_t>(rank()) * bytes;
  if (own != in) copy_bytes(own, in, bytes);
}

// Along a binomial tree: in step k the 2^k ranks that have it each send it to one that has not.
void GlooCommunicator::broadcast(void* data, std::size_t bytes, int root) {
  check_root(root);
  begin_call("broadcast", digest_of(Operation::broadcast, bytes, root));
  const int place = (rank() + size() - root) % size();
  const auto rank_at = [&](int p) { return (p + root) % size(); };
  for (int reached = 1; reached < size(); reached *= 2) {
    Exchange exchange(*this);
    if (place < reached && place + reached < size()) exchange.send(rank_at(place + reached), data, bytes);
    if (place >= reached && place < 2 * reached) exchange.receive(rank_at(place - reached), data, bytes);
    exchange.wait();
  }
}

void GlooCommunicator::barrier() {
  begin_call("barrier", digest_of(Operation::barrier));
  std::vector<char> flags(static_cast<std::size_t>(size()));
  Exchange exchange(*this);
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + k) % size();
    exchange.receive(from, &flags[static_cast<std::size_t>(from)], 1);
    exchange.send((rank() + size() - k) % size(), &flags[static_cast<std::size_t>(rank())], 1);
  }
  exchange.wait();
}

}  // namespace trivet::comm
