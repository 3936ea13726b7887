// One rank's way to the rendezvous.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "runtime/comm/message.h"
#include "runtime/comm/rendezvous_server.h"
#include "runtime/comm/socket.h"
#include "trivet/comm/communicator.h"

namespace trivet::comm {

std::string to_string(const Verdict& verdict);

class RendezvousClient {
 public:
  // Tries to connect until the join deadline. `told` is what the others shall know of this rank. Error(rank) if not all
  // ranks come.
  RendezvousClient(const CommunicatorOptions& options, const std::string& told, TimePoint deadline);

  // What each rank has told.
  const std::vector<std::string>& table() const { return table_; }

  // The address by which this rank is reached, as far as the rendezvous knows.
  const std::string& own_address() const { return own_address_; }

  // Error(rank) if a rank has failed meanwhile, or the deadline passes.
  void set(const std::string& key, const std::string& value, TimePoint deadline);
  std::string get(const std::string& key, TimePoint deadline);

  // From now on calls `failed`, from a thread of its own, when there is a verdict. No set() or get() after this.
  void watch(std::function<void()> failed);

  // What watch() has found.
  std::optional<Verdict> verdict();

  // Tells of a failure, and waits for the verdict about it: at most a second.
  Verdict report(ReportKind kind, int blamed, const std::string& text) noexcept;

  // This rank has done its part. Ends watch(); the verdict, if there is one, is still known.
  void leave() noexcept;
  ~RendezvousClient() { leave(); }

 private:
  enum class Outcome { joined, again };
  Outcome try_join(const CommunicatorOptions& options, const std::string& told, TimePoint deadline);
  void send(const Message& message, TimePoint deadline);
  std::optional<Message> receive_message(TimePoint deadline);
  Message call(const Message& request, TimePoint deadline);
  void read_until_verdict();
  void keep(const Message& message);
  bool know_outcome() const { return verdict_ || rendezvous_left_; }

  std::mutex mutex_;  // of what follows, once watch() has begun
  std::condition_variable changed_;
  std::thread watcher_;
  Descriptor wake_;
  Descriptor socket_;
  std::string in_;
  std::vector<std::string> table_;
  std::string own_address_;
  std::string why_;  // of the last try to join
  std::optional<Verdict> verdict_;
  bool rendezvous_left_ = false;  // rank 0 has done its part
};

}  // namespace trivet::comm
