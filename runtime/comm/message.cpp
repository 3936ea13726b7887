#include "runtime/comm/message.h"

#include "trivet/base/error.h"
#include "trivet/base/hash.h"

namespace trivet::comm {
namespace {

constexpr std::size_t kLengthBytes = 4;

void put(std::string& out, std::uint32_t v, int bytes = 4) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(static_cast<std::uint8_t>(v >> (8 * i))));
}

// Little-endian numbers and texts from a body, each checked against what is left of it.
class Reader {
 public:
  explicit Reader(std::string_view body) : body_(body) {}

  std::uint32_t number(std::size_t bytes = 4) {
    const std::string_view raw = text(bytes);
    std::uint32_t v = 0;
    for (std::size_t i = 0; i < bytes; ++i) v |= std::uint32_t{static_cast<std::uint8_t>(raw[i])} << (8 * i);
    return v;
  }

  std::string_view text(std::size_t bytes) {
    if (bytes > body_.size() - at_) {
      throw Error(ErrorCode::rank, fmt::format("a rendezvous message of {} bytes ends inside of a field of {} bytes",
                                               body_.size(), bytes));
    }
    at_ += bytes;
    return body_.substr(at_ - bytes, bytes);
  }

  bool at_end() const { return at_ == body_.size(); }

 private:
  std::string_view body_;
  std::size_t at_ = 0;
};

bool is_known(std::uint32_t type) {
  const auto between = [type](MessageType first, MessageType last) {
    return type >= static_cast<std::uint32_t>(first) && type <= static_cast<std::uint32_t>(last);
  };
  return between(MessageType::join, MessageType::leave) || between(MessageType::table, MessageType::verdict);
}

Message parse(std::string_view body) {
  Reader reader(body);
  const std::uint32_t type = reader.number(1);
  if (!is_known(type)) throw Error(ErrorCode::rank, fmt::format("the rendezvous has no message of type {}", type));
  Message message;
  message.type = static_cast<MessageType>(type);
  message.rank = static_cast<std::int32_t>(reader.number());
  message.number = static_cast<std::int32_t>(reader.number());
  message.milliseconds = reader.number();
  for (std::uint32_t left = reader.number(2); left > 0; --left) {
    message.texts.emplace_back(reader.text(reader.number()));
  }
  if (!reader.at_end()) throw Error(ErrorCode::rank, "a rendezvous message goes on after its last field");
  return message;
}

}  // namespace

std::string encode(const Message& message) {
  std::string body;
  put(body, static_cast<std::uint8_t>(message.type), 1);
  put(body, static_cast<std::uint32_t>(message.rank));
  put(body, static_cast<std::uint32_t>(message.number));
  put(body, message.milliseconds);
  put(body, static_cast<std::uint32_t>(message.texts.size()), 2);
  for (const std::string& text : message.texts) {
    put(body, static_cast<std::uint32_t>(text.size()));
    body += text;
  }
  std::string out;
  put(out, static_cast<std::uint32_t>(body.size()));
  return out + body;
}

std::optional<Message> take_message(std::string& bytes, std::size_t limit) {
  if (bytes.size() < kLengthBytes) return std::nullopt;
  const std::size_t length = Reader(bytes).number();
  if (length > limit) {
    throw Error(ErrorCode::rank,
                fmt::format("a rendezvous message says that it has {} bytes, at most {} are allowed", length, limit));
  }
  if (bytes.size() - kLengthBytes < length) return std::nullopt;
  Message message = parse(std::string_view(bytes).substr(kLengthBytes, length));
  bytes.erase(0, kLengthBytes + length);
  return message;
}

std::string proof(std::string_view token) { return sha256_hex(fmt::format("trivet rendezvous 1 {}", token)); }

bool equal_secrets(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  // volatile: the loop must not end at the first difference.
  volatile unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace trivet::comm
