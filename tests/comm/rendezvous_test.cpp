// How ranks find each other, and what keeps them from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/comm/rendezvous_client.h"
#include "tests/comm/ranks.h"
#include "trivet/base/error.h"

namespace trivet::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

void meet(Communicator& ranks) { ranks.barrier(); }

CommunicatorOptions rank_of(CommunicatorOptions options, int rank) {
  options.rank = rank;
  return options;
}

TEST(Rendezvous, TakesSharedMemoryOnOneHost) {
  Ranks ranks;
  ranks.start_all(options_for(2, "auto"), [](Communicator& all) { require(all.kind() == "shm", all.kind()); });
  EXPECT_EQ(ranks.failures(), "");
}

TEST(Rendezvous, WaitsForRanksThatComeLate) {
  for (const int late : {0, 1}) {
    Ranks ranks;
    const CommunicatorOptions options = options_for(2, "auto");
    ranks.start(rank_of(options, 1 - late), meet);
    std::this_thread::sleep_for(milliseconds(300));
    ranks.start(rank_of(options, late), meet);
    EXPECT_EQ(ranks.failures(), "");
  }
}

TEST(Rendezvous, NamesTheRanksThatDoNotCome) {
  Ranks ranks;
  CommunicatorOptions options = options_for(4, "auto");
  options.join_deadline = milliseconds(700);
  for (const int rank : {0, 2}) ranks.start(rank_of(options, rank), meet);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ranks.wait(i), 1);
    EXPECT_THAT(ranks.said(i), HasSubstr("of the ranks, 1, 3 did not join within"));
  }
}

TEST(Rendezvous, SaysThatNobodyListens) {
  Ranks ranks;
  CommunicatorOptions options = options_for(2, "auto");
  options.join_deadline = milliseconds(300);
  ranks.start(rank_of(options, 1), meet);
  EXPECT_EQ(ranks.wait(0), 1);
  EXPECT_THAT(ranks.said(0),
              AllOf(HasSubstr(fmt::format("rank 1 of 2 cannot join at 127.0.0.1, port {}", options.port)),
                    HasSubstr("refused")));
}

TEST(Rendezvous, TurnsAwayRanksWithAnotherToken) {
  Ranks ranks;
  CommunicatorOptions options = options_for(2, "auto");
  ranks.start(rank_of(options, 0), meet);
  options.token = "guessed";
  options.join_deadline = milliseconds(700);
  ranks.start(rank_of(options, 1), meet);
  EXPECT_EQ(ranks.wait(1), 1);
  EXPECT_THAT(ranks.said(1), HasSubstr("the token is another one"));
}

// The ranks of the next attempt are there before the earlier one has ended.
TEST(Rendezvous, WaitsForTheEndOfAnEarlierAttempt) {
  Ranks ranks;
  CommunicatorOptions options = options_for(2, "gloo");
  ranks.start_all(options, [&](Communicator& all) {
    all.barrier();
    ranks.reach("earlier");
    ranks.wait_until("enough");
    all.barrier();
  });
  ranks.wait_until("earlier", 2);
  options.token = random_token();
  ranks.start_all(options, meet);
  std::this_thread::sleep_for(milliseconds(300));
  ranks.reach("enough");
  EXPECT_EQ(ranks.failures(), "");
}

TEST(Rendezvous, ForgetsARankThatEndsBeforeAllHaveJoined) {
  Ranks ranks;
  const CommunicatorOptions options = options_for(3, "auto");
  ranks.start(rank_of(options, 0), meet);
  ranks.start(rank_of(options, 1), meet);
  std::this_thread::sleep_for(milliseconds(300));
  ranks.signal(1, SIGKILL);
  EXPECT_EQ(ranks.wait(1), 128 + SIGKILL);
  ranks.start(rank_of(options, 1), meet);
  ranks.start(rank_of(options, 2), meet);
  for (const int i : {0, 2, 3}) EXPECT_EQ(ranks.wait(i), 0) << ranks.said(i);
}

