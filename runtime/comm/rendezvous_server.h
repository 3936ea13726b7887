// Where the ranks of a run find each other: a thread of rank 0's process that keeps a table of who has joined, a store
// of keys and values, and, once a rank has failed, the verdict whose fault it was, which it sends to all.
//
// All have joined when all ranks are connected at the same time: one that went away before is forgotten, and may come
// again. After that a connection that closes without `leave` is a rank that has ended.
#pragma once

#include <atomic>
#include <list>
#include <thread>

#include "runtime/comm/message.h"
#include "runtime/comm/socket.h"

namespace trivet::comm {

enum class ReportKind : std::int32_t {
  aborted,  // the rank that reports has failed
  broken,   // the connection to the blamed rank is gone
  late,     // the deadline has passed
};

class RendezvousServer {
 public:
  // Serves `size` ranks that know the token, from now on.
  RendezvousServer(Descriptor listener, const std::string& token, int size);
  RendezvousServer(const RendezvousServer&) = delete;
  RendezvousServer& operator=(const RendezvousServer&) = delete;
  // After a verdict the other ranks have half a second to read it.
  ~RendezvousServer();

 private:
  struct Peer {
    Descriptor socket;
    std::string in, out;
    TimePoint since;
    int rank = -1;  // once it has shown the token
    bool closing = false;
    bool left = false;  // without a failure
    bool reported = false;
    // What it waits for: the others (join) or a key (get).
    bool joining = false;
    std::string key;
    TimePoint until;
  };

  void serve();
  milliseconds next_timeout() const;
  void wait_for_events(milliseconds timeout);
  void accept_peers();
  void read(Peer& peer);
  void handle(Peer& peer, Message message);
  void handle_join(Peer& peer, const Message& message);
  std::string reason_to_refuse(const Peer& peer, const Message& message) const;
  void handle_set(Peer& peer, const Message& message);
  void handle_get(Peer& peer, const Message& message);
  void handle_report(Peer& peer, const Message& message);
  void complete_join();
  void expire();
  void answer_missing(TimePoint now);
  void drop_closed();
  void decide();
  void pronounce(int rank, const std::string& text);
  void answer(Peer& peer, const Message& message);
  void refuse(Peer& peer, const std::string& why);
  bool others_connected() const;

  const Descriptor listener_;
  const std::string proof_;
  const int size_;
  Descriptor wake_;
  std::list<Peer> peers_;
  std::map<int, std::string> told_;  // by the ranks that have joined and are connected
  std::set<int> gave_up_;            // waited for others in vain
  bool complete_ = false;
  std::set<int> left_;
  std::map<std::string, std::string> store_;
  bool failed_ = false;
  // The first report, and when the verdict has to be found.
  std::optional<Message> report_;
  TimePoint decision_;
  bool accepting_ = true;
  std::atomic<bool> stop_ = false;
  TimePoint linger_;
  std::thread thread_;
};

}  // namespace trivet::comm
