#include <sys/random.h>
#include <unistd.h>

#include "runtime/comm/gloo_communicator.h"
#include "runtime/comm/process.h"
#include "runtime/comm/shm_communicator.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {
namespace {

using namespace comm;

const std::vector<std::string> kKinds = {"auto", "gloo", "shm"};

void check(const CommunicatorOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& hint) {
    throw Error(ErrorCode::usage, what, hint);
  };
  if (options.size < 1 || options.size > kMaxRanks) {
    refuse(fmt::format("a run of {} ranks", options.size), fmt::format("1 to {} ranks are possible", kMaxRanks));
  }
  if (options.rank < 0 || options.rank >= options.size) {
    refuse(fmt::format("rank {} of {}", options.rank, options.size),
           fmt::format("ranks are numbered from 0 to {}", options.size - 1));
  }
  if (std::find(kKinds.begin(), kKinds.end(), options.kind) == kKinds.end()) {
    refuse(fmt::format("there is no communicator \"{}\"", options.kind), "auto, gloo and shm can be chosen");
  }
  if (options.size > 1 && (options.port < 1 || options.port > 65535)) {
    refuse(fmt::format("rank 0 cannot listen at port {}", options.port), "ports have numbers from 1 to 65535");
  }
  if (options.size > 1 && options.address.empty()) {
    refuse("the ranks are given no address of rank 0", "an IP address of rank 0's machine, or its name");
  }
  if (options.join_deadline <= milliseconds(0) || options.deadline <= milliseconds(0)) {
    refuse(fmt::format("deadlines of {} and {} ms", options.join_deadline.count(), options.deadline.count()),
           "deadlines are at least 1 ms");
  }
}

// What a rank tells the others of itself: the kind that it was given, then its host.
std::string told(const CommunicatorOptions& options) { return options.kind + "\n" + host_identity(); }

// "shm" or "gloo". Error(usage) if the ranks were not given the same kind.
std::string agreed_kind(const CommunicatorOptions& options, const std::vector<std::string>& table) {
  const auto kind_of = [](const std::string& text) { return text.substr(0, text.find('\n')); };
  for (std::size_t r = 0; r < table.size(); ++r) {
    if (kind_of(table[r]) == kind_of(table[0])) continue;
    throw Error(ErrorCode::usage, fmt::format("rank 0 was given the communicator \"{}\", but rank {} \"{}\"",
                                              kind_of(table[0]), r, kind_of(table[r])));
  }
  const bool one_host = std::all_of(table.begin(), table.end(), [&](const std::string& t) { return t == table[0]; });
  if (options.kind == "shm" && !one_host) {
    throw Error(ErrorCode::usage, "the ranks are not all on one host, so they cannot share memory",
                "take the communicator \"gloo\", or \"auto\"");
  }
  if (options.kind != "auto") return options.kind;
  return one_host ? "shm" : "gloo";
}

std::unique_ptr<ShmSegment> open_segment(const CommunicatorOptions& options, RendezvousClient& client,
                                         TimePoint deadline) {
  const std::string key = "shm";
  if (options.rank > 0) return std::make_unique<ShmSegment>(options.size, client.get(key, deadline));
  try {
    auto segment = std::make_unique<ShmSegment>(options.size);
    client.set(key, segment->place(), deadline);
    return segment;
  } catch (const Error& e) {
    if (e.code() == ErrorCode::io) client.set(key, e.message(), deadline);
    throw;
  }
}

// Nothing, with the reason in `why`, if one of the ranks cannot map the memory.
std::unique_ptr<Communicator> try_shm(const CommunicatorOptions& options, RendezvousClient& client, TimePoint deadline,
                                      std::string& why) {
  std::unique_ptr<ShmSegment> segment;
  std::string outcome = "mapped";
  try {
    segment = open_segment(options, client, deadline);
    segment->rank(options.rank).pid = getpid();
    segment->rank(options.rank).start_time = start_time(getpid());
  } catch (const Error& e) {
    outcome = e.message();
  }
  client.set(fmt::format("shm/{}", options.rank), outcome, deadline);
  for (int r = 0; r < options.size; ++r) {
    const std::string other = client.get(fmt::format("shm/{}", r), deadline);
    if (why.empty() && other != "mapped") why = fmt::format("rank {}: {}", r, other);
  }
  if (!why.empty()) return nullptr;
  segment->opened();
  auto communicator =
      std::make_unique<ShmCommunicator>(options.rank, options.size, options.deadline, std::move(segment));
  // All are here: nobody needs the rendezvous any more.
  client.leave();
  return communicator;
}

}  // namespace

std::unique_ptr<Communicator> join(const CommunicatorOptions& options) {
  check(options);
  if (options.size == 1) return local_communicator();
  const TimePoint deadline = Clock::now() + options.join_deadline;
  std::unique_ptr<RendezvousServer> server;
  if (options.rank == 0) {
    server = std::make_unique<RendezvousServer>(listen_at(options.address, options.port, deadline), options.token,
                                                options.size);
  }
  auto client = std::make_unique<RendezvousClient>(options, told(options), deadline);
  try {
    if (agreed_kind(options, client->table()) == "shm") {
      std::string why;
      if (auto communicator = try_shm(options, *client, deadline, why)) return communicator;
      if (options.kind == "shm") throw Error(ErrorCode::rank, "the ranks cannot share memory: " + why);
    }
    return std::make_unique<GlooCommunicator>(options, std::move(server), std::move(client), deadline);
  } catch (Error& e) {
    throw e.add_context(fmt::format("rank {} of {} joined the others", options.rank, options.size));
  }
}

int free_port() {
  const Descriptor socket = listen_at("127.0.0.1", 0, Clock::now());
  return local_port(socket);
}

std::string random_token() {
  unsigned char bytes[24];
  if (getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) {
    throw Error(ErrorCode::io, "the system gives no random numbers");
  }
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

}  // namespace trivet
