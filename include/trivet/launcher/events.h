// What a worker tells the process that launched it: one JSON object a line, on a pipe whose descriptor's number is in
// the environment variable TRIVET_EVENTS_FD.
//
//   {"event":"progress","phase":"train","epoch":1,"epochs":12,"step":10,"steps":469,"samples":1280,"total":60000,
//    "rate":4100.0,"loss":0.53,"seconds":3.2,"left":70.1}      see trivet/base/progress.h
//   {"event":"line","text":"epoch 1/12 ..."}                   to be shown to the user
//   {"event":"error","code":"job","text":"..."}                why the worker is about to fail; a name of ErrorCode
//   {"event":"done","text":"..."}                              the result, in one sentence
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "trivet/base/progress.h"

namespace trivet {

inline constexpr const char* kEventsVariable = "TRIVET_EVENTS_FD";
inline constexpr std::size_t kLongestEvent = 64 * 1024;  // bytes of a line, without its newline

struct LineEvent {
  std::string text;
  bool operator==(const LineEvent&) const = default;
};

struct ErrorEvent {
  std::string code;
  std::string text;
  bool operator==(const ErrorEvent&) const = default;
};

struct DoneEvent {
  std::string text;
  bool operator==(const DoneEvent&) const = default;
};

using WorkerEvent = std::variant<Progress, LineEvent, ErrorEvent, DoneEvent>;

// One line without its newline, at most kLongestEvent bytes: longer texts are cut. Bytes that are not UTF-8 are
// replaced; a loss that is not finite is left out.
std::string to_json_line(const WorkerEvent& event);

// Nothing if the line is no event. Keys that are unknown are passed over, missing ones keep their defaults.
std::optional<WorkerEvent> parse_event(std::string_view line);

// The worker's end. Without a launcher (no TRIVET_EVENTS_FD) events go nowhere; if the launcher has died, likewise.
class EventWriter {
 public:
  EventWriter();  // from the environment
  explicit EventWriter(int fd) : fd_(fd) {}

  bool connected() const { return fd_ >= 0; }
  void send(const WorkerEvent& event);

 private:
  int fd_ = -1;
};

}  // namespace trivet
