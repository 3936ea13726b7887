// The messages of the rendezvous: four bytes of length, then a body. A body is a type (1 byte), a rank, a number, a
// time in milliseconds (4 bytes each) and up to 65535 texts (their count in 2 bytes; of each its length in 4 bytes and
// its bytes). Numbers are little-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trivet::comm {

enum class MessageType : std::uint8_t {
  // From a rank. `join` comes first: rank, number = ranks of the run, milliseconds to wait for the others, texts =
  // {proof(token), what the others shall know of this rank}.
  join = 1,
  set,     // texts = {key, value}
  get,     // texts = {key}, milliseconds to wait for it
  report,  // a call failed: rank = whom this rank blames or -1, number = a ReportKind, texts = {what happened}
  leave,   // has done its part; from rank 0 to the others as well

  // To a rank.
  table = 16,  // all have joined: texts = what each told of itself; rank 0: and the address at which it was reached
  missing,     // not all have joined in time: texts = the missing ranks
  refused,     // this process cannot join now: texts = {why}
  value,       // texts = {value}
  none,        // nobody has set the key in time
  done,        // it is set
  verdict,     // the run has failed: rank = whose fault it is or -1, texts = {what happened}
};

struct Message {
  MessageType type = MessageType::done;
  std::int32_t rank = -1;
  std::int32_t number = 0;
  std::uint32_t milliseconds = 0;
  std::vector<std::string> texts;
};

inline constexpr std::size_t kMaxJoinBytes = 8 << 10;     // of a rank that has not yet shown the token
inline constexpr std::size_t kMaxMessageBytes = 4 << 20;  // of others

std::string encode(const Message& message);

// The first message of `bytes`, which is taken from them; nothing if more bytes have to come first. Error(rank) if it
// is longer than `limit` or is no message.
std::optional<Message> take_message(std::string& bytes, std::size_t limit);

// What is sent in place of the token.
std::string proof(std::string_view token);

// Takes as long whatever the texts are, as long as they are of one length.
bool equal_secrets(std::string_view a, std::string_view b);

}  // namespace trivet::comm
