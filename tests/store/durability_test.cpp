// The store's promises under killed processes, other writers, damaged files and refusing file systems.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <random>
#include <set>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"
#include "trivet/store/store.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// What SQL on the file itself says: the first value, or the error.
std::string raw_sql(const fs::path& file, const std::string& sql) {
  sqlite3* database = nullptr;
  std::string out;
  char* message = nullptr;
  sqlite3_open(file.c_str(), &database);
  const auto keep = [](void* to, int, char** values, char**) {
    if (values[0] != nullptr) *static_cast<std::string*>(to) = values[0];
    return 0;
  };
  if (sqlite3_exec(database, sql.c_str(), keep, &out, &message) != SQLITE_OK && message != nullptr) out = message;
  sqlite3_free(message);
  sqlite3_close(database);
  return out;
}

std::string open_error(const fs::path& workspace) {
  try {
    Store store(workspace);
    store.list();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::io) << e.what();
    return e.what();
  }
  return "no error";
}

std::string write_error(Store& store, int& made) {
  try {
    for (; made < 10'000; ++made) store.create_job({"job", "train", std::string(64, 'd')}, {1, 1});
  } catch (const Error& e) {
    return e.code() == ErrorCode::io ? e.what() : std::string("wrong code: ") + e.what();
  }
  return "no error";
}

struct Acknowledged {
  int number = 0;
  JobState state = JobState::pending;
};

// Takes jobs through their states for ever, and says so on `fd` after each call has returned.
int write_jobs(const fs::path& workspace, int fd) {
  Store store(workspace);
  const auto acknowledge = [&](const JobRecord& job, JobState state) {
    const Acknowledged message{std::stoi(job.id.substr(1)), state};
    if (write(fd, &message, sizeof(message)) != sizeof(message)) _exit(1);
  };
  while (true) {
    const JobRecord job = store.create_job({"job", "train", "abc"}, this_process());
    acknowledge(job, JobState::pending);
    store.mark_started(job.id, 1, this_process());
    acknowledge(job, JobState::running);
    store.mark_ended(job.id, 1, JobState::failed, "exit code 1", 1);
    acknowledge(job, JobState::failed);
  }
}

TEST(StoreDurability, NoAcknowledgedChangeIsLostWhenTheWriterIsKilledAtRandomMoments) {
  TemporaryFolder folder;
  std::mt19937 random(20260101);
  std::map<std::string, JobState> acknowledged;
  for (int round = 0; round < 25; ++round) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = start_child([&] { return write_jobs(folder.path(), ends[1]); });
    close(ends[1]);
    Acknowledged message;
    const auto take = [&] {
      if (read(ends[0], &message, sizeof(message)) != sizeof(message)) return false;
      acknowledged[fmt::format("r{:04}", message.number)] = message.state;
      return true;
    };
    const int changes = std::uniform_int_distribution<int>(1, 30)(random);
    for (int i = 0; i < changes; ++i) ASSERT_TRUE(take());
    usleep(std::uniform_int_distribution<useconds_t>(0, 3'000)(random));
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_EQ(wait_for(pid), 128 + SIGKILL);
    while (take()) {
    }
    close(ends[0]);

    ASSERT_EQ(raw_sql(folder.path() / "trivet.db", "PRAGMA integrity_check"), "ok");
    Store store(folder.path());
    std::map<std::string, JobState> stored;
    for (const JobRecord& job : store.list()) stored[job.id] = job.state;
    for (const auto& [id, state] : acknowledged) {
      ASSERT_TRUE(stored.contains(id)) << id << " was acknowledged and is lost";
      // The next state may have been written without its acknowledgement.
      EXPECT_GE(static_cast<int>(stored[id]), static_cast<int>(state)) << id;
    }
    // At most the one job that was being made when the writer was killed is there without an acknowledgement.
    EXPECT_LE(stored.size(), acknowledged.size() + static_cast<std::size_t>(round) + 1);
  }
  EXPECT_GT(acknowledged.size(), 25u);
}

TEST(StoreDurability, SeveralProcessesMayMakeAndFillTheStoreAtOnce) {
  TemporaryFolder folder;
  constexpr int kWriters = 3;
  constexpr int kJobs = 40;
  std::vector<pid_t> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.push_back(start_child([&] {
      Store store(folder.path() / "new");
      for (int i = 0; i < kJobs; ++i) {
        const JobRecord job = store.create_job({fmt::format("w{}", w), "train", "abc"}, this_process());
        store.mark_started(job.id, 1, this_process());
      }
      return 0;
    }));
  }
  for (const pid_t writer : writers) EXPECT_EQ(wait_for(writer), 0);
  Store store(folder.path() / "new");
  std::set<std::string> ids;
  std::map<std::string, int> by_name;
  for (const JobRecord& job : store.list()) {
    ids.insert(job.id);
    ++by_name[job.name];
    EXPECT_EQ(job.state, JobState::running);
  }
  EXPECT_EQ(ids.size(), static_cast<std::size_t>(kWriters * kJobs));
  for (int w = 0; w < kWriters; ++w) EXPECT_EQ(by_name[fmt::format("w{}", w)], kJobs);
}

TEST(StoreDurability, OfTwoProcessesThatResumeAJobAtOnceOneGetsIt) {
  TemporaryFolder folder;
  for (int round = 0; round < 10; ++round) {
    std::string id;
    {
      Store store(folder.path());
      id = store.create_job({"job", "train", "abc"}, {1, 1}).id;
      store.mark_ended(id, 1, JobState::cancelled, "", 75);
    }
    std::vector<pid_t> children;
    for (int c = 0; c < 2; ++c) {
      children.push_back(start_child([&] {
        Store store(folder.path());
        try {
          store.begin_attempt(id, this_process());
        } catch (const Error& e) {
          return e.code() == ErrorCode::state ? 1 : 2;
        }
        return 0;
      }));
    }
    EXPECT_EQ(wait_for(children[0]) + wait_for(children[1]), 1);
    EXPECT_EQ(Store(folder.path()).get(id).attempt, 2);
  }
}

TEST(StoreDurability, TheDatabaseItselfRefusesASecondEndAndADeletion) {
  TemporaryFolder folder;
  Store store(folder.path());
  const std::string id = store.create_job({"job", "train", "abc"}, {1, 1}).id;
  store.mark_ended(id, 1, JobState::completed, "", 0);
  const fs::path file = folder.path() / "trivet.db";
  EXPECT_THAT(raw_sql(file, "UPDATE attempts SET state = 'FAILED'"), HasSubstr("has ended"));
  EXPECT_THAT(raw_sql(file, "DELETE FROM attempts"), HasSubstr("never deleted"));
  EXPECT_EQ(store.get(id).state, JobState::completed);
}

TEST(StoreDurability, NamesAFileThatIsNoDatabaseAndLeavesItAlone) {
  TemporaryFolder folder;
  const fs::path file = folder.path() / "trivet.db";
  const std::string garbage(5000, 'x');
  std::ofstream(file) << garbage;
  const std::string error = open_error(folder.path());
  EXPECT_THAT(error, HasSubstr(file.string()));
  EXPECT_THAT(error, HasSubstr("not a database"));
  EXPECT_THAT(error, HasSubstr("hint:"));
  std::string now;
  std::getline(std::ifstream(file), now);
  EXPECT_EQ(now, garbage);
}

TEST(StoreDurability, NamesADamagedFile) {
  TemporaryFolder folder;
  const fs::path file = folder.path() / "trivet.db";
  {
    int made = 9'900;
    Store store(folder.path());
    EXPECT_EQ(write_error(store, made), "no error");
  }
  ASSERT_GT(fs::file_size(file), 3 * 4096u);
  {
    std::fstream damage(file, std::ios::in | std::ios::out | std::ios::binary);
    damage.seekp(4096);
    damage << std::string(fs::file_size(file) - 4096, '\xEE');
  }
  const std::string error = open_error(folder.path());
  EXPECT_THAT(error, HasSubstr(file.string()));
  EXPECT_THAT(error, HasSubstr("malformed"));
}

TEST(StoreDurability, NamesATruncatedFile) {
  TemporaryFolder folder;
  const fs::path file = folder.path() / "trivet.db";
  {
    int made = 9'900;
    Store store(folder.path());
    EXPECT_EQ(write_error(store, made), "no error");
  }
  fs::resize_file(file, 4096);
  EXPECT_THAT(open_error(folder.path()), HasSubstr(file.string()));
}

TEST(StoreDurability, RefusesAFileOfANewerVersionWithoutChangingIt) {
  TemporaryFolder folder;
  { Store store(folder.path()); }
  const fs::path file = folder.path() / "trivet.db";
  raw_sql(file, "PRAGMA user_version = 7");
  const std::string error = open_error(folder.path());
  EXPECT_THAT(error, HasSubstr("version 7"));
  EXPECT_THAT(error, HasSubstr("up to 1"));
  EXPECT_EQ(raw_sql(file, "PRAGMA user_version"), "7");
}

TEST(StoreDurability, RefusesTheDatabaseOfAnotherProgramWithoutChangingIt) {
  TemporaryFolder folder;
  const fs::path file = folder.path() / "trivet.db";
  raw_sql(file, "CREATE TABLE theirs (x)");
  EXPECT_THAT(open_error(folder.path()), HasSubstr("another program"));
  EXPECT_EQ(raw_sql(file, "SELECT count(*) FROM sqlite_master"), "1");
  EXPECT_EQ(raw_sql(file, "PRAGMA journal_mode"), "delete");
}

TEST(StoreDurability, NamesAWorkspaceThatCannotBeMade) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_THAT(open_error(folder.path() / "file" / "runs"), HasSubstr((folder.path() / "file" / "runs").string()));
}

