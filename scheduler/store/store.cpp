#include "trivet/store/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "scheduler/store/sqlite.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"

namespace trivet {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFileName = "trivet.db";
constexpr std::int64_t kApplicationId = 0x74727674;  // "trvt" in the file's header
constexpr std::int64_t kSchemaVersion = 1;
constexpr std::size_t kLongestName = 100;
constexpr std::size_t kMostIdsShown = 8;

constexpr const char* kSchema = R"sql(
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  directory TEXT NOT NULL,
  spec_digest TEXT NOT NULL,
  created REAL NOT NULL
) STRICT;
CREATE TABLE attempts (
  job INTEGER NOT NULL REFERENCES jobs (number),
  attempt INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  reason TEXT NOT NULL,
  created REAL NOT NULL,
  started REAL,
  ended REAL,
  exit_code INTEGER,
  owner_pid INTEGER NOT NULL,
  owner_start_time INTEGER NOT NULL,
  worker_pid INTEGER NOT NULL DEFAULT 0,
  worker_start_time INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, attempt),
  CHECK ((ended IS NULL) = (state IN ('PENDING', 'RUNNING')))
) STRICT, WITHOUT ROWID;
CREATE TRIGGER attempts_end_once BEFORE UPDATE ON attempts WHEN OLD.ended IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'this attempt has ended'); END;
CREATE TRIGGER attempts_stay BEFORE DELETE ON attempts
BEGIN SELECT RAISE(ABORT, 'attempts are never deleted'); END;
)sql";

constexpr const char* kSelectJobs = R"sql(
SELECT j.id, j.name, j.kind, j.directory, j.spec_digest, j.created, a.attempt, a.state, a.reason, a.started, a.ended,
  a.exit_code, a.owner_pid, a.owner_start_time, a.worker_pid, a.worker_start_time
FROM jobs AS j JOIN attempts AS a
  ON a.job = j.number AND a.attempt = (SELECT max(attempt) FROM attempts WHERE job = j.number)
)sql";

constexpr std::array<JobState, 5> kStates = {JobState::pending, JobState::running, JobState::completed,
                                             JobState::failed, JobState::cancelled};

JobState state_from_name(const std::string& name, const fs::path& file) {
  for (const JobState state : kStates) {
    if (name == job_state_name(state)) return state;
  }
  throw Error(ErrorCode::io, fmt::format("{}: a job has the unknown state '{}'", file.string(), name),
              "restore the file from a copy");
}

ProcessId process_at(const sqlite::Statement& row, int column) {
  return {row.integer(column), static_cast<std::uint64_t>(row.integer(column + 1))};
}

bool is_letter_or_digit(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

void check_name(const std::string& name) {
  const auto allowed = [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; };
  if (name.empty() || name.size() > kLongestName || !is_letter_or_digit(name.front()) ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    throw Error(
        ErrorCode::job,
        fmt::format("the job name '{}' cannot be used as a folder's name", name.substr(0, kLongestName)),
        fmt::format("use 1 to {} characters of A-Z a-z 0-9 . _ -, beginning with a letter or a digit", kLongestName));
  }
}

std::string ids_of(const std::vector<const JobRecord*>& jobs) {
  std::vector<std::string> ids;
  for (const JobRecord* job : jobs) {
    if (ids.size() == kMostIdsShown) {
      ids.push_back("...");
      break;
    }
    ids.push_back(job->id);
  }
  return join(ids, ", ");
}

// The file's format version, 0 for a new file. Refuses a file that this version of the program cannot use.
std::int64_t checked_version(sqlite::Database& database) {
  // One statement sees one state of the file, whatever other processes do meanwhile.
  sqlite::Statement header(database,
                           "SELECT (SELECT application_id FROM pragma_application_id), "
                           "(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)");
  header.step();
  const std::int64_t application = header.integer(0);
  const std::int64_t version = header.integer(1);
  const bool is_new = application == 0 && header.integer(2) == 0;
  if (is_new) return 0;
  if (application != kApplicationId) {
    throw Error(ErrorCode::io, database.path().string() + " is a database of another program",
                "choose another folder with --workspace");
  }
  if (version > kSchemaVersion) {
    throw Error(ErrorCode::io,
                fmt::format("{} has format version {}; this program knows versions up to {}", database.path().string(),
                            version, kSchemaVersion),
                "use the newer trivet that wrote it, or choose another folder with --workspace");
  }
  return version;
}

// Makes the tables in a new file.
void prepare(sqlite::Database& database) {
  checked_version(database);
  database.use_durable_log();
  if (checked_version(database) == kSchemaVersion) return;
  sqlite::Transaction transaction(database);
  if (checked_version(database) == kSchemaVersion) return;  // another process was first
  database.execute(kSchema);
  database.execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId, kSchemaVersion));
  transaction.commit();
}

