#include "trivet/formats/mapped_file.h"

#include <sys/resource.h>

#include <csignal>
#include <cstdlib>

#include "tests/formats/test_files.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::TempDir;

// $TMPDIR for the time of a test.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& path) {
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    setenv("TMPDIR", path.c_str(), 1);
  }
  ~TemporaryFolder() {
    if (before_) {
      setenv("TMPDIR", before_->c_str(), 1);
    } else {
      unsetenv("TMPDIR");
    }
  }

 private:
  std::optional<std::string> before_;
};

std::vector<std::byte> some_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}

TEST(SpillBuffer, HoldsTheSameBytesInMemoryAndInAFile) {
  const TempDir dir;
  const TemporaryFolder folder(dir.path());
  const std::vector<std::byte> bytes = some_bytes(9'000'000);
  for (const std::size_t limit : {std::size_t{0}, std::size_t{1000}, std::size_t{5'000'000}, std::size_t{10'000'000}}) {
    SpillBuffer buffer(limit);
    for (std::size_t at = 0, step = 1; at < bytes.size(); at += step, step = step * 3 % 1'000'003) {
      buffer.append(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
    }
    buffer.finish();
    EXPECT_EQ(buffer.in_file(), limit < bytes.size());
    EXPECT_EQ(buffer.resident_bytes(), buffer.in_file() ? 0 : bytes.size());
    EXPECT_TRUE(std::ranges::equal(buffer.bytes(), bytes)) << limit;
    EXPECT_TRUE(dir.empty());  // the file has no name
  }
}

TEST(SpillBuffer, MayStayEmpty) {
  SpillBuffer buffer(0);
  buffer.append({});
  buffer.finish();
  EXPECT_TRUE(buffer.bytes().empty());
}

TEST(SpillBuffer, NamesTheFolderThatCannotBeWritten) {
  const TempDir dir;
  const TemporaryFolder folder(dir / "missing");
  SpillBuffer buffer(10);
  expect_error(ErrorCode::io, {"missing", "No such file", "TMPDIR"}, [&] { buffer.append(some_bytes(100)); });
}

TEST(SpillBuffer, SaysThatTheDiskIsFull) {
  const TempDir dir;
  const TemporaryFolder folder(dir.path());
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  SpillBuffer buffer(10);
  expect_error(ErrorCode::io, {dir.path().string(), "TMPDIR"}, [&] {
    for (int i = 0; i < 20; ++i) buffer.append(some_bytes(1 << 20));
  });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
}

}  // namespace
}  // namespace trivet