TEST(StoreDurability, NamesAFolderThatMayNotBeWritten) {
  TemporaryFolder folder;
  const fs::path closed = folder.path() / "closed";
  fs::create_directory(closed);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(closed.c_str(), 0555), 0);
  const pid_t pid = start_child([&] {
    // The administrator may write everywhere, so the child becomes nobody.
    if (geteuid() == 0 && setuid(65534) != 0) return 3;
    const std::string error = open_error(closed);
    const bool named = error.find((closed / "trivet.db").string()) != std::string::npos;
    return named && error.find("hint:") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(wait_for(pid), 0);
  ASSERT_EQ(chmod(closed.c_str(), 0755), 0);
}

TEST(StoreDurability, KeepsWhatWasAcknowledgedWhenTheFileSystemTakesNoMore) {
  TemporaryFolder folder;
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t pid = start_child([&] {
    Store store(folder.path());
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200'000, 200'000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
    int made = 0;
    const std::string error = write_error(store, made);
    if (write(ends[1], &made, sizeof(made)) != sizeof(made)) return 4;
    const bool named =
        error.find("trivet.db") != std::string::npos && error.find("disk I/O error") != std::string::npos;
    const bool readable = store.list().size() == static_cast<std::size_t>(made);
    return named ? (readable ? 0 : 2) : 1;
  });
  close(ends[1]);
  EXPECT_EQ(wait_for(pid), 0);
  int made = 0;
  ASSERT_EQ(read(ends[0], &made, sizeof(made)), static_cast<ssize_t>(sizeof(made)));
  close(ends[0]);
  EXPECT_GT(made, 0);
  Store store(folder.path());
  EXPECT_EQ(store.list().size(), static_cast<std::size_t>(made));
  store.create_job({"after", "train", "abc"}, {1, 1});
  EXPECT_EQ(store.list().size(), static_cast<std::size_t>(made) + 1);
}

TEST(StoreDurability, SaysThatTheDiskIsFullAndGoesOnOnceItIsNot) {
  TemporaryFolder folder;
  constexpr int kNotPermitted = 77;
  const pid_t pid = start_child([&] {
    // A file system of 256 KiB that only this child sees.
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
      return kNotPermitted;
    }
    std::ofstream(folder.path() / "ballast") << std::string(40'000, 'x');
    Store store(folder.path());
    int made = 0;
    const std::string error = write_error(store, made);
    if (error.find("disk is full") == std::string::npos) return 1;
    if (error.find("free some space") == std::string::npos) return 2;
    if (made == 0 || store.list().size() != static_cast<std::size_t>(made)) return 3;
    fs::remove(folder.path() / "ballast");
    store.create_job({"after", "train", "abc"}, {1, 1});
    return store.list().size() == static_cast<std::size_t>(made) + 1 ? 0 : 4;
  });
  const int code = wait_for(pid);
  if (code == kNotPermitted) GTEST_SKIP() << "mounting a small file system is not permitted here";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace trivet