fs::path make_workspace(const fs::path& workspace) {
  std::error_code error;
  fs::create_directories(workspace, error);
  if (error) {
    throw Error(ErrorCode::io, fmt::format("the folder {} cannot be made: {}", workspace.string(), error.message()),
                "choose another folder with --workspace");
  }
  return workspace / kFileName;
}

}  // namespace

struct Store::Impl {
  explicit Impl(const fs::path& workspace_folder) : workspace(workspace_folder), database(make_workspace(workspace)) {
    prepare(database);
  }

  JobRecord read(const sqlite::Statement& row) const {
    JobRecord job;
    job.id = row.text(0);
    job.name = row.text(1);
    job.kind = row.text(2);
    job.directory = workspace / row.text(3);
    job.spec_digest = row.text(4);
    job.created = row.real(5);
    job.attempt = static_cast<int>(row.integer(6));
    job.state = state_from_name(row.text(7), database.path());
    job.reason = row.text(8);
    if (!row.is_null(9)) job.started = row.real(9);
    if (!row.is_null(10)) job.ended = row.real(10);
    if (!row.is_null(11)) job.exit_code = static_cast<int>(row.integer(11));
    job.owner = process_at(row, 12);
    job.worker = process_at(row, 14);
    return job;
  }

  JobRecord get(const std::string& id) {
    sqlite::Statement row(database, std::string(kSelectJobs) + " WHERE j.id = ?");
    if (!row.bind(id).step()) {
      throw Error(ErrorCode::usage, fmt::format("there is no job '{}' in {}", id, workspace.string()));
    }
    return read(row);
  }

  std::vector<JobRecord> list() {
    sqlite::Statement row(database, std::string(kSelectJobs) + " ORDER BY j.number");
    std::vector<JobRecord> jobs;
    while (row.step()) jobs.push_back(read(row));
    return jobs;
  }

  // The job, if `attempt` is its last one and has not ended.
  JobRecord live_attempt(const std::string& id, int attempt, const char* change) {
    JobRecord job = get(id);
    if (job.attempt != attempt) {
      throw Error(ErrorCode::state, fmt::format("attempt {} of job {} cannot be {}: the job is at attempt {}", attempt,
                                                id, change, job.attempt));
    }
    if (is_terminal(job.state)) {
      throw Error(ErrorCode::state, fmt::format("attempt {} of job {} cannot be {}: it has ended already, {} ({})",
                                                attempt, id, change, job_state_name(job.state), job.reason));
    }
    return job;
  }

  void add_attempt(const std::string& id, int attempt, double now, const ProcessId& owner) {
    sqlite::Statement(database,
                      "INSERT INTO attempts (job, attempt, state, reason, created, owner_pid, owner_start_time) "
                      "SELECT number, ?, 'PENDING', '', ?, ?, ? FROM jobs WHERE id = ?")
        .bind(std::int64_t{attempt})
        .bind(now)
        .bind(owner.pid)
        .bind(static_cast<std::int64_t>(owner.start_time))
        .bind(id)
        .run();
  }

  fs::path workspace;
  sqlite::Database database;
};

double system_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

const char* job_state_name(JobState state) {
  switch (state) {
    case JobState::pending:
      return "PENDING";
    case JobState::running:
      return "RUNNING";
    case JobState::completed:
      return "COMPLETED";
    case JobState::failed:
      return "FAILED";
    case JobState::cancelled:
      return "CANCELLED";
  }
  return "UNKNOWN";
}

bool is_terminal(JobState state) { return state != JobState::pending && state != JobState::running; }

fs::path workspace_path(std::string_view flag) {
  if (!flag.empty()) return fs::path(flag);
  const char* value = std::getenv("TRIVET_WORKSPACE");
  return value != nullptr && *value != '\0' ? fs::path(value) : fs::path("runs");
}

bool has_store(const fs::path& workspace) {
  std::error_code error;
  return fs::exists(workspace / kFileName, error);
}

Store::Store(fs::path workspace, Clock clock)
    : workspace_(std::move(workspace)), clock_(std::move(clock)), impl_(std::make_unique<Impl>(workspace_)) {}

Store::~Store() = default;

