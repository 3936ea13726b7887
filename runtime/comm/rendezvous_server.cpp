#include "runtime/comm/rendezvous_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/comm/communicator.h"

namespace trivet::comm {
namespace {

constexpr std::size_t kMaxStrangers = 64;      // connections that have not shown the token, besides those of the ranks
constexpr milliseconds kStrangerTime(10'000);  // in which they have to
constexpr std::size_t kMaxKeyBytes = 256;
constexpr std::size_t kMaxValueBytes = 1 << 20;
constexpr std::size_t kMaxKeysOfRank = 64;
// How long a rank waits for the other ranks' reports before a fault is pinned on those that are silent.
constexpr milliseconds kReportTime(300);
constexpr milliseconds kLinger(500);

Message text_message(MessageType type, std::vector<std::string> texts, int rank = -1) {
  Message message;
  message.type = type;
  message.rank = rank;
  message.texts = std::move(texts);
  return message;
}

}  // namespace

RendezvousServer::RendezvousServer(Descriptor listener, const std::string& token, int size)
    : listener_(std::move(listener)), proof_(proof(token)), size_(size), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) throw Error(ErrorCode::io, "the rendezvous has no event descriptor: too many open files");
  thread_ = std::thread([this] { serve(); });
}

RendezvousServer::~RendezvousServer() {
  stop_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
  thread_.join();
}

void RendezvousServer::serve() {
  bool stopping = false;
  for (;;) {
    if (stop_ && !stopping) {
      stopping = true;
      if (!complete_) answer_missing(Clock::time_point::max());
      if (complete_ && !failed_ && !report_) {
        for (Peer& peer : peers_) answer(peer, text_message(MessageType::leave, {}));
      }
      linger_ = Clock::now() + (failed_ || report_ ? kLinger : milliseconds(0));
    }
    if (stopping && (remaining(linger_) == milliseconds(0) || !others_connected())) return;
    wait_for_events(stopping ? std::min(remaining(linger_), next_timeout()) : next_timeout());
    expire();
    drop_closed();
  }
}

bool RendezvousServer::others_connected() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.rank > 0 && !p.left; });
}

milliseconds RendezvousServer::next_timeout() const {
  TimePoint next = Clock::now() + std::chrono::hours(1);
  for (const Peer& peer : peers_) {
    if (peer.rank < 0) next = std::min(next, peer.since + kStrangerTime);
    if (peer.joining || !peer.key.empty()) next = std::min(next, peer.until);
  }
  if (report_ && !failed_) next = std::min(next, decision_);
  if (!accepting_) next = std::min(next, Clock::now() + milliseconds(100));
  return remaining(next);
}

