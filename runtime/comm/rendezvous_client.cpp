#include "runtime/comm/rendezvous_client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet::comm {
namespace {

constexpr milliseconds kRetry(50);
constexpr milliseconds kGrace(2'000);  // for an answer that the rendezvous gives at a deadline
constexpr milliseconds kVerdictTime(1'000);

[[noreturn]] void connection_lost() { throw Error(ErrorCode::rank, "rank 0, which keeps the rendezvous, has ended"); }

}  // namespace

std::string to_string(const Verdict& verdict) {
  return verdict.rank < 0 ? verdict.text : fmt::format("rank {} {}", verdict.rank, verdict.text);
}

RendezvousClient::RendezvousClient(const CommunicatorOptions& options, const std::string& told, TimePoint deadline) {
  while (try_join(options, told, deadline) == Outcome::again) {
    socket_.close();
    in_.clear();
    if (remaining(deadline) == milliseconds(0)) {
      throw Error(ErrorCode::rank,
                  fmt::format("rank {} of {} cannot join at {}, port {}, within {}: {}", options.rank, options.size,
                              options.address, options.port,
                              format_seconds(static_cast<double>(options.join_deadline.count()) / 1e3), why_),
                  "look whether rank 0 runs, listens at that address and belongs to the same attempt");
    }
    std::this_thread::sleep_for(std::min(kRetry, remaining(deadline)));
  }
}

// Until all have joined, whatever goes wrong may be an earlier attempt that still ends, or a rank 0 that starts again.
RendezvousClient::Outcome RendezvousClient::try_join(const CommunicatorOptions& options, const std::string& told,
                                                     TimePoint deadline) {
  socket_ = connect_to(options.address, options.port, deadline, why_);
  if (!socket_ && options.rank == 0) socket_ = connect_to("127.0.0.1", options.port, deadline, why_);
  if (!socket_) return Outcome::again;
  own_address_ = local_address(socket_);
  Message request;
  request.type = MessageType::join;
  request.rank = options.rank;
  request.number = options.size;
  request.milliseconds = static_cast<std::uint32_t>(remaining(deadline).count());
  request.texts = {proof(options.token), told};
  std::optional<Message> reply;
  try {
    send(request, deadline);
    reply = receive_message(deadline + kGrace);
    if (!reply) why_ = "what listens there does not answer";
  } catch (const Error&) {
    why_ = "what listens there closed the connection";
  }
  if (!reply) return Outcome::again;
  if (reply->type == MessageType::missing) {
    throw Error(ErrorCode::rank,
                fmt::format("rank {} of {}: of the ranks, {} did not join within {}", options.rank, options.size,
                            trivet::join(reply->texts, ", "),
                            format_seconds(static_cast<double>(options.join_deadline.count()) / 1e3)),
                "look into the log of these ranks; all must be given the same address, port and token");
  }
  if (reply->type == MessageType::table && reply->texts.size() >= static_cast<std::size_t>(options.size)) {
    table_ = std::move(reply->texts);
    if (options.rank == 0) own_address_ = table_.back();
    table_.resize(static_cast<std::size_t>(options.size));
    return Outcome::joined;
  }
  why_ = reply->texts.empty() ? "what listens there answers with nonsense" : reply->texts[0];
  return Outcome::again;
}

void RendezvousClient::send(const Message& message, TimePoint deadline) {
  for (std::string out = encode(message); !out.empty();) {
    if (transmit(socket_, out) == Progress::closed) connection_lost();
    if (!out.empty() && !wait_writable(socket_, deadline)) {
      throw Error(ErrorCode::rank, "rank 0, which keeps the rendezvous, does not read what it is sent");
    }
  }
}

std::optional<Message> RendezvousClient::receive_message(TimePoint deadline) {
  for (;;) {
    std::optional<Message> message = take_message(in_, kMaxMessageBytes);
    if (message) return message;
    if (!wait_readable(socket_, deadline)) return std::nullopt;
    if (receive(socket_, in_) == Progress::closed) connection_lost();
  }
}

Message RendezvousClient::call(const Message& request, TimePoint deadline) {
  const std::lock_guard lock(mutex_);
  send(request, deadline);
  const std::optional<Message> reply = receive_message(deadline + kGrace);
  if (!reply) throw Error(ErrorCode::rank, "rank 0, which keeps the rendezvous, does not answer");
  if (reply->type == MessageType::verdict) {
    verdict_ = Verdict{reply->rank, reply->texts.empty() ? "" : reply->texts[0]};
    throw Error(ErrorCode::rank, to_string(*verdict_));
  }
  if (reply->type == MessageType::refused) {
    throw Error(ErrorCode::rank, fmt::format("the rendezvous refuses: {}", trivet::join(reply->texts, " ")));
  }
  return *reply;
}

void RendezvousClient::set(const std::string& key, const std::string& value, TimePoint deadline) {
  Message request;
  request.type = MessageType::set;
  request.texts = {key, value};
  call(request, deadline);
}

std::string RendezvousClient::get(const std::string& key, TimePoint deadline) {
  Message request;
  request.type = MessageType::get;
  request.milliseconds = static_cast<std::uint32_t>(remaining(deadline).count());
  request.texts = {key};
  const Message reply = call(request, deadline);
  if (reply.type != MessageType::value || reply.texts.size() != 1) {
    throw Error(ErrorCode::rank, fmt::format("no rank has told of \"{}\" in time", key));
  }
  return reply.texts[0];
}

void RendezvousClient::keep(const Message& message) {
  if (message.type == MessageType::leave) rendezvous_left_ = true;
  if (message.type != MessageType::verdict || verdict_) return;
  verdict_ = Verdict{message.rank, message.texts.empty() ? "" : message.texts[0]};
}

void RendezvousClient::watch(std::function<void()> failed) {
  wake_ = Descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) throw Error(ErrorCode::io, "no event descriptor: too many open files");
  watcher_ = std::thread([this, failed = std::move(failed)] {
    read_until_verdict();
    if (verdict_) failed();
  });
}

void RendezvousClient::read_until_verdict() {
  for (;;) {
    pollfd watched[] = {{socket_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (poll(watched, 2, -1) < 0 && errno != EINTR) return;
    if (watched[1].revents != 0) return;
    if (watched[0].revents == 0) continue;
    const bool closed = receive(socket_, in_) == Progress::closed;
    const std::lock_guard lock(mutex_);
    try {
      while (const std::optional<Message> message = take_message(in_, kMaxMessageBytes)) keep(*message);
    } catch (const Error&) {
      in_.clear();
    }
    if (closed && !know_outcome()) verdict_ = Verdict{0, "has ended"};
    if (!know_outcome()) continue;
    changed_.notify_all();
    return;
  }
}

std::optional<Verdict> RendezvousClient::verdict() {
  const std::lock_guard lock(mutex_);
  return verdict_;
}

Verdict RendezvousClient::report(ReportKind kind, int blamed, const std::string& text) noexcept {
  std::unique_lock lock(mutex_);
  const Verdict own{blamed, text};
  try {
    if (verdict_) return *verdict_;
    const TimePoint deadline = Clock::now() + kVerdictTime;
    Message message;
    message.type = MessageType::report;
    message.rank = blamed;
    message.number = static_cast<std::int32_t>(kind);
    message.texts = {text};
    // A verdict that is there already can be read even if nothing can be sent any more.
    std::string out = encode(message);
    transmit(socket_, out);
    if (watcher_.joinable()) {
      changed_.wait_until(lock, deadline, [this] { return know_outcome(); });
    } else {
      while (!know_outcome()) {
        const std::optional<Message> reply = receive_message(deadline);
        if (!reply) break;
        keep(*reply);
      }
    }
    if (verdict_) return *verdict_;
    return rendezvous_left_ && blamed == 0 ? Verdict{0, "has left the run before"} : own;
  } catch (const std::exception&) {
    return kind == ReportKind::aborted ? own : Verdict{0, "has ended"};
  }
}

void RendezvousClient::leave() noexcept {
  if (!socket_) return;
  try {
    if (watcher_.joinable()) {
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
      watcher_.join();
    }
    Message message;
    message.type = MessageType::leave;
    std::string out = encode(message);
    transmit(socket_, out);
    socket_.close();
  } catch (const std::exception&) {
    // Nobody is left to tell.
  }
}

}  // namespace trivet::comm