TEST(Rendezvous, TurnsAwayASecondProcessOfARank) {
  Ranks ranks;
  CommunicatorOptions options = rank_of(options_for(3, "auto"), 1);
  options.join_deadline = milliseconds(300);
  ranks.start_alone([&] {
    const comm::TimePoint deadline = comm::Clock::now() + std::chrono::seconds(20);
    const comm::RendezvousServer server(comm::listen_at(options.address, options.port, deadline), options.token, 3);
    std::string why;
    const comm::Descriptor first = comm::connect_to(options.address, options.port, deadline, why);
    comm::Message request;
    request.type = comm::MessageType::join;
    request.rank = 1;
    request.number = 3;
    request.milliseconds = 20'000;
    request.texts = {comm::proof(options.token), "told"};
    std::string bytes = comm::encode(request);
    comm::transmit(first, bytes);
    const comm::RendezvousClient second(options, "told", comm::Clock::now() + options.join_deadline);
  });
  EXPECT_EQ(ranks.wait(0), 1);
  EXPECT_THAT(ranks.said(0), HasSubstr("another process has joined as rank 1"));
}

TEST(Rendezvous, RefusesRanksOfARunOfAnotherSize) {
  Ranks ranks;
  CommunicatorOptions options = options_for(2, "auto");
  ranks.start(rank_of(options, 0), meet);
  options.size = 3;
  options.join_deadline = milliseconds(700);
  ranks.start(rank_of(options, 1), meet);
  EXPECT_EQ(ranks.wait(1), 1);
  EXPECT_THAT(ranks.said(1), HasSubstr("this rank is one of 3, but rank 0 one of 2"));
}

TEST(Rendezvous, RefusesRanksWithDifferentCommunicators) {
  Ranks ranks;
  CommunicatorOptions options = options_for(2, "shm");
  ranks.start(rank_of(options, 0), meet);
  options.kind = "gloo";
  ranks.start(rank_of(options, 1), meet);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ranks.wait(i), 1);
    EXPECT_THAT(ranks.said(i), HasSubstr("rank 0 was given the communicator \"shm\", but rank 1 \"gloo\""));
  }
}

TEST(Rendezvous, IsNotDisturbedByStrangers) {
  Ranks ranks;
  const CommunicatorOptions options = options_for(2, "auto");
  ranks.start(rank_of(options, 0), meet);
  ranks.start_alone([&] {
    const comm::TimePoint deadline = comm::Clock::now() + std::chrono::seconds(20);
    std::vector<comm::Descriptor> sockets;
    std::string why;
    const std::string texts[] = {"GET / HTTP/1.1\r\n\r\n", std::string("\xff\xff\xff\xff", 4), std::string(100, '\0'),
                                 comm::encode(comm::Message{}), ""};
    for (int i = 0; i < 100; ++i) {
      comm::Descriptor socket;
      while (!socket && comm::remaining(deadline) > milliseconds(0)) {
        socket = comm::connect_to(options.address, options.port, deadline, why);
      }
      std::string text = texts[i % 5];
      comm::transmit(socket, text);
      sockets.push_back(std::move(socket));
    }
    ranks.reach("connected");
    ranks.wait_until("done");
  });
  ranks.wait_until("connected");
  ranks.start(rank_of(options, 1), meet);
  EXPECT_EQ(ranks.wait(0), 0) << ranks.said(0);
  EXPECT_EQ(ranks.wait(2), 0) << ranks.said(2);
  ranks.reach("done");
}

TEST(Rendezvous, RefusesOptionsThatMakeNoSense) {
  const auto refused = [](void (*change)(CommunicatorOptions&)) {
    CommunicatorOptions options;
    options.size = 2;
    options.port = 1;
    change(options);
    try {
      join(options);
    } catch (const Error& e) {
      return e.code() == ErrorCode::usage;
    }
    return false;
  };
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.size = 0; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.size = kMaxRanks + 1; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.rank = 2; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.rank = -1; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.kind = "mpi"; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.port = 0; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.port = 65536; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.address = ""; }));
  EXPECT_TRUE(refused([](CommunicatorOptions& o) { o.deadline = milliseconds(0); }));
}

TEST(Rendezvous, TokensAreNeverTheSame) {
  EXPECT_NE(random_token(), random_token());
  EXPECT_EQ(random_token().size(), 48U);
}

}  // namespace
}  // namespace trivet::testing
