// Ranks whose devices speak through NCCL, with a plug-in and a library that stand for CUDA and NCCL: real processes,
// the plug-in's own code between them, and what NCCL is asked for written down.
#ifdef TRIVET_TEST_NCCL
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/comm/ranks.h"
#include "tests/plugins/environment.h"
#include "trivet/base/error.h"
#include "trivet/comm/device_communicator.h"

namespace trivet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Ranks;
using testing::require;
using testing::SetVariable;
using testing::UsePlugin;

constexpr std::chrono::milliseconds kShort(700);

// Values on the device of a rank.
template <class T>
class OnDevice {
 public:
  OnDevice(const Device& device, std::vector<T> values, Stream& stream)
      : device_(device),
        count_(values.size()),
        memory_(device.allocate(values.size() * sizeof(T))),
        dtype_(std::is_same_v<T, float> ? DType::f32 : DType::i32) {
    device.upload(memory_->data(), values.data(), values.size() * sizeof(T), stream);
  }
  Piece piece() const { return {memory_->data(), static_cast<std::int64_t>(count_)}; }
  kernels::View view() const {
    kernels::View v;
    v.dtype = dtype_;
    v.rank = 1;
    v.shape[0] = static_cast<std::int64_t>(count_);
    v.data = memory_->data();
    return v;
  }
  std::vector<T> read(Stream& stream) const {
    std::vector<T> values(count_);
    device_.download(values.data(), memory_->data(), count_ * sizeof(T), stream);
    stream.synchronize();
    return values;
  }

 private:
  const Device& device_;
  std::size_t count_;
  std::unique_ptr<DeviceMemory> memory_;
  DType dtype_;
};

// What a rank of a test has.
struct Rank {
  explicit Rank(Communicator& communicator)
      : host(std::shared_ptr<void>(), &communicator),
        device(open_device("cuda")),
        joined(join_devices(device, host)),
        all(*joined.communicator),
        stream(device->make_stream()) {}

  template <class T>
  OnDevice<T> put(std::vector<T> values) const {
    OnDevice<T> result(*device, std::move(values), *stream);
    return result;
  }

  std::shared_ptr<Communicator> host;
  std::shared_ptr<const Device> device;
  JoinedDevices joined;
  Communicator& all;
  std::unique_ptr<Stream> stream;
};

class NcclTest : public ::testing::Test {
 protected:
  CommunicatorOptions options(int size, const std::string& kind = "shm") const {
    CommunicatorOptions result = testing::options_for(size, kind);
    result.deadline = deadline_;
    return result;
  }

  // What a rank has asked NCCL for; streams by number, in the order in which they come up.
  std::vector<std::string> asked(int rank) const {
    std::ifstream file(log_ + std::to_string(rank));
    std::vector<std::string> lines, streams;
    for (std::string line; std::getline(file, line);) {
      if (const std::size_t at = line.find("stream "); at != std::string::npos) {
        const std::string stream = line.substr(at);
        const auto known = std::find(streams.begin(), streams.end(), stream);
        line = line.substr(0, at) + fmt::format("stream {}", known - streams.begin());
        if (known == streams.end()) streams.push_back(stream);
      }
      lines.push_back(line);
    }
    return lines;
  }

