// The one exception type. Says what was being done, what was found, where, and how to mend it.
#pragma once

#include <exception>
#include <optional>
#include <string>

namespace trivet {

// Each code has one exit code of the command line (docs/exit-codes.md).
enum class ErrorCode {
  internal,    // a bug of ours
  usage,       // command line
  job,         // job file: unknown key, wrong type, out of range
  graph,       // a graph that does not type-check, or that a device cannot run
  data,        // a data file that cannot be used
  checkpoint,  // a checkpoint that cannot be used
  io,          // the file system refused: missing, unreadable, full
  memory,      // does not fit
  diverged,    // the loss is not finite
  state,       // a run or job in a state that does not allow this
  rank,        // another rank of the run, or the way to it, has failed
};

// A place in a file that a person wrote. Lines and columns count from 1; 0 is unknown.
struct SourcePlace {
  std::string file;
  int line = 0;
  int column = 0;
};

class Error : public std::exception {
 public:
  // `message`: what went wrong, with the offending values. `hint`: how to mend it (may be empty).
  Error(ErrorCode code, std::string message, std::string hint = {});
  Error(ErrorCode code, SourcePlace place, std::string message, std::string hint = {});

  // "<file>:<line>:<column>: <message>\n  hint: <hint>", with "while <doing>" lines of add_context.
  const char* what() const noexcept override { return text_.c_str(); }

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }
  const std::optional<SourcePlace>& place() const { return place_; }

  // Adds what was being done by the caller, innermost first: "while reading the training images".
  Error& add_context(const std::string& doing);

 private:
  void compose();

  ErrorCode code_;
  std::optional<SourcePlace> place_;
  std::string message_;
  std::string hint_;
  std::string context_;
  std::string text_;
};

const char* error_code_name(ErrorCode code);

// The process exit code for an error of this kind; docs/exit-codes.md lists them.
int exit_code(ErrorCode code);

inline constexpr int kExitInterrupted = 75;  // checkpointed, start me again (sysexits' EX_TEMPFAIL)

}  // namespace trivet
