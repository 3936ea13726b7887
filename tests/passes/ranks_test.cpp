// What one rank updates for all: how it is shared out, and the nodes that send and receive it.
#include "trivet/passes/ranks.h"

#include <gtest/gtest.h>

#include <numeric>

#include "trivet/ops/registry.h"

namespace trivet {
namespace {

TEST(ShareOutTest, GivesEachRankAboutAsMuch) {
  const std::vector<std::size_t> sizes = {7, 1, 5, 5, 3, 3, 2, 6, 4};
  for (const int ranks : {1, 2, 3, 4}) {
    const std::vector<int> owners = share_out(sizes, ranks);
    std::vector<std::size_t> load(static_cast<std::size_t>(ranks));
    for (std::size_t i = 0; i < sizes.size(); ++i) load.at(static_cast<std::size_t>(owners.at(i))) += sizes[i];
    EXPECT_LE(*std::max_element(load.begin(), load.end()) - *std::min_element(load.begin(), load.end()), 2u);
  }
}

TEST(ShareOutTest, EqualSizesGoAroundInOrder) {
  EXPECT_EQ(share_out(std::vector<std::size_t>{4, 4, 4, 4, 4}, 2), (std::vector<int>{0, 1, 0, 1, 0}));
}

TEST(ShareOutTest, RanksBeyondTheLastThingHaveNothing) {
  EXPECT_EQ(share_out(std::vector<std::size_t>{2, 9}, 5), (std::vector<int>{1, 0}));
  EXPECT_TRUE(share_out({}, 3).empty());
}

// Three states of which rank 0 owns the first and the last.
struct Updated {
  Graph graph;
  std::vector<ValueId> states;

  explicit Updated(int rank) {
    std::vector<ValueId> gradients;
    for (int i = 0; i < 3; ++i) {
      states.push_back(graph.parameter(fmt::format("w{}", i), {DType::f32, {10}}, {}));
      gradients.push_back(graph.input(fmt::format("g{}", i), {DType::f32, {10}}));
    }
    const std::vector<ValueId> sums = sum_over_ranks(graph, gradients, 2);
    std::vector<OwnedState> owned;
    for (std::size_t i = 0; i < 3; ++i) {
      const int owner = i == 1 ? 1 : 0;
      owned.push_back({states[i], kNoValue, sums[i], owner});
      if (owner != rank) continue;
      owned.back().now = apply(graph, "add", {states[i], sums[i]});
      graph.set_update(states[i], owned.back().now);
    }
    broadcast_updates(graph, owned, rank, 2);
  }

  std::vector<const Node*> nodes(const std::string& op) const {
    std::vector<const Node*> found;
    for (const Node& node : graph.nodes()) {
      if (node.op->name == op) found.push_back(&node);
    }
    return found;
  }
};

std::int64_t attribute(const Node& node, const std::string& wanted) {
  for (const auto& [name, value] : node.attrs) {
    if (name == wanted) return std::get<std::int64_t>(value);
  }
  return -1;
}

TEST(BroadcastUpdatesTest, EachRankSendsItsOwnAndReceivesTheOthers) {
  for (const int rank : {0, 1}) {
    const Updated updated(rank);
    const std::vector<const Node*> sends = updated.nodes("broadcast_ranks_send");
    const std::vector<const Node*> receives = updated.nodes("broadcast_ranks_receive");
    ASSERT_EQ(sends.size(), 1u);
    ASSERT_EQ(receives.size(), 1u);
    EXPECT_EQ(sends[0]->inputs.size(), rank == 0 ? 2u : 1u);
    EXPECT_EQ(receives[0]->outputs.size(), rank == 0 ? 1u : 2u);
    EXPECT_EQ(attribute(*sends[0], "root"), rank);
    EXPECT_EQ(attribute(*receives[0], "root"), 1 - rank);
    EXPECT_EQ(updated.graph.updates().size(), 3u);
  }
}

TEST(BroadcastUpdatesTest, BothRanksNumberThemAlikeAfterTheSums) {
  const Updated first(0), second(1);
  const auto number = [](const Updated& updated, const char* op) {
    return attribute(*updated.nodes(op).at(0), "number");
  };
  EXPECT_EQ(number(first, "broadcast_ranks_send"), number(second, "broadcast_ranks_receive"));
  EXPECT_EQ(number(first, "broadcast_ranks_receive"), number(second, "broadcast_ranks_send"));
  EXPECT_EQ(number(first, "sum_ranks_start"), 0);
  EXPECT_EQ(number(first, "broadcast_ranks_send") + number(first, "broadcast_ranks_receive"), 1 + 2);
}

// Four gradients of two owners, each a bucket.
struct Reduced {
  Graph graph;
  std::vector<ValueId> sums;

  explicit Reduced(int rank) {
    std::vector<ValueId> gradients;
    for (int i = 0; i < 4; ++i) {
      const ValueId x = graph.input(fmt::format("x{}", i), {DType::f32, {10}});
      gradients.push_back(apply(graph, "relu", {x}));
    }
    sums = sum_for_owners(graph, gradients, std::vector<int>{0, 1, 1, 0}, rank, 2, {1, 2});
  }
  const Node& producer(std::size_t i) const { return graph.node(graph.value(sums[i]).producer); }
};

TEST(SumForOwnersTest, TheOwnerHasTheSumAndTheOthersNothing) {
  for (const int rank : {0, 1}) {
    const Reduced reduced(rank);
    const std::vector<int> owners = {0, 1, 1, 0};
    for (std::size_t i = 0; i < 4; ++i) {
      const bool own = owners[i] == rank;
      EXPECT_EQ(reduced.producer(i).op->name, own ? "reduce_ranks_wait" : "reduce_ranks_sent");
      EXPECT_EQ(reduced.graph.type(reduced.sums[i]).elements(), own ? 10 : 1);
      EXPECT_EQ(attribute(reduced.producer(i), "root"), owners[i]);
      EXPECT_EQ(attribute(reduced.producer(i), "number"), static_cast<std::int64_t>(i));
    }
  }
}

TEST(SumForOwnersTest, EachIsWaitedForWhenTheNextHasStarted) {
  const Reduced reduced(0);
  for (std::size_t i = 0; i < 4; ++i) {
    const ValueId other = reduced.producer(i).inputs.back();
    if (i == 3) {
      EXPECT_EQ(other, kNoValue);
    } else {
      const Node& next = reduced.graph.node(reduced.graph.value(other).producer);
      EXPECT_EQ(next.op->name, "reduce_ranks_start");
      EXPECT_EQ(attribute(next, "number"), static_cast<std::int64_t>(i) + 1);
    }
  }
}

TEST(SumForOwnersTest, NumbersOfSumsForAllFollow) {
  Reduced reduced(1);
  const ValueId more = reduced.graph.input("more", {DType::f32, {3}});
  const std::vector<ValueId> sums = sum_over_ranks(reduced.graph, std::vector<ValueId>{more}, 2);
  EXPECT_EQ(attribute(reduced.graph.node(reduced.graph.value(sums[0]).producer), "number"), 4);
}

}  // namespace
}  // namespace trivet
