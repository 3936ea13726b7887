#include "trivet/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using testing::HasSubstr;

// The error that `action` throws; fails if it throws none.
template <class Action>
Error error_of(const Action& action) {
  try {
    action();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorCode::internal, "none");
}

class StoreTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
  double now_ = 1000;
  Store store_{folder_.path() / "runs", [this] { return now_; }};
  ProcessId owner_{41, 410};
  ProcessId worker_{42, 420};

  JobRecord add(const std::string& name = "mnist") { return store_.create_job({name, "train", "abc"}, owner_); }
};

TEST_F(StoreTest, ANewJobIsPendingWithACountedIdAndAFolder) {
  const JobRecord job = add();
  EXPECT_EQ(job.id, "r0001");
  EXPECT_EQ(job.name, "mnist");
  EXPECT_EQ(job.kind, "train");
  EXPECT_EQ(job.spec_digest, "abc");
  EXPECT_EQ(job.directory, folder_.path() / "runs" / "r0001-mnist");
  EXPECT_EQ(job.state, JobState::pending);
  EXPECT_EQ(job.attempt, 1);
  EXPECT_EQ(job.created, 1000);
  EXPECT_EQ(job.owner, owner_);
  EXPECT_EQ(job.worker, ProcessId{});
  EXPECT_FALSE(job.started || job.ended || job.exit_code);
  EXPECT_EQ(add().id, "r0002");
}

TEST_F(StoreTest, TimesComeFromTheGivenClock) {
  const std::string id = add().id;
  now_ = 1001.5;
  store_.mark_started(id, 1, worker_);
  now_ = 1010.25;
  store_.mark_ended(id, 1, JobState::failed, "exit code 3", 3);
  const JobRecord job = store_.get(id);
  EXPECT_EQ(job.created, 1000);
  EXPECT_EQ(job.started, 1001.5);
  EXPECT_EQ(job.ended, 1010.25);
  EXPECT_EQ(job.state, JobState::failed);
  EXPECT_EQ(job.reason, "exit code 3");
  EXPECT_EQ(job.exit_code, 3);
  EXPECT_EQ(job.worker, worker_);
}

TEST_F(StoreTest, TheRecordOutlivesTheProgram) {
  const std::string id = add().id;
  store_.mark_started(id, 1, worker_);
  Store again(folder_.path() / "runs");
  EXPECT_EQ(again.get(id).state, JobState::running);
  EXPECT_EQ(again.list().size(), 1u);
}

TEST_F(StoreTest, TheEndOfAnAttemptIsWrittenOnce) {
  const std::string id = add().id;
  store_.mark_started(id, 1, worker_);
  store_.mark_ended(id, 1, JobState::completed, "", 0);
  const Error error = error_of([&] { store_.mark_ended(id, 1, JobState::failed, "late", 1); });
  EXPECT_EQ(error.code(), ErrorCode::state);
  EXPECT_THAT(error.what(), HasSubstr("COMPLETED"));
  EXPECT_EQ(error_of([&] { store_.mark_started(id, 1, worker_); }).code(), ErrorCode::state);
  EXPECT_EQ(store_.get(id).state, JobState::completed);
}

TEST_F(StoreTest, AnAttemptStartsOnce) {
  const std::string id = add().id;
  store_.mark_started(id, 1, worker_);
  EXPECT_EQ(error_of([&] { store_.mark_started(id, 1, owner_); }).code(), ErrorCode::state);
  EXPECT_EQ(store_.get(id).worker, worker_);
}

TEST_F(StoreTest, AJobMayEndBeforeItStarts) {
  const std::string id = add().id;
  store_.mark_ended(id, 1, JobState::failed, "no space", std::nullopt);
  EXPECT_EQ(store_.get(id).state, JobState::failed);
  EXPECT_FALSE(store_.get(id).started);
  EXPECT_FALSE(store_.get(id).exit_code);
}

TEST_F(StoreTest, ANewAttemptStartsAfreshAndKeepsTheJob) {
  const std::string id = add().id;
  store_.mark_started(id, 1, worker_);
  store_.mark_ended(id, 1, JobState::cancelled, "interrupted, checkpointed", 75);
  const JobRecord job = store_.begin_attempt(id, worker_);
  EXPECT_EQ(job.id, id);
  EXPECT_EQ(job.attempt, 2);
  EXPECT_EQ(job.state, JobState::pending);
  EXPECT_EQ(job.reason, "");
  EXPECT_EQ(job.owner, worker_);
  EXPECT_FALSE(job.started || job.ended || job.exit_code);
  EXPECT_EQ(store_.list().size(), 1u);
}

