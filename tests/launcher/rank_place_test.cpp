// Which rank a process is, by the words of each thing that may have started it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/formats/test_files.h"
#include "trivet/launcher/ranks.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

std::optional<RankPlace> place_of(const Variables& variables) {
  return rank_place([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void expect_refused(const Variables& variables, const std::string& message) {
  try {
    place_of(variables);
    ADD_FAILURE() << "not refused: " << message;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::usage);
    EXPECT_THAT(e.what(), HasSubstr(message));
  }
}

const Variables kTorchrun = {{"RANK", "3"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "n1"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "abc"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};

const Variables kSlurm = {{"SLURM_PROCID", "5"},
                          {"SLURM_STEP_NUM_TASKS", "6"},
                          {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"},
                          {"SLURM_STEP_NODELIST", "gpu[03-05],login"},
                          {"SLURM_JOB_ID", "123456"},
                          {"SLURM_STEP_ID", "1"}};

TEST(RankPlaceTest, IsNothingWhereNobodyStartedSeveral) {
  EXPECT_FALSE(place_of({}));
  EXPECT_FALSE(place_of({{"RANK", "0"}}));
  EXPECT_FALSE(place_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}}));
  // A batch script has these, but only srun starts several processes.
  EXPECT_FALSE(place_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}}));
  EXPECT_FALSE(place_of({{"JOB_COMPLETION_INDEX", "2"}}));
}

TEST(RankPlaceTest, UnderstandsTorchrun) {
  const std::optional<RankPlace> place = place_of(kTorchrun);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->size, 8);
  EXPECT_EQ(place->local_size, 4);
  EXPECT_EQ(place->local_rank, 3);
  EXPECT_EQ(place->address, "n1");
  EXPECT_EQ(place->port, 29500);
  Variables again = kTorchrun;
  again["TORCHELASTIC_RESTART_COUNT"] = "3";
  EXPECT_NE(place->token, place_of(again)->token);
  Variables told = kTorchrun;
  told["LOCAL_RANK"] = "1";
  EXPECT_EQ(place_of(told)->local_rank, 1);
  told["LOCAL_RANK"] = "first";
  expect_refused(told, "LOCAL_RANK is 'first'");
}

TEST(RankPlaceTest, UnderstandsSlurm) {
  const std::optional<RankPlace> place = place_of(kSlurm);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 5);
  EXPECT_EQ(place->size, 6);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->address, "gpu03");
  EXPECT_EQ(place->port, 20'000 + 123'456 % 20'000);
  Variables other = kSlurm;
  other["MASTER_ADDR"] = "10.0.0.1";
  other["MASTER_PORT"] = "4000";
  other["SLURM_RESTART_COUNT"] = "1";
  other["SLURM_LOCALID"] = "0";
  EXPECT_EQ(place_of(other)->local_rank, 0);
  EXPECT_EQ(place_of(other)->address, "10.0.0.1");
  EXPECT_EQ(place_of(other)->port, 4000);
  EXPECT_NE(place_of(other)->token, place->token);
}

TEST(RankPlaceTest, FindsTheFirstHostOfASlurmList) {
  const auto first = [](const std::string& list) {
    Variables variables = kSlurm;
    variables["SLURM_STEP_NODELIST"] = list;
    return place_of(variables)->address;
  };
  EXPECT_EQ(first("a"), "a");
  EXPECT_EQ(first("a,b"), "a");
  EXPECT_EQ(first("n[7,9]"), "n7");
  EXPECT_EQ(first("n[012]"), "n012");
}

TEST(RankPlaceTest, UnderstandsAnIndexedJobOfKubernetes) {
  const std::optional<RankPlace> place = place_of(
      {{"JOB_COMPLETION_INDEX", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-0.job"}, {"MASTER_PORT", "5000"}});
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->size, 2);
  EXPECT_EQ(place->address, "job-0.job");
}

TEST(RankPlaceTest, NamesWhatIsMissingOrWrong) {
  const auto changed = [](const char* name, const char* value) {
    Variables variables = kTorchrun;
    variables[name] = value;
    return variables;
  };
  expect_refused(changed("RANK", "8"), "RANK is '8', expected an integer from 0 to 7");
  expect_refused(changed("RANK", "-1"), "RANK is '-1'");
  expect_refused(changed("WORLD_SIZE", "x"), "WORLD_SIZE is 'x'");
  expect_refused(changed("MASTER_PORT", "70000"), "MASTER_PORT is '70000'");
  expect_refused(changed("MASTER_ADDR", ""), "MASTER_ADDR is not set");
  Variables without_job = kSlurm;
  without_job.erase("SLURM_JOB_ID");
  expect_refused(without_job, "SLURM_JOB_ID is not set");
}

TEST(RankPlaceTest, LocalPlacesHaveAPortAndATokenOfTheirOwn) {
  const RankPlace a = local_place(3), b = local_place(3);
  EXPECT_EQ(a.size, 3);
  EXPECT_EQ(a.local_size, 3);
  EXPECT_GT(a.port, 0);
  EXPECT_NE(a.token, b.token);
}

}  // namespace
}  // namespace trivet
