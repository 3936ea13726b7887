// SQLite with our errors: every refusal becomes an Error that names the file, what was done and why it failed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace trivet::sqlite {

class Database {
 public:
  // Opens or makes the file. Other processes' short transactions are waited for, 10 s at most.
  explicit Database(std::filesystem::path path);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // One or more statements without results.
  void execute(const std::string& sql);

  std::int64_t query_integer(const std::string& sql);

  // Write-ahead log, each commit synced.
  void use_durable_log();

  // Throws what SQLite said last.
  [[noreturn]] void fail(const std::string& doing) const;

  const std::filesystem::path& path() const { return path_; }
  sqlite3* handle() const { return handle_; }

 private:
  std::filesystem::path path_;
  sqlite3* handle_ = nullptr;
};

// One statement. Parameters are bound in order from the first; columns are read by position from 0.
class Statement {
 public:
  Statement(Database& database, std::string_view sql);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  Statement& bind(const std::string& text);
  Statement& bind(std::int64_t number);
  Statement& bind(double number);
  Statement& bind(std::optional<int> number);

  bool step();  // whether there is a row
  void run();   // a statement without rows

  std::string text(int column) const;
  std::int64_t integer(int column) const;
  double real(int column) const;
  bool is_null(int column) const;

 private:
  void check_bound(int result);

  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

// Begins at once as the only writer; undone when destroyed without commit().
class Transaction {
 public:
  explicit Transaction(Database& database);
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace trivet::sqlite
