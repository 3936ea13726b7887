#include "runtime/comm/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "trivet/base/error.h"

namespace trivet::comm {
namespace {

constexpr milliseconds kRetry(50);

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Empty, with the reason in `why`, if the name is not known. An empty address: all of this machine.
AddressList resolve(const std::string& address, int port, int flags, std::string& why) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status =
      getaddrinfo(address.empty() ? nullptr : address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0) why = fmt::format("{}: {}", address, gai_strerror(status));
  return {status == 0 ? found : nullptr, &freeaddrinfo};
}

Descriptor open_socket(const addrinfo& where) {
  return Descriptor(socket(where.ai_family, where.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, where.ai_protocol));
}

void set_option(const Descriptor& socket, int level, int option, int value) {
  setsockopt(socket.get(), level, option, &value, sizeof value);
}

// Small messages go at once. A host that is gone without a word is noticed after about half a minute.
void tune(const Descriptor& socket) {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

// Listens at the first of the addresses that works; else errno tells of the last one.
Descriptor listen_at_any(const addrinfo* list) {
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    Descriptor socket = open_socket(*a);
    if (!socket) continue;
    set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(socket.get(), a->ai_addr, a->ai_addrlen) == 0 && listen(socket.get(), SOMAXCONN) == 0) return socket;
  }
  return Descriptor();
}

std::string numeric(const sockaddr_storage& address, socklen_t length) {
  char host[NI_MAXHOST] = {};
  const auto* raw = reinterpret_cast<const sockaddr*>(&address);
  if (getnameinfo(raw, length, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) return "";
  const std::string text = host;
  const std::string mapped = "::ffff:";  // IPv4 on a socket of IPv6
  return text.starts_with(mapped) ? text.substr(mapped.size()) : text;
}

bool wait_for_event(const Descriptor& socket, short event, TimePoint deadline) {
  for (;;) {
    pollfd watched{socket.get(), event, 0};
    const int ready = poll(&watched, 1, static_cast<int>(remaining(deadline).count()));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return true;  // the next call on the socket tells what is wrong
  }
}

}  // namespace

void Descriptor::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Descriptor listen_at(const std::string& address, int port, TimePoint deadline) {
  std::string why;
  // A name may stand for 127.0.1.1 on the machine itself and for another address elsewhere.
  AddressList list = resolve(address, port, AI_NUMERICHOST | AI_PASSIVE, why);
  if (!list) list = resolve("", port, AI_PASSIVE, why);
  for (;;) {
    Descriptor socket = listen_at_any(list.get());
    if (socket) return socket;
    const int error = errno;
    if (error == EADDRNOTAVAIL && list) {
      list = resolve("", port, AI_PASSIVE, why);
      socket = listen_at_any(list.get());
      if (socket) return socket;
    }
    if (error != EADDRINUSE || remaining(deadline) == milliseconds(0)) {
      throw Error(ErrorCode::io, fmt::format("rank 0 cannot listen at {}, port {}: {}", address, port, strerror(error)),
                  "take an address of rank 0's machine and a port that no other program uses");
    }
    std::this_thread::sleep_for(std::min(kRetry, remaining(deadline)));
  }
}

Descriptor connect_to(const std::string& address, int port, TimePoint deadline, std::string& why) {
  const AddressList list = resolve(address, port, 0, why);
  for (const addrinfo* a = list.get(); a != nullptr; a = a->ai_next) {
    Descriptor socket = open_socket(*a);
    if (!socket) continue;
    int error = connect(socket.get(), a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      // A machine that does not answer must not use up the time for the other addresses and later tries.
      const TimePoint patience = std::min(deadline, Clock::now() + std::chrono::seconds(5));
      socklen_t size = sizeof error;
      if (!wait_writable(socket, patience)) {
        error = ETIMEDOUT;
      } else if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
    if (error == 0) {
      tune(socket);
      return socket;
    }
    why = strerror(error);
  }
  return Descriptor();
}

Descriptor accept_from(const Descriptor& listener) {
  Descriptor socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) tune(socket);
  return socket;
}

std::string local_address(const Descriptor& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  return numeric(address, length);
}

std::string peer_address(const Descriptor& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getpeername(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return "";
  return numeric(address, length);
}

int local_port(const Descriptor& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
  return ntohs(address.ss_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
}

bool is_loopback(std::string_view numeric_address) {
  return numeric_address.starts_with("127.") || numeric_address == "::1";
}

Progress receive(const Descriptor& socket, std::string& in) {
  char buffer[1 << 14];
  const ssize_t got = recv(socket.get(), buffer, sizeof buffer, 0);
  if (got == 0) return Progress::closed;
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Progress::none : Progress::closed;
  in.append(buffer, static_cast<std::size_t>(got));
  return Progress::some;
}

Progress transmit(const Descriptor& socket, std::string& out) {
  if (out.empty()) return Progress::none;
  const ssize_t sent = send(socket.get(), out.data(), out.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR ? Progress::none : Progress::closed;
  out.erase(0, static_cast<std::size_t>(sent));
  return Progress::some;
}

bool wait_readable(const Descriptor& socket, TimePoint deadline) { return wait_for_event(socket, POLLIN, deadline); }

bool wait_writable(const Descriptor& socket, TimePoint deadline) { return wait_for_event(socket, POLLOUT, deadline); }

}  // namespace trivet::comm
