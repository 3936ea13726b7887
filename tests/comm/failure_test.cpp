// What the other ranks are told when one ends, hangs, fails or leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tests/comm/ranks.h"
#include "trivet/base/error.h"

namespace trivet::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Large enough that no part of it is done before all have come.
void add_up(Communicator& ranks) {
  std::vector<float> data(1'000'000, 1.0F);
  const Piece piece{data.data(), static_cast<std::int64_t>(data.size())};
  ranks.all_reduce(std::span(&piece, 1), DType::f32, ReduceOp::sum);
}

[[noreturn]] void sleep_for_good() {
  for (;;) pause();
}

class RankFailure : public ::testing::TestWithParam<const char*> {
 protected:
  CommunicatorOptions options(int size) const { return options_for(size, GetParam()); }
};

// The deadline is a minute: who tells of the end has not waited for it.
TEST_P(RankFailure, OfAKilledRankIsToldAtOnceWithItsName) {
  for (const int victim : {0, 1}) {
    Ranks ranks;
    ranks.start_all(options(3), [&](Communicator& all) {
      all.barrier();
      ranks.reach("ready");
      if (all.rank() == victim) sleep_for_good();
      add_up(all);
    });
    ranks.wait_until("ready", 3);
    ranks.signal(victim, SIGKILL);
    for (int r = 0; r < 3; ++r) {
      if (r == victim) continue;
      EXPECT_EQ(ranks.wait(r), 1);
      EXPECT_THAT(ranks.said(r), AllOf(HasSubstr(fmt::format("rank {} of 3: all_reduce, call 2: rank {}", r, victim)),
                                       HasSubstr("has ended")));
    }
  }
}

TEST_P(RankFailure, OfAStoppedRankIsToldAtTheDeadline) {
  Ranks ranks;
  CommunicatorOptions all = options(3);
  all.deadline = std::chrono::milliseconds(1000);
  ranks.start_all(all, [](Communicator& c) {
    c.barrier();
    if (c.rank() == 2) raise(SIGSTOP);
    add_up(c);
  });
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(ranks.wait(r), 1);
    EXPECT_THAT(ranks.said(r), AllOf(HasSubstr("all_reduce, call 2: rank 2"), HasSubstr("did not come within 1")));
  }
}

TEST_P(RankFailure, ThatARankTellsIsReadByTheOthers) {
  Ranks ranks;
  ranks.start_all(options(3), [](Communicator& all) {
    all.barrier();
    if (all.rank() == 1) {
      all.abort("the loss is not finite");
      return;
    }
    add_up(all);
  });
  EXPECT_EQ(ranks.wait(1), 0);
  for (const int r : {0, 2}) {
    EXPECT_EQ(ranks.wait(r), 1);
    EXPECT_THAT(ranks.said(r), HasSubstr("rank 1 failed: the loss is not finite"));
  }
}

// Also by one that comes to its next call when the rank that failed is long gone.
TEST_P(RankFailure, IsReadByARankThatComesLater) {
  Ranks ranks;
  ranks.start_all(options(2), [&](Communicator& all) {
    all.barrier();
    if (all.rank() == 0) {
      all.abort("no space left on device");
      return;
    }
    ranks.wait_until("gone");
    add_up(all);
  });
  EXPECT_EQ(ranks.wait(0), 0);
  ranks.reach("gone");
  EXPECT_EQ(ranks.wait(1), 1);
  EXPECT_THAT(ranks.said(1), HasSubstr("rank 0 failed: no space left on device"));
}

TEST_P(RankFailure, OfAnotherThreadEndsTheCallOfItsOwnRank) {
  Ranks ranks;
  ranks.start_all(options(2), [&](Communicator& all) {
    all.barrier();
    if (all.rank() == 0) {
      ranks.wait_until("seen");
      return;
    }
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      all.abort("the data cannot be read");
    });
    std::string said;
    try {
      add_up(all);
    } catch (const Error& e) {
      said = e.what();
    }
    other.join();
    ranks.reach("seen");
    require(said.find("the data cannot be read") != std::string::npos, said);
  });
  EXPECT_EQ(ranks.failures(), "");
}

TEST_P(RankFailure, IsTheEndOfAllFurtherCalls) {
  Ranks ranks;
  ranks.start_all(options(2), [](Communicator& all) {
    if (all.rank() == 1) {
      all.abort("stop");
      return;
    }
    EXPECT_THROW(add_up(all), Error);
    all.barrier();
  });
  EXPECT_EQ(ranks.wait(0), 1);
  EXPECT_THAT(ranks.said(0), AllOf(HasSubstr("barrier, call 2, cannot begin"), HasSubstr("rank 1 failed: stop")));
}

TEST_P(RankFailure, IsToLeaveBeforeTheOthersAreDone) {
  Ranks ranks;
  ranks.start_all(options(3), [](Communicator& all) {
    all.barrier();
    if (all.rank() != 1) add_up(all);
  });
  EXPECT_EQ(ranks.wait(1), 0);
  for (const int r : {0, 2}) {
    EXPECT_EQ(ranks.wait(r), 1);
    EXPECT_THAT(ranks.said(r), HasSubstr("rank 1 has left the run before"));
  }
}

TEST_P(RankFailure, IsToMakeAnotherCallThanTheOthers) {
  Ranks ranks;
  CommunicatorOptions all = options(2);
  all.deadline = std::chrono::milliseconds(1000);
  ranks.start_all(all, [](Communicator& c) {
    std::vector<float> data(100'000);
    const Piece piece{data.data(), c.rank() == 0 ? 100'000 : 90'000};
    c.all_reduce(std::span(&piece, 1), DType::f32, ReduceOp::sum);
  });
  for (int r = 0; r < 2; ++r) {
    EXPECT_EQ(ranks.wait(r), 1);
    EXPECT_THAT(ranks.said(r), HasSubstr("call"));
  }
}

TEST_P(RankFailure, LeavesNothingBehindWhenAllAreKilled) {
  const auto shared = [] {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      if (entry.path().filename().string().find("trivet") != std::string::npos) names.insert(entry.path().string());
    }
    return names;
  };
  Ranks ranks;
  const CommunicatorOptions all = options(2);
  ranks.start_all(all, [&](Communicator& c) {
    add_up(c);
    ranks.reach("ready");
    sleep_for_good();
  });
  ranks.wait_until("ready", 2);
  for (int r = 0; r < 2; ++r) ranks.signal(r, SIGKILL);
  for (int r = 0; r < 2; ++r) EXPECT_EQ(ranks.wait(r), 128 + SIGKILL);
  EXPECT_THAT(shared(), ::testing::IsEmpty());
  // At the same port, at once.
  Ranks next;
  next.start_all(all, add_up);
  EXPECT_EQ(next.failures(), "");
}

INSTANTIATE_TEST_SUITE_P(All, RankFailure, ::testing::Values("shm", "gloo"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST(LocalCommunicator, NeedsNoOthers) {
  CommunicatorOptions options;
  const auto alone = join(options);
  EXPECT_EQ(alone->kind(), "local");
  float x = 3;
  const Piece piece{&x, 1};
  alone->all_reduce(std::span(&piece, 1), DType::f32, ReduceOp::sum);
  EXPECT_EQ(x, 3);
  alone->abort("enough");
  EXPECT_THROW(alone->barrier(), Error);
}

}  // namespace
}  // namespace trivet::testing
