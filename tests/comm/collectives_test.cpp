// What the collectives compute, with the ranks as processes.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/comm/ranks.h"
#include "tests/comm/values.h"

namespace trivet::testing {
namespace {

using kernels::BFloat16;

// Nothing, one element, odd numbers, several chunks of shared memory and more than a round of Gloo.
constexpr std::int64_t kSizes[] = {0, 1, 37, 4099, 300'001};
constexpr std::int64_t kManyRounds = 2'500'003;

struct Case {
  const char* kind;
  int size;
};

class Collectives : public ::testing::TestWithParam<Case> {
 protected:
  void run(const Ranks::Work& work) {
    Ranks ranks;
    ranks.start_all(options_for(GetParam().size, GetParam().kind), work);
    EXPECT_EQ(ranks.failures(), "");
  }
};

template <class T>
void check_all_reduce(Communicator& ranks, DType dtype, std::int64_t elements, ReduceOp op) {
  std::vector<T> data = values<T>(ranks.rank(), elements);
  const Piece piece{data.data(), elements};
  ranks.all_reduce(std::span(&piece, 1), dtype, op);
  require(same_bits(data, reduced<T>(ranks.size(), elements, op)), fmt::format("all_reduce of {} elements", elements));
}

TEST_P(Collectives, AllReduceHasTheBitsOfTheTree) {
  run([](Communicator& ranks) {
    for (const std::int64_t elements : kSizes) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        if (op != ReduceOp::sum && elements > 5000) continue;
        check_all_reduce<float>(ranks, DType::f32, elements, op);
        check_all_reduce<BFloat16>(ranks, DType::bf16, elements, op);
        if (elements > 5000) continue;
        check_all_reduce<double>(ranks, DType::f64, elements, op);
        check_all_reduce<std::int32_t>(ranks, DType::i32, elements, op);
        check_all_reduce<std::int64_t>(ranks, DType::i64, elements, op);
      }
    }
    if (ranks.size() == 2) check_all_reduce<float>(ranks, DType::f32, kManyRounds, ReduceOp::sum);
  });
}

TEST_P(Collectives, PiecesAreOneMessage) {
  run([](Communicator& ranks) {
    for (const std::int64_t elements : kSizes) {
      std::vector<float> data = values<float>(ranks.rank(), elements);
      std::vector<Piece> pieces = {{nullptr, 0}};
      std::int64_t at = 0;
      for (const std::int64_t wanted : {1, 3, 0, 1000, 70'001, 1'000'000}) {
        const std::int64_t length = std::min<std::int64_t>(wanted, elements - at);
        pieces.push_back({data.data() + at, length});
        at += length;
      }
      ranks.all_reduce(pieces, DType::f32, ReduceOp::sum);
      require(same_bits(data, reduced<float>(ranks.size(), elements, ReduceOp::sum)),
              fmt::format("pieces of {} elements", elements));
    }
  });
}

TEST_P(Collectives, ReduceGivesTheRootTheBitsOfAllReduce) {
  run([](Communicator& ranks) {
    for (int root = 0; root < ranks.size(); ++root) {
      for (const std::int64_t elements : kSizes) {
        std::vector<float> data = values<float>(ranks.rank(), elements);
        const Piece pieces[] = {{data.data(), elements / 3}, {data.data() + elements / 3, elements - elements / 3}};
        ranks.reduce(pieces, DType::f32, ReduceOp::sum, root);
        if (ranks.rank() != root) continue;
        require(same_bits(data, reduced<float>(ranks.size(), elements, ReduceOp::sum)),
                fmt::format("reduce of {} elements onto rank {}", elements, root));
      }
    }
  });
}

template <class T>
void check_reduce_scatter(Communicator& ranks, DType dtype, std::int64_t elements) {
  const std::vector<T> in = values<T>(ranks.rank(), elements * ranks.size());
  std::vector<T> out(static_cast<std::size_t>(elements));
  ranks.reduce_scatter(in.data(), out.data(), elements, dtype, ReduceOp::sum);
  const std::vector<T> all = reduced<T>(ranks.size(), elements * ranks.size(), ReduceOp::sum);
  const auto begin = all.begin() + ranks.rank() * elements;
  require(same_bits(out, std::vector<T>(begin, begin + elements)), fmt::format("reduce_scatter of {}", elements));
}

TEST_P(Collectives, ReduceScatterGivesEachRankItsPart) {
  run([](Communicator& ranks) {
    for (const std::int64_t elements : kSizes) {
      check_reduce_scatter<float>(ranks, DType::f32, elements);
      check_reduce_scatter<BFloat16>(ranks, DType::bf16, elements);
    }
  });
}

TEST_P(Collectives, AllGatherBringsEveryPartToAll) {
  run([](Communicator& ranks) {
    for (const std::int64_t elements : kSizes) {
      const auto n = static_cast<std::size_t>(elements);
      std::vector<std::int32_t> expected;
      for (int r = 0; r < ranks.size(); ++r) {
        const auto part = values<std::int32_t>(r, elements);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      std::vector<std::int32_t> out(expected.size());
      const auto own = values<std::int32_t>(ranks.rank(), elements);
      ranks.all_gather(own.data(), out.data(), n * sizeof(std::int32_t));
      require(same_bits(out, expected), fmt::format("all_gather of {}", elements));
      // In place.
      std::vector<std::int32_t> again(expected.size());
      std::int32_t* mine = again.data() + n * static_cast<std::size_t>(ranks.rank());
      std::copy(own.begin(), own.end(), mine);
      ranks.all_gather(mine, again.data(), n * sizeof(std::int32_t));
      require(same_bits(again, expected), fmt::format("all_gather of {} in place", elements));
    }
  });
}

TEST_P(Collectives, BroadcastComesFromAnyRoot) {
  run([](Communicator& ranks) {
    for (int root = 0; root < ranks.size(); ++root) {
      for (const std::int64_t elements : kSizes) {
        std::vector<float> data = values<float>(ranks.rank(), elements);
        ranks.broadcast(data.data(), data.size() * sizeof(float), root);
        require(same_bits(data, values<float>(root, elements)), fmt::format("broadcast of {}", elements));
      }
    }
  });
}

// Ranks that may run ahead of others must not disturb them.
TEST_P(Collectives, CallsFollowEachOtherAtAnySpeed) {
  run([](Communicator& ranks) {
    for (int i = 0; i < 200; ++i) {
      float x = static_cast<float>(i + ranks.rank());
      ranks.broadcast(&x, sizeof x, i % ranks.size());
      require(x == static_cast<float>(i + i % ranks.size()), fmt::format("broadcast {}", i));
      ranks.all_gather(nullptr, nullptr, 0);
      if (i % 7 == 0) ranks.barrier();
      const Piece piece{&x, 1};
      if (i % 3 == 0) ranks.all_reduce(std::span(&piece, 1), DType::f32, ReduceOp::max);
    }
  });
}

constexpr Case kCases[] = {{"shm", 1},  {"shm", 2},  {"shm", 3},  {"shm", 4}, {"shm", 8},
                           {"gloo", 2}, {"gloo", 3}, {"gloo", 4}, {"gloo", 8}};
INSTANTIATE_TEST_SUITE_P(All, Collectives, ::testing::ValuesIn(kCases), [](const auto& parameter) {
  return fmt::format("{}{}", parameter.param.kind, parameter.param.size);
});

// What makes 2 ranks with two shards each give the bits of 4 ranks.
TEST(CollectiveSums, OfNeighboursAddedBeforeAreThoseOfTwiceTheRanks) {
  for (const char* kind : {"shm", "gloo"}) {
    Ranks ranks;
    ranks.start_all(options_for(2, kind), [](Communicator& two) {
      for (const std::int64_t elements : {5, 100'003}) {
        std::vector<float> data = values<float>(2 * two.rank(), elements);
        const std::vector<float> neighbour = values<float>(2 * two.rank() + 1, elements);
        for (std::size_t i = 0; i < data.size(); ++i) data[i] += neighbour[i];
        const Piece piece{data.data(), elements};
        two.all_reduce(std::span(&piece, 1), DType::f32, ReduceOp::sum);
        require(same_bits(data, reduced<float>(4, elements, ReduceOp::sum)), "not the sum of four");
      }
    });
    EXPECT_EQ(ranks.failures(), "") << kind;
  }
}

}  // namespace
}  // namespace trivet::testing