JobRecord Store::create_job(const NewJob& job, const ProcessId& owner) {
  check_name(job.name);
  const double now = clock_();
  sqlite::Transaction transaction(impl_->database);
  const std::int64_t number = impl_->database.query_integer("SELECT coalesce(max(number), 0) + 1 FROM jobs");
  const std::string id = fmt::format("r{:04}", number);
  sqlite::Statement(impl_->database,
                    "INSERT INTO jobs (number, id, name, kind, directory, spec_digest, created) VALUES (?,?,?,?,?,?,?)")
      .bind(number)
      .bind(id)
      .bind(job.name)
      .bind(job.kind)
      .bind(id + "-" + job.name)
      .bind(job.spec_digest)
      .bind(now)
      .run();
  impl_->add_attempt(id, 1, now, owner);
  JobRecord record = impl_->get(id);
  transaction.commit();
  return record;
}

JobRecord Store::begin_attempt(const std::string& id, const ProcessId& owner) {
  sqlite::Transaction transaction(impl_->database);
  const JobRecord job = impl_->get(id);
  if (job.state != JobState::failed && job.state != JobState::cancelled) {
    const bool completed = job.state == JobState::completed;
    throw Error(ErrorCode::state, fmt::format("job {} is {} and cannot be resumed", id, job_state_name(job.state)),
                completed ? "it has nothing left to do; to do it again, run its job file"
                          : "stop it first, or wait for its end");
  }
  impl_->add_attempt(id, job.attempt + 1, clock_(), owner);
  JobRecord record = impl_->get(id);
  transaction.commit();
  return record;
}

void Store::mark_started(const std::string& id, int attempt, const ProcessId& worker) {
  sqlite::Transaction transaction(impl_->database);
  const JobRecord job = impl_->live_attempt(id, attempt, "started");
  if (job.state != JobState::pending) {
    throw Error(ErrorCode::state, fmt::format("attempt {} of job {} has been started already", attempt, id));
  }
  sqlite::Statement(impl_->database,
                    "UPDATE attempts SET state = 'RUNNING', started = ?, worker_pid = ?, worker_start_time = ? "
                    "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND attempt = ?")
      .bind(clock_())
      .bind(worker.pid)
      .bind(static_cast<std::int64_t>(worker.start_time))
      .bind(id)
      .bind(std::int64_t{attempt})
      .run();
  transaction.commit();
}

void Store::mark_ended(const std::string& id, int attempt, JobState state, const std::string& reason,
                       std::optional<int> exit_code) {
  if (!is_terminal(state)) {
    throw Error(ErrorCode::internal, fmt::format("{} is not the end of a job", job_state_name(state)));
  }
  sqlite::Transaction transaction(impl_->database);
  impl_->live_attempt(id, attempt, "ended");
  sqlite::Statement(impl_->database,
                    "UPDATE attempts SET state = ?, reason = ?, ended = ?, exit_code = ? "
                    "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND attempt = ?")
      .bind(std::string(job_state_name(state)))
      .bind(reason)
      .bind(clock_())
      .bind(exit_code)
      .bind(id)
      .bind(std::int64_t{attempt})
      .run();
  transaction.commit();
}

JobRecord Store::get(const std::string& id) { return impl_->get(id); }

std::vector<JobRecord> Store::list() { return impl_->list(); }

JobRecord Store::find(const std::string& text) {
  const std::vector<JobRecord> jobs = list();
  const auto matching = [&](const auto& fits) {
    std::vector<const JobRecord*> found;
    for (const JobRecord& job : jobs) {
      if (fits(job)) found.push_back(&job);
    }
    return found;
  };
  std::vector<const JobRecord*> found = matching([&](const JobRecord& j) { return j.id == text; });
  if (found.empty()) found = matching([&](const JobRecord& j) { return j.name == text; });
  if (found.empty() && !text.empty()) {
    found = matching([&](const JobRecord& j) { return j.id.starts_with(text) || j.name.starts_with(text); });
  }
  if (found.size() == 1) return *found.front();
  if (found.size() > 1) {
    throw Error(ErrorCode::usage, fmt::format("'{}' fits {} jobs: {}", text, found.size(), ids_of(found)),
                "give the id of the one that you mean");
  }
  std::vector<std::string> names;
  for (const JobRecord& job : jobs) {
    names.push_back(job.id);
    names.push_back(job.name);
  }
  const std::string near = nearest(text, names);
  throw Error(ErrorCode::usage, fmt::format("there is no job '{}' in {}", text, workspace_.string()),
              near.empty() ? "list the jobs with: trivet runs" : fmt::format("did you mean '{}'?", near));
}

}  // namespace trivet
