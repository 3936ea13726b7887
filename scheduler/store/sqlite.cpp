#include "scheduler/store/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "trivet/base/error.h"

namespace trivet::sqlite {

namespace {

constexpr int kBusyMilliseconds = 10'000;

std::string hint_for(int code) {
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "restore the file from a copy, or move it away to begin a new one; the jobs' folders are untouched";
    case SQLITE_FULL:
      return "free some space on that file system; the record is as it was before";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fmt::format("another process has held the file for {} s; try again", kBusyMilliseconds / 1000);
    default:
      return "check that the folder exists, that you may write to it and that there is space, or choose another with "
             "--workspace";
  }
}

}  // namespace

Database::Database(std::filesystem::path path) : path_(std::move(path)) {
  const std::string absolute = std::filesystem::absolute(path_).string();
  const int result = sqlite3_open_v2(absolute.c_str(), &handle_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  try {
    if (handle_ == nullptr) throw Error(ErrorCode::memory, "no memory to open " + path_.string());
    sqlite3_extended_result_codes(handle_, 1);
    if (result != SQLITE_OK) fail("opening it");
    sqlite3_busy_timeout(handle_, kBusyMilliseconds);
  } catch (...) {
    sqlite3_close(handle_);
    throw;
  }
}

Database::~Database() { sqlite3_close(handle_); }

void Database::fail(const std::string& doing) const {
  const int code = sqlite3_extended_errcode(handle_);
  std::string reason = sqlite3_errmsg(handle_);
  const int system = sqlite3_system_errno(handle_);
  const int kind = code & 0xFF;
  // SQLite says that a file beside this one is not there, which it could not make.
  if (kind == SQLITE_CANTOPEN && ::access(std::filesystem::absolute(path_).parent_path().c_str(), W_OK) != 0) {
    reason = fmt::format("its folder cannot be written to ({})", std::strerror(errno));
  } else if (system != 0 && (kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR || kind == SQLITE_READONLY)) {
    reason += fmt::format(" ({})", std::strerror(system));
  }
  throw Error(ErrorCode::io, fmt::format("{}: {} failed: {}", path_.string(), doing, reason), hint_for(code));
}

void Database::execute(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail("writing the job record");
}

std::int64_t Database::query_integer(const std::string& sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

void Database::use_durable_log() {
  execute("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL");
  // Two processes that change the mode of a new file at once can both be told "busy" without any waiting.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kBusyMilliseconds);
  while (sqlite3_exec(handle_, "PRAGMA journal_mode = WAL", nullptr, nullptr, nullptr) != SQLITE_OK) {
    const bool busy = (sqlite3_errcode(handle_) & 0xFF) == SQLITE_BUSY;
    if (!busy || std::chrono::steady_clock::now() > deadline) fail("turning on the write-ahead log");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

Statement::Statement(Database& database, std::string_view sql) : database_(database) {
  if (sqlite3_prepare_v2(database.handle(), sql.data(), static_cast<int>(sql.size()), &statement_, nullptr) !=
      SQLITE_OK) {
    database.fail("reading the job record");
  }
}

Statement::~Statement() { sqlite3_finalize(statement_); }

void Statement::check_bound(int result) {
  if (result != SQLITE_OK) database_.fail("preparing a statement");
}

Statement& Statement::bind(const std::string& text) {
  check_bound(sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::bind(std::int64_t number) {
  check_bound(sqlite3_bind_int64(statement_, ++bound_, number));
  return *this;
}

Statement& Statement::bind(double number) {
  check_bound(sqlite3_bind_double(statement_, ++bound_, number));
  return *this;
}

Statement& Statement::bind(std::optional<int> number) {
  check_bound(number ? sqlite3_bind_int(statement_, ++bound_, *number) : sqlite3_bind_null(statement_, ++bound_));
  return *this;
}

bool Statement::step() {
  const int result = sqlite3_step(statement_);
  if (result != SQLITE_ROW && result != SQLITE_DONE) {
    const bool reads = sqlite3_stmt_readonly(statement_) != 0;
    database_.fail(reads ? "reading the job record" : "writing the job record");
  }
  return result == SQLITE_ROW;
}

void Statement::run() {
  while (step()) {
  }
}

std::string Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }

double Statement::real(int column) const { return sqlite3_column_double(statement_, column); }

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

Transaction::Transaction(Database& database) : database_(database) { database.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  // SQLite itself may have rolled back already, which makes this one fail without harm.
  if (open_) sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace trivet::sqlite
