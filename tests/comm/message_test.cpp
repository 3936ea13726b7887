#include "runtime/comm/message.h"

#include <gtest/gtest.h>

#include "trivet/base/error.h"

namespace trivet::testing {
namespace {

using namespace comm;

Message example() {
  Message message;
  message.type = MessageType::join;
  message.rank = 3;
  message.number = 4;
  message.milliseconds = 60'000;
  message.texts = {"proof", std::string("zero \0 inside", 13), ""};
  return message;
}

TEST(RendezvousMessage, ComesBackAsItWasSent) {
  std::string bytes = encode(example()) + encode(Message{});
  const auto first = take_message(bytes, 1000);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->type, MessageType::join);
  EXPECT_EQ(first->rank, 3);
  EXPECT_EQ(first->number, 4);
  EXPECT_EQ(first->milliseconds, 60'000U);
  EXPECT_EQ(first->texts, example().texts);
  EXPECT_EQ(take_message(bytes, 1000)->type, MessageType::done);
  EXPECT_TRUE(bytes.empty());
}

TEST(RendezvousMessage, IsNotThereBeforeItsLastByte) {
  const std::string whole = encode(example());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    std::string part = whole.substr(0, length);
    EXPECT_FALSE(take_message(part, 1000)) << length;
  }
}

TEST(RendezvousMessage, RefusesFieldsThatEndAfterIt) {
  const std::string whole = encode(example());
  for (std::size_t length = 4; length < whole.size(); ++length) {
    std::string cut = whole.substr(0, length);
    cut[0] = static_cast<char>(length - 4);
    EXPECT_THROW(take_message(cut, 1000), Error) << length;
  }
}

TEST(RendezvousMessage, RefusesMoreBytesThanAreAllowed) {
  std::string bytes = "\xff\xff\xff\xff";
  EXPECT_THROW(take_message(bytes, kMaxMessageBytes), Error);
}

TEST(RendezvousMessage, RefusesUnknownTypesAndBytesAfterItsEnd) {
  std::string unknown = encode(example());
  unknown[4] = 9;
  EXPECT_THROW(take_message(unknown, 1000), Error);
  std::string longer = encode(example()) + "x";
  longer[0] = static_cast<char>(longer[0] + 1);
  EXPECT_THROW(take_message(longer, 1000), Error);
}

TEST(RendezvousMessage, ProofDependsOnTheToken) {
  EXPECT_NE(proof("a"), proof("b"));
  EXPECT_TRUE(equal_secrets(proof("a"), proof("a")));
  EXPECT_FALSE(equal_secrets(proof("a"), proof("b")));
  EXPECT_FALSE(equal_secrets(proof("a"), ""));
}

}  // namespace
}  // namespace trivet::testing