void RendezvousServer::wait_for_events(milliseconds timeout) {
  std::vector<pollfd> watched = {{wake_.get(), POLLIN, 0}, {accepting_ ? listener_.get() : -1, POLLIN, 0}};
  for (const Peer& peer : peers_) {
    watched.push_back({peer.socket.get(), static_cast<short>(peer.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
  }
  const int ready = poll(watched.data(), watched.size(), static_cast<int>(timeout.count()));
  accepting_ = true;
  if (ready <= 0) return;
  std::uint64_t count = 0;
  if (watched[0].revents != 0) [[maybe_unused]]
    const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  auto events = watched.begin() + 2;
  for (Peer& peer : peers_) {
    const short happened = (events++)->revents;
    if ((happened & POLLOUT) != 0 && transmit(peer.socket, peer.out) == Progress::closed) peer.closing = true;
    if ((happened & (POLLIN | POLLHUP | POLLERR)) != 0) read(peer);
  }
  if (watched[1].revents != 0) accept_peers();
}

void RendezvousServer::accept_peers() {
  for (;;) {
    Descriptor socket = accept_from(listener_);
    if (!socket) {
      // Without a free descriptor the listener stays ready: it is left alone for a while.
      accepting_ = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
      return;
    }
    std::size_t strangers = 0;
    Peer* oldest = nullptr;
    for (Peer& peer : peers_) {
      if (peer.rank >= 0 || peer.closing) continue;
      ++strangers;
      if (oldest == nullptr) oldest = &peer;
    }
    if (strangers >= kMaxStrangers + static_cast<std::size_t>(size_)) oldest->closing = true;
    peers_.emplace_back();
    peers_.back().socket = std::move(socket);
    peers_.back().since = Clock::now();
  }
}

void RendezvousServer::read(Peer& peer) {
  Progress progress = receive(peer.socket, peer.in);
  try {
    while (!peer.closing) {
      std::optional<Message> message = take_message(peer.in, peer.rank < 0 ? kMaxJoinBytes : kMaxMessageBytes);
      if (!message) break;
      handle(peer, std::move(*message));
    }
  } catch (const Error&) {
    peer.closing = true;  // garbage
  }
  if (progress == Progress::closed) peer.closing = true;
}

void RendezvousServer::handle(Peer& peer, Message message) {
  if (peer.rank < 0) {
    if (message.type == MessageType::join) return handle_join(peer, message);
    peer.closing = true;
    return;
  }
  switch (message.type) {
    case MessageType::set:
      return handle_set(peer, message);
    case MessageType::get:
      return handle_get(peer, message);
    case MessageType::report:
      return handle_report(peer, message);
    case MessageType::leave:
      peer.left = true;
      left_.insert(peer.rank);
      peer.closing = true;
      return;
    default:
      peer.closing = true;
  }
}

std::string RendezvousServer::reason_to_refuse(const Peer& peer, const Message& message) const {
  if (message.texts.size() != 2 || !equal_secrets(message.texts[0], proof_)) {
    return "the process that listens there belongs to another run or attempt: the token is another one";
  }
  if (message.number != size_) {
    return fmt::format("this rank is one of {}, but rank 0 one of {}", message.number, size_);
  }
  if (message.rank < 0 || message.rank >= size_) return fmt::format("there is no rank {}", message.rank);
  if (failed_ || complete_) return "the run that listens there has begun already";
  if (told_.contains(message.rank)) {
    return fmt::format("another process has joined as rank {} (this one connects from {})", message.rank,
                       peer_address(peer.socket));
  }
  return "";
}

void RendezvousServer::handle_join(Peer& peer, const Message& message) {
  const std::string why = reason_to_refuse(peer, message);
  if (!why.empty()) return refuse(peer, why);
  peer.rank = message.rank;
  peer.joining = true;
  peer.until = Clock::now() + milliseconds(message.milliseconds);
  told_[peer.rank] = message.texts[1];
  gave_up_.erase(peer.rank);
  if (static_cast<int>(told_.size()) == size_) complete_join();
}

// Rank 0 cannot know by which address the others reach it; the server sees it.
void RendezvousServer::complete_join() {
  complete_ = true;
  std::vector<std::string> table;
  for (const auto& [rank, told] : told_) table.push_back(told);
  std::string reached;
  for (const Peer& peer : peers_) {
    if (!peer.joining) continue;
    const std::string address = local_address(peer.socket);
    if (reached.empty() || is_loopback(reached)) reached = address;
  }
  for (Peer& peer : peers_) {
    if (!peer.joining) continue;
    peer.joining = false;
    Message message = text_message(MessageType::table, table);
    if (peer.rank == 0) message.texts.push_back(reached);
    answer(peer, message);
  }
}

void RendezvousServer::handle_set(Peer& peer, const Message& message) {
  if (message.texts.size() != 2 || message.texts[0].empty() || message.texts[0].size() > kMaxKeyBytes ||
      message.texts[1].size() > kMaxValueBytes || store_.size() >= kMaxKeysOfRank * static_cast<std::size_t>(size_)) {
    return refuse(peer, "a key or value is too long, or there are too many");
  }
  const std::string& key = message.texts[0];
  store_[key] = message.texts[1];
  answer(peer, text_message(MessageType::done, {}));
  for (Peer& other : peers_) {
    if (other.key != key) continue;
    other.key.clear();
    answer(other, text_message(MessageType::value, {store_[key]}));
  }
}

void RendezvousServer::handle_get(Peer& peer, const Message& message) {
  if (message.texts.size() != 1 || message.texts[0].empty()) return refuse(peer, "a get without a key");
  const auto found = store_.find(message.texts[0]);
  if (found != store_.end()) return answer(peer, text_message(MessageType::value, {found->second}));
  peer.key = message.texts[0];
  peer.until = Clock::now() + milliseconds(message.milliseconds);
}

void RendezvousServer::handle_report(Peer& peer, const Message& message) {
  peer.reported = true;
  if (failed_) return;  // it is on its way
  const std::string text = message.texts.empty() ? "" : message.texts[0].substr(0, kMaxJoinBytes);
  if (message.number == static_cast<std::int32_t>(ReportKind::aborted)) return pronounce(peer.rank, text);
  const bool late = message.number == static_cast<std::int32_t>(ReportKind::late);
  if (!report_) decision_ = Clock::now() + kReportTime;
  // A rank that is past its deadline closes its connections, and others may tell of that first.
  if (!report_ || (late && report_->number != message.number)) {
    report_ = message;
    report_->texts = {text};
  }
  const bool all =
      std::all_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.rank < 0 || p.left || p.reported; });
  // With a broken connection the rank at its other end may just be ending: that is worth waiting for.
  if (all && report_->number == static_cast<std::int32_t>(ReportKind::late)) decide();
}

// Nobody has ended and nobody has said that the fault is its own. Past the deadline it lies with those that say nothing
// even now; a connection that broke is told of as it was reported.
void RendezvousServer::decide() {
  std::vector<std::string> silent;
  int rank = report_->rank;
  for (const Peer& peer : peers_) {
    if (peer.rank < 0 || peer.left || peer.reported) continue;
    silent.push_back(std::to_string(peer.rank));
    rank = peer.rank;
  }
  const std::string& text = report_->texts[0];
  if (left_.contains(report_->rank)) return pronounce(report_->rank, "has left the run before");
  if (report_->number != static_cast<std::int32_t>(ReportKind::late)) return pronounce(report_->rank, text);
  if (silent.empty()) return pronounce(report_->rank, text + ", though it runs: do all ranks make the same calls?");
  if (silent.size() > 1) return pronounce(-1, fmt::format("ranks {} {}", trivet::join(silent, ", "), text));
  pronounce(rank, text);
}

void RendezvousServer::pronounce(int rank, const std::string& text) {
  failed_ = true;
  for (Peer& peer : peers_) {
    if (peer.rank < 0 || peer.closing) continue;
    peer.joining = false;
    peer.key.clear();
    answer(peer, text_message(MessageType::verdict, {text}, rank));
  }
}

void RendezvousServer::expire() {
  for (Peer& peer : peers_) {
    if (peer.rank < 0 && remaining(peer.since + kStrangerTime) == milliseconds(0)) peer.closing = true;
    if (peer.closing || peer.key.empty() || remaining(peer.until) > milliseconds(0)) continue;
    if (!peer.key.empty()) answer(peer, text_message(MessageType::none, {}));
    peer.key.clear();
  }
  answer_missing(Clock::now());
  if (report_ && !failed_ && remaining(decision_) == milliseconds(0)) decide();
}

// Tells those that wait for the others no longer than until `now` who has not come. Ranks that were here and gave up a
// moment before are not those to look for.
void RendezvousServer::answer_missing(TimePoint now) {
  std::vector<std::string> absent, gone;
  for (int r = 0; r < size_; ++r) {
    if (!told_.contains(r)) (gave_up_.contains(r) ? gone : absent).push_back(std::to_string(r));
  }
  if (absent.empty()) absent = gone;
  for (Peer& peer : peers_) {
    if (!peer.joining || peer.until > now) continue;
    peer.joining = false;
    gave_up_.insert(peer.rank);
    answer(peer, text_message(MessageType::missing, absent));
  }
}

void RendezvousServer::drop_closed() {
  int ended = -1;
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    if (!peer->closing) {
      ++peer;
      continue;
    }
    transmit(peer->socket, peer->out);  // the reason why it is refused, if there is room for it, as there is
    if (peer->rank >= 0 && !complete_) told_.erase(peer->rank);
    if (peer->rank >= 0 && complete_ && !peer->left && !peer->reported) ended = peer->rank;
    peer = peers_.erase(peer);
  }
  if (ended >= 0 && !failed_) pronounce(ended, "has ended");
}

void RendezvousServer::answer(Peer& peer, const Message& message) {
  peer.out += encode(message);
  if (transmit(peer.socket, peer.out) == Progress::closed) peer.closing = true;
}

void RendezvousServer::refuse(Peer& peer, const std::string& why) {
  answer(peer, text_message(MessageType::refused, {why}));
  peer.closing = true;
}

}  // namespace trivet::comm
