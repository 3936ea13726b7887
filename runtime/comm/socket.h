// TCP sockets that close themselves. None of them survives exec(), none raises SIGPIPE.
#pragma once

#include <string>
#include <string_view>

#include "runtime/comm/time.h"

namespace trivet::comm {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    close();
    fd_ = other.release();
    return *this;
  }
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void close();
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// Listens at the address, or at all addresses of this machine if `address` is a name or belongs to a gateway before it.
// Tries until the deadline while the port is taken: an earlier attempt may still be ending. Error(io).
Descriptor listen_at(const std::string& address, int port, TimePoint deadline);

// A connection that does not block, or none: nobody listens there yet, or the name is not known yet; `why` says so.
Descriptor connect_to(const std::string& address, int port, TimePoint deadline, std::string& why);

Descriptor accept_from(const Descriptor& listener);  // one that does not block, or none

// Numeric addresses of the two ends.
std::string local_address(const Descriptor& socket);
std::string peer_address(const Descriptor& socket);
int local_port(const Descriptor& socket);
bool is_loopback(std::string_view numeric_address);

enum class Progress { some, none, closed };
// Appends what has come.
Progress receive(const Descriptor& socket, std::string& in);
// Takes from `out` what could be sent.
Progress transmit(const Descriptor& socket, std::string& out);

// Until the socket can be read (or written); false at the deadline.
bool wait_readable(const Descriptor& socket, TimePoint deadline);
bool wait_writable(const Descriptor& socket, TimePoint deadline);

}  // namespace trivet::comm
