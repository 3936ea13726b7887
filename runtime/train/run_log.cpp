#include "trivet/train/run_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/formats/tensorboard.h"

namespace trivet {

struct RunLog::Impl {
  explicit Impl(LogSink& o) : observer(o) {}
  Impl(const fs::path& directory, LogSink& o) : observer(o), metrics_path(directory / "metrics.jsonl") {
    tensorboard.emplace(directory);
    try {
      auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>((directory / "log.txt").string());
      logger = std::make_unique<spdlog::logger>("run", sink);
    } catch (const spdlog::spdlog_ex& e) {
      throw Error(ErrorCode::io, fmt::format("cannot write {}: {}", (directory / "log.txt").string(), e.what()));
    }
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    logger->flush_on(spdlog::level::info);
    fd = ::open(metrics_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) fail("open");
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (fd >= 0) ::close(fd);
  }

  [[noreturn]] void fail(const char* doing) const {
    throw Error(ErrorCode::io, fmt::format("cannot {} {}: {}", doing, metrics_path.string(), std::strerror(errno)),
                "the last checkpoint stays; free space or check permissions, then resume the run");
  }

  LogSink& observer;
  std::unique_ptr<spdlog::logger> logger;
  fs::path metrics_path;
  int fd = -1;
  std::optional<TensorBoardWriter> tensorboard;
};

RunLog::RunLog(const std::filesystem::path& directory, LogSink& observer)
    : impl_(std::make_unique<Impl>(directory, observer)) {}
RunLog::RunLog(LogSink& observer) : impl_(std::make_unique<Impl>(observer)) {}
RunLog::~RunLog() = default;

void RunLog::line(const std::string& text) {
  if (impl_->logger) impl_->logger->info(text);
  impl_->observer.line(text);
}

void RunLog::warn(const std::string& text) {
  if (impl_->logger) impl_->logger->warn(text);
  impl_->observer.line("warning: " + text);
}

void RunLog::progress(const Progress& progress) { impl_->observer.progress(progress); }

void RunLog::metrics(const nlohmann::json& record) {
  if (impl_->fd < 0) return;
  const std::string text = record.dump() + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t n = ::write(impl_->fd, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) impl_->fail("write");
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  impl_->tensorboard->add(record);
}

std::uint64_t RunLog::sync_metrics() {
  if (impl_->fd < 0) return 0;
  if (::fsync(impl_->fd) != 0) impl_->fail("sync");
  const off_t end = ::lseek(impl_->fd, 0, SEEK_END);
  if (end < 0) impl_->fail("measure");
  return static_cast<std::uint64_t>(end);
}

void RunLog::cut_metrics(std::uint64_t bytes) {
  if (sync_metrics() > bytes && ::ftruncate(impl_->fd, static_cast<off_t>(bytes)) != 0) impl_->fail("cut");
}

}  // namespace trivet
