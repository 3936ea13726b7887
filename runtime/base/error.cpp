#include "trivet/base/error.h"

#include <fmt/format.h>

namespace trivet {

Error::Error(ErrorCode code, std::string message, std::string hint)
    : code_(code), message_(std::move(message)), hint_(std::move(hint)) {
  compose();
}

Error::Error(ErrorCode code, SourcePlace place, std::string message, std::string hint)
    : code_(code), place_(std::move(place)), message_(std::move(message)), hint_(std::move(hint)) {
  compose();
}

Error& Error::add_context(const std::string& doing) {
  context_ += fmt::format("\n  while {}", doing);
  compose();
  return *this;
}

void Error::compose() {
  text_.clear();
  if (place_) {
    text_ += place_->file;
    if (place_->line > 0) text_ += fmt::format(":{}", place_->line);
    if (place_->line > 0 && place_->column > 0) text_ += fmt::format(":{}", place_->column);
    text_ += ": ";
  }
  text_ += message_;
  text_ += context_;
  if (!hint_.empty()) text_ += fmt::format("\n  hint: {}", hint_);
}

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::internal:
      return "internal";
    case ErrorCode::usage:
      return "usage";
    case ErrorCode::job:
      return "job";
    case ErrorCode::graph:
      return "graph";
    case ErrorCode::data:
      return "data";
    case ErrorCode::checkpoint:
      return "checkpoint";
    case ErrorCode::io:
      return "io";
    case ErrorCode::memory:
      return "memory";
    case ErrorCode::diverged:
      return "diverged";
    case ErrorCode::state:
      return "state";
    case ErrorCode::rank:
      return "rank";
  }
  return "internal";
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::internal:
      return 70;
    case ErrorCode::usage:
      return 2;
    case ErrorCode::job:
      return 3;
    case ErrorCode::graph:
      return 4;
    case ErrorCode::data:
      return 5;
    case ErrorCode::checkpoint:
      return 6;
    case ErrorCode::io:
      return 7;
    case ErrorCode::memory:
      return 8;
    case ErrorCode::diverged:
      return 9;
    case ErrorCode::state:
      return 10;
    case ErrorCode::rank:
      return 11;
  }
  return 70;
}

}  // namespace trivet