  std::chrono::milliseconds deadline_{60'000};
  TemporaryFolder folder_;
  const std::string log_ = (folder_.path() / "asked-").string();
  const UsePlugin plugin_{"fake"};
  const SetVariable libraries_{"TRIVET_CUDA_LIBDIRS", TRIVET_TEST_NCCL};
  const SetVariable log_variable_{"TRIVET_FAKE_NCCL_LOG", log_};
};

TEST_F(NcclTest, CallsGiveEachRankItsPart) {
  for (const int size : {2, 3, 4}) {
    Ranks ranks;
    ranks.start_all(options(size), [](Communicator& host) {
      const Rank own(host);
      const auto n = static_cast<float>(own.all.size()), r = static_cast<float>(own.all.rank());
      const std::size_t parts = static_cast<std::size_t>(own.all.size());
      const auto a = own.put<float>({r, 1}), b = own.put<float>({2 * r});
      const auto most = own.put<std::int32_t>({own.all.rank(), -own.all.rank()});
      const auto one = own.put<float>({r + 1});
      const auto all = own.put(std::vector<float>(parts, r + 1));
      const auto mine = own.put<float>({-1});
      const auto gathered = own.put(std::vector<float>(parts, -1));
      const auto told = own.put<float>({10 * r, 5});
      own.stream->synchronize();
      const Piece pieces[] = {a.piece(), b.piece()};
      own.all.all_reduce(pieces, DType::f32, ReduceOp::sum);
      const float ranks_sum = n * (n - 1) / 2;
      require(a.read(*own.stream) == std::vector{ranks_sum, n} && b.read(*own.stream) == std::vector{2 * ranks_sum},
              "all_reduce adds all pieces");
      const Piece extremes = most.piece();
      own.all.all_reduce({&extremes, 1}, DType::i32, ReduceOp::max);
      require(most.read(*own.stream) == std::vector{own.all.size() - 1, 0}, "all_reduce finds the largest");
      const Piece single = one.piece();
      own.all.reduce({&single, 1}, DType::f32, ReduceOp::sum, 1);
      require(own.all.rank() != 1 || one.read(*own.stream) == std::vector{ranks_sum + n}, "reduce adds for its root");
      own.all.reduce_scatter(all.piece().data, mine.piece().data, 1, DType::f32, ReduceOp::sum);
      require(mine.read(*own.stream) == std::vector{ranks_sum + n}, "reduce_scatter gives a part");
      own.all.all_gather(told.piece().data, gathered.piece().data, sizeof(float));
      std::vector<float> expected;
      for (std::size_t i = 0; i < parts; ++i) expected.push_back(10 * static_cast<float>(i));
      require(gathered.read(*own.stream) == expected, "all_gather gives all parts");
      own.all.broadcast(told.piece().data, 2 * sizeof(float), 1);
      require(told.read(*own.stream) == std::vector<float>{10, 5}, "broadcast gives the root's");
      own.all.barrier();
      require(own.all.kind() == "nccl", "it says what it is");
    });
    EXPECT_EQ(ranks.failures(), "") << size << " ranks";
  }
}

TEST_F(NcclTest, ACallIsOneGroupWithTheCountsTypesAndStreamOfAll) {
  Ranks ranks;
  ranks.start_all(options(2), [](Communicator& host) {
    const Rank own(host);
    const auto a = own.put<float>({1, 2, 3}), b = own.put<float>({4});
    own.stream->synchronize();
    const Piece pieces[] = {a.piece(), b.piece(), {nullptr, 0}};
    own.all.all_reduce(pieces, DType::f32, ReduceOp::sum);
    own.all.all_reduce({pieces, 1}, DType::bf16, ReduceOp::min);
    own.all.reduce({pieces, 1}, DType::i32, ReduceOp::sum, 1);
    own.all.broadcast(a.piece().data, 12, 1);
    own.all.barrier();
  });
  EXPECT_EQ(ranks.failures(), "");
  for (const int rank : {0, 1}) {
    EXPECT_THAT(asked(rank),
                ElementsAre(fmt::format("init {} of 2", rank), "all_reduce 3 f32 sum root 0 stream 0",
                            "all_reduce 1 f32 sum root 0 stream 0", "end of group",
                            "all_reduce 3 bf16 min root 0 stream 0", "end of group", "reduce 3 i32 sum root 1 stream 0",
                            "end of group", "broadcast 12 u8 sum root 1 stream 0", "end of group",
                            "all_reduce 1 i32 max root 0 stream 0", "end of group", "finalize", "destroy"));
  }
}

TEST_F(NcclTest, OfARunAreMadeInTheOrderOfTheirNumbersBesideTheStreamThatComputes) {
  Ranks ranks;
  ranks.start_all(options(2), [this](Communicator& host) {
    Rank own(host);
    Collectives& sums = *own.joined.collectives;
    const auto r = static_cast<float>(own.all.rank());
    const auto a = own.put<float>({0, 0}), b = own.put<float>({0}), c = own.put<float>({0});
    own.stream->synchronize();
    std::vector<std::vector<float>> founds(4, std::vector<float>(2));
    for (int run = 1; run <= 3; ++run) {  // the third without having waited for the second
      // What is added is uploaded on the stream only now: a sum that does not wait for it adds what was there before.
      const std::vector<float> first = {r, static_cast<float>(run)}, second = {10 + r}, third = {20 + r};
      own.device->upload(static_cast<std::byte*>(a.piece().data), first.data(), 8, *own.stream);
      own.device->upload(static_cast<std::byte*>(b.piece().data), second.data(), 4, *own.stream);
      own.device->upload(static_cast<std::byte*>(c.piece().data), third.data(), 4, *own.stream);
      const kernels::View views[] = {a.view(), b.view(), c.view()};
      if (own.all.rank() == 0) sums.start_reduce(1, 0, {&views[1], 1}, *own.stream);
      sums.start_sum(0, {views, 1}, *own.stream);
      if (own.all.rank() == 1) sums.start_reduce(1, 0, {&views[1], 1}, *own.stream);
      sums.wait(0, *own.stream);
      std::vector<float>& found = founds[static_cast<std::size_t>(run)];
      own.device->download(found.data(), static_cast<std::byte*>(a.piece().data), 8, *own.stream);
      sums.start_broadcast(2, 1, {&views[2], 1}, *own.stream);
      sums.wait(1, *own.stream);
      sums.finish(*own.stream);
      if (run == 2) continue;
      sums.settle();
      own.stream->synchronize();
      require(found == std::vector{1.0F, 2.0F * static_cast<float>(run)},
              fmt::format("run {}: the sum of what was given last, found {} and {}", run, found[0], found[1]));
      require(own.all.rank() != 0 || b.read(*own.stream) == std::vector{21.0F}, "the sum for rank 0");
      require(c.read(*own.stream) == std::vector{21.0F}, "what rank 1 has sent, at the end of the run");
    }
    std::ifstream log(log_ + std::to_string(own.all.rank()));
    const std::string text((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
    require(text.find(fmt::format("stream {}", own.stream->handle())) == std::string::npos, "a stream of their own");
  });
  EXPECT_EQ(ranks.failures(), "");
  const std::vector<std::string> run = {"all_reduce 2 f32 sum root 0 stream 0", "end of group",
                                        "reduce 1 f32 sum root 0 stream 0",     "end of group",
                                        "broadcast 4 u8 sum root 1 stream 0",   "end of group"};
  for (const int rank : {0, 1}) {
    std::vector<std::string> expected = {fmt::format("init {} of 2", rank)};
    for (int i = 0; i < 3; ++i) expected.insert(expected.end(), run.begin(), run.end());
    expected.insert(expected.end(), {"finalize", "destroy"});
    EXPECT_EQ(asked(rank), expected);
  }
}

TEST_F(NcclTest, ASumThatWasNotStartedInItsTurnIsNotWaitedFor) {
  Ranks ranks;
  ranks.start_all(options(2), [](Communicator& host) {
    Rank own(host);
    const auto a = own.put<float>({0});
    const kernels::View view = a.view();
    own.joined.collectives->start_sum(1, {&view, 1}, *own.stream);
    own.joined.collectives->wait(1, *own.stream);
  });
  for (const int rank : {0, 1}) {
    EXPECT_EQ(ranks.wait(rank), 1);
    EXPECT_THAT(ranks.said(rank), HasSubstr("call 0 between ranks was not started"));
  }
}

// Three ranks make sums until rank 1 does `last` before the third.
std::function<void(Communicator&)> sums_until(Ranks& ranks, const std::function<void()>& last) {
  return [&ranks, last](Communicator& host) {
    Rank own(host);
    const auto a = own.put<float>({1});
    const kernels::View view = a.view();
    for (int run = 1; run <= 4; ++run) {
      if (run == 3 && own.all.rank() == 1) last();
      own.joined.collectives->start_sum(0, {&view, 1}, *own.stream);
      own.joined.collectives->finish(*own.stream);
      own.joined.collectives->settle();
    }
    ranks.reach("end");
  };
}

class NcclFailureTest : public NcclTest, public ::testing::WithParamInterface<const char*> {
 protected:
  NcclFailureTest() { deadline_ = kShort; }
};

TEST_P(NcclFailureTest, ARankThatHangsIsNamedAtTheDeadlineAndNcclIsAborted) {
  Ranks ranks;
  ranks.start_all(options(3, GetParam()), sums_until(ranks, [] { ::raise(SIGSTOP); }));
  for (const int rank : {0, 2}) {
    EXPECT_EQ(ranks.wait(rank), 1);
    EXPECT_THAT(ranks.said(rank), AllOf(HasSubstr(fmt::format("rank {} of 3: all_reduce, call 3: rank 1 ", rank)),
                                        HasSubstr("did not come within")));
    EXPECT_EQ(asked(rank).back(), "abort");
  }
}

TEST_P(NcclFailureTest, ARankThatEndsIsNamed) {
  Ranks ranks;
  ranks.start_all(options(3, GetParam()), sums_until(ranks, [] { ::raise(SIGKILL); }));
  for (const int rank : {0, 2}) {
    EXPECT_EQ(ranks.wait(rank), 1);
    EXPECT_THAT(ranks.said(rank), AllOf(HasSubstr(fmt::format("rank {} of 3: all_reduce, call 3: rank 1 ", rank)),
                                        HasSubstr("has ended")));
    EXPECT_EQ(asked(rank).back(), "abort");
  }
}

TEST_P(NcclFailureTest, WhatNcclComplainsOfIsSaidByAllRanksWithTheNameOfTheOneWhereItWas) {
  const SetVariable fails("TRIVET_FAKE_NCCL_FAILS", "1:3");
  Ranks ranks;
  ranks.start_all(options(3, GetParam()), sums_until(ranks, [] {}));
  for (const int rank : {0, 1, 2}) {
    EXPECT_EQ(ranks.wait(rank), 1);
    EXPECT_THAT(ranks.said(rank), AllOf(HasSubstr(fmt::format("rank {} of 3: all_reduce, call 3: rank 1 ", rank)),
                                        HasSubstr("system error (it was told to fail)")));
  }
}

TEST_P(NcclFailureTest, ACallThatNcclDoesNotEndIsGivenUpByAllAtTheDeadline) {
  const SetVariable hangs("TRIVET_FAKE_NCCL_HANGS", "1:3");
  Ranks ranks;
  ranks.start_all(options(3, GetParam()), sums_until(ranks, [] {}));
  for (const int rank : {0, 1, 2}) {
    EXPECT_EQ(ranks.wait(rank), 1);
    EXPECT_THAT(ranks.said(rank), AllOf(HasSubstr(fmt::format("rank {} of 3: all_reduce, call 3: ", rank)),
                                        HasSubstr("did not come within")));
    EXPECT_EQ(asked(rank).back(), "abort");
  }
}

INSTANTIATE_TEST_SUITE_P(Hosts, NcclFailureTest, ::testing::Values("shm", "gloo"),
                         [](const auto& p) { return std::string(p.param); });

TEST_F(NcclTest, ARankThatDoesNotJoinIsNamed) {
  deadline_ = kShort;
  Ranks ranks;
  ranks.start_all(options(2), [](Communicator& host) {
    if (host.rank() == 0) {
      const Rank own(host);
      return;
    }
    std::string id(kRanksIdBytes, '\0');
    host.broadcast(id.data(), id.size(), 0);
    ::raise(SIGSTOP);
  });
  EXPECT_EQ(ranks.wait(0), 1);
  EXPECT_THAT(ranks.said(0), AllOf(HasSubstr("rank 0 of 2: join, call 0: rank 1 "), HasSubstr("did not come within")));
}

TEST_F(NcclTest, TheCpuIsNoDeviceForIt) {
  Ranks ranks;
  ranks.start_all(options(2), [this](Communicator& host) {
    try {
      join_devices(open_device("cpu"), std::shared_ptr<Communicator>(std::shared_ptr<void>(), &host));
    } catch (const Error& e) {
      require(e.code() == ErrorCode::usage, "an error of usage");
      return;
    }
    require(false, "it was refused");
  });
  EXPECT_EQ(ranks.failures(), "");
}

}  // namespace
}  // namespace trivet
#endif
