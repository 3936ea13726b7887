// Jobs on device: cuda and `trivet doctor`, with plug-ins that stand for CUDA's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/plugins/environment.h"
#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class CudaJobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_small_set(folder_, "train", 240);
    write_small_set(folder_, "test", 150, 12, 6);
  }

  // The folder of the run.
  fs::path run(const std::string& job, const std::vector<std::string>& sets) const {
    std::vector<std::string> words = {"run", folder_.write("job.yaml", job).string(), "--json"};
    for (const std::string& set : sets) words.insert(words.end(), {"--set", set});
    const Ended ended = workspace_.trivet(words);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    const json result = json::parse(ended.out, nullptr, false);
    return result.is_object() ? fs::path(result.at("directory").get<std::string>()) : fs::path();
  }

  static std::string weights(const fs::path& run) {
    fs::path last;
    for (const auto& entry : fs::recursive_directory_iterator(run)) {
      if (entry.path().filename() == "model.safetensors") last = std::max(last, entry.path());
    }
    return slurp(last);
  }

  TempDir folder_;
  const Workspace workspace_{folder_ / "runs"};
};

TEST_F(CudaJobTest, TheSameJobFileTrainsAndPredictsThroughThePluginWithTheBitsOfTheCpu) {
  const UsePlugin plugin("fake");
  const fs::path cpu = run(cnn_job(2), {}), cuda = run(cnn_job(2), {"device=cuda"});
  EXPECT_EQ(json::parse(slurp(cuda / "environment.json")).at("device"), "cuda fake");
  ASSERT_FALSE(weights(cpu).empty());
  EXPECT_TRUE(weights(cuda) == weights(cpu));
  const fs::path by_cpu = run(infer_job(cuda.string()), {"threads=1"});
  const fs::path by_cuda = run(infer_job(cuda.string()), {"device=cuda"});
  const std::string found = slurp(by_cuda / "predictions.csv");
  EXPECT_EQ(std::count(found.begin(), found.end(), '\n'), 151);
  EXPECT_EQ(found.substr(0, found.find('\n')), slurp(by_cpu / "predictions.csv").substr(0, found.find('\n')));
}

TEST_F(CudaJobTest, WhereCudaCannotBeUsedTheJobIsRefusedWithTheReason) {
  const UsePlugin plugin("fake");
  const SetVariable problem("TRIVET_FAKE_PROBLEM", "the driver is from 1999");
  for (const char* verb : {"run", "plan"}) {
    const Ended ended =
        workspace_.trivet({verb, folder_.write("job.yaml", cnn_job()).string(), "--set", "device=cuda"});
    EXPECT_EQ(ended.exit_code, 2) << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("CUDA cannot be used: the driver is from 1999"));
    EXPECT_THAT(ended.err, HasSubstr("trivet doctor"));
  }
}

#ifdef TRIVET_TEST_NCCL
// Ranks on devices of the plug-in, and what they asked NCCL for: the library that stands for it adds as shm does.
class CudaRanksTest : public CudaJobTest {
 protected:
  fs::path run_ranks(const std::vector<std::string>& sets, const std::string& device, int ranks) const {
    std::vector<std::string> all = sets;
    all.insert(all.end(), {"device=" + device, fmt::format("ranks={}", ranks)});
    return run(cnn_job(2), all);
  }

  const UsePlugin plugin_{"fake"};
  const SetVariable libraries_{"TRIVET_CUDA_LIBDIRS", TRIVET_TEST_NCCL};
  const SetVariable devices_{"TRIVET_FAKE_DEVICES", "4"};
};

TEST_F(CudaRanksTest, TrainWithTheBitsOfRanksOnTheCpu) {
  const std::vector<std::vector<std::string>> jobs = {
      {}, {"train.zero=2", "train.clip_norm=1"}, {"train.zero=1", "train.micro_batch=4"}, {"model.precision=bf16"}};
  for (const auto& sets : jobs) {
    for (const int ranks : {2, 4}) {
      const std::string cpu = weights(run_ranks(sets, "cpu", ranks)), cuda = weights(run_ranks(sets, "cuda", ranks));
      ASSERT_FALSE(cpu.empty());
      EXPECT_TRUE(cuda == cpu) << ranks << " ranks" << (sets.empty() ? "" : ", " + sets.front());
    }
  }
}

TEST_F(CudaRanksTest, MoreRanksThanGpusAreRefusedNamingBoth) {
  const SetVariable few("TRIVET_FAKE_DEVICES", "2");
  const Ended ended = workspace_.trivet(
      {"run", folder_.write("job.yaml", cnn_job()).string(), "--set", "device=cuda", "--set", "ranks=3"});
  EXPECT_EQ(ended.exit_code, 2) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("3 ranks of this machine need a GPU each, and there are 2"));
}

TEST_F(CudaRanksTest, ShardsAreRefusedWithTheReason) {
  const Ended ended = workspace_.trivet({"run", folder_.write("job.yaml", cnn_job()).string(), "--set", "device=cuda",
                                         "--set", "ranks=2", "--set", "train.shards=4"});
  EXPECT_EQ(ended.exit_code, 3) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("4 cannot be used with 2 ranks on GPUs"));
}

TEST_F(CudaRanksTest, ACallThatFailsEndsTheRunNamingTheRank) {
  const SetVariable fails("TRIVET_FAKE_NCCL_FAILS", "1:9");
  const Ended ended = workspace_.trivet(
      {"run", folder_.write("job.yaml", cnn_job()).string(), "--set", "device=cuda", "--set", "ranks=2"});
  EXPECT_EQ(ended.exit_code, 11) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("rank 1 failed: "));
  EXPECT_THAT(ended.err, HasSubstr("system error (it was told to fail)"));
}
#endif

TEST(Doctor, SaysWhatThereIsAndWhyCudaCannotBeUsed) {
  const UsePlugin plugin("fake");
  const SetVariable problem("TRIVET_FAKE_PROBLEM", "the driver is from 1999");
  const Ended text = trivet({"doctor"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* part : {"device: cpu     ready (cpu ", "oneDNN          ", "device: cuda    the driver is from 1999",
                           "the CPU's kernels, for tests", "libfake       missing, not required: it is nowhere"}) {
    EXPECT_THAT(text.out, HasSubstr(part));
  }
  const Ended ended = trivet({"doctor", "--json"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  const json found = json::parse(ended.out);
  EXPECT_EQ(found.at("cuda").at("usable"), false);
  EXPECT_EQ(found.at("cuda").at("problem"), "the driver is from 1999");
  EXPECT_EQ(found.at("cuda").at("libraries").at(0).at("found"), false);
  EXPECT_GT(found.at("cpu").at("memory_bytes").get<std::size_t>(), 0U);
}

TEST(Doctor, ListsDevicesThatCanBeUsed) {
  const UsePlugin plugin("fake");
  const json found = json::parse(trivet({"doctor", "--json"}).out);
  EXPECT_EQ(found.at("cuda").at("usable"), true);
  EXPECT_EQ(found.at("cuda").at("devices").size(), 2U);
  EXPECT_THAT(trivet({"doctor"}).out, HasSubstr("  cuda:1        Fake 1, 1.0 GiB\n"));
}

TEST(Doctor, IsNotStoppedByAPluginOfAnotherVersion) {
  const UsePlugin plugin("other_version");
  const Ended ended = trivet({"doctor"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.out, HasSubstr("has version 3 of the interface, this program has 2"));
}

}  // namespace
}  // namespace trivet::testing