TEST_F(StoreTest, ACompletedOrLiveJobGetsNoNewAttempt) {
  const std::string id = add().id;
  EXPECT_EQ(error_of([&] { store_.begin_attempt(id, owner_); }).code(), ErrorCode::state);
  store_.mark_started(id, 1, worker_);
  EXPECT_EQ(error_of([&] { store_.begin_attempt(id, owner_); }).code(), ErrorCode::state);
  store_.mark_ended(id, 1, JobState::completed, "", 0);
  const Error error = error_of([&] { store_.begin_attempt(id, owner_); });
  EXPECT_EQ(error.code(), ErrorCode::state);
  EXPECT_THAT(error.hint(), HasSubstr("run its job file"));
}

TEST_F(StoreTest, AnEarlierAttemptCannotWriteIntoALaterOne) {
  const std::string id = add().id;
  store_.mark_ended(id, 1, JobState::failed, "", std::nullopt);
  store_.begin_attempt(id, owner_);
  EXPECT_EQ(error_of([&] { store_.mark_started(id, 1, worker_); }).code(), ErrorCode::state);
  EXPECT_EQ(error_of([&] { store_.mark_ended(id, 1, JobState::completed, "", 0); }).code(), ErrorCode::state);
  EXPECT_EQ(store_.get(id).state, JobState::pending);
}

TEST_F(StoreTest, RunningIsNotAnEnd) {
  const std::string id = add().id;
  EXPECT_EQ(error_of([&] { store_.mark_ended(id, 1, JobState::running, "", 0); }).code(), ErrorCode::internal);
}

TEST_F(StoreTest, ListsInTheOrderOfCreation) {
  for (const char* name : {"c", "a", "b"}) add(name);
  std::vector<std::string> names;
  for (const JobRecord& job : store_.list()) names.push_back(job.name);
  EXPECT_THAT(names, testing::ElementsAre("c", "a", "b"));
}

TEST_F(StoreTest, FindsByIdNameAndUniqueBeginning) {
  add("mnist-mlp");
  add("mnist-cnn");
  add("cifar");
  EXPECT_EQ(store_.find("r0002").name, "mnist-cnn");
  EXPECT_EQ(store_.find("cifar").id, "r0003");
  EXPECT_EQ(store_.find("mnist-m").id, "r0001");
}

TEST_F(StoreTest, AnExactNameWinsOverALongerOne) {
  add("mnist");
  add("mnist-cnn");
  EXPECT_EQ(store_.find("mnist").id, "r0001");
}

TEST_F(StoreTest, SaysWhichJobsAnAmbiguousNameFits) {
  add();
  add();
  const Error error = error_of([&] { store_.find("mnist"); });
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.what(), HasSubstr("r0001, r0002"));
  EXPECT_EQ(error_of([&] { store_.find("r"); }).code(), ErrorCode::usage);
}

TEST_F(StoreTest, NamesTheNearestJobForAnUnknownOne) {
  add("mnist");
  const Error error = error_of([&] { store_.find("mnits"); });
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.what(), HasSubstr("did you mean 'mnist'"));
  EXPECT_EQ(error_of([&] { store_.find(""); }).code(), ErrorCode::usage);
  EXPECT_EQ(error_of([&] { store_.get("r0009"); }).code(), ErrorCode::usage);
}

TEST_F(StoreTest, RefusesNamesThatCannotBeFolders) {
  const std::string longest(100, 'a');
  EXPECT_EQ(add(longest).name, longest);
  for (const std::string& name : {std::string(), std::string("../etc"), std::string("a/b"), std::string(".hidden"),
                                  std::string("-x"), std::string("a b"), std::string("a\nb"), longest + "a"}) {
    EXPECT_EQ(error_of([&] { add(name); }).code(), ErrorCode::job) << name;
  }
  EXPECT_EQ(store_.list().size(), 1u);
}

TEST_F(StoreTest, KeepsAnyTextOfAReason) {
  const std::string id = add().id;
  const std::string reason = "quote ' and \" and é \xF0\x9F\x92\xA9; DROP TABLE jobs";
  store_.mark_ended(id, 1, JobState::failed, reason, 1);
  EXPECT_EQ(store_.get(id).reason, reason);
}

TEST(Workspace, IsTheFlagElseTheEnvironmentElseRuns) {
  const char* before = getenv("TRIVET_WORKSPACE");
  const std::optional<std::string> saved = before ? std::optional<std::string>(before) : std::nullopt;
  unsetenv("TRIVET_WORKSPACE");
  EXPECT_EQ(workspace_path(""), "runs");
  setenv("TRIVET_WORKSPACE", "/somewhere", 1);
  EXPECT_EQ(workspace_path(""), "/somewhere");
  EXPECT_EQ(workspace_path("here"), "here");
  if (saved) {
    setenv("TRIVET_WORKSPACE", saved->c_str(), 1);
  } else {
    unsetenv("TRIVET_WORKSPACE");
  }
}

TEST(Workspace, AskingForAStoreMakesNone) {
  TemporaryFolder folder;
  EXPECT_FALSE(has_store(folder.path() / "runs"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "runs"));
  Store store(folder.path() / "runs");
  EXPECT_TRUE(has_store(folder.path() / "runs"));
}

}  // namespace
}  // namespace trivet
