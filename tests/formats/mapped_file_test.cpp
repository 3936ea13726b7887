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

TEST(DataBytes, AreTheSameInMemoryMappedAndReadFromTheFile) {
  const TempDir dir;
  const TemporaryFolder folder(dir.path());
  std::vector<std::uint8_t> bytes(3'000'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
  const std::span<const std::byte> expected = std::as_bytes(std::span(bytes));
  const auto spilled = [&](std::size_t limit) {
    auto buffer = std::make_shared<SpillBuffer>(limit);
    buffer->append(expected);
    buffer->finish();
    return DataBytes(std::shared_ptr<const SpillBuffer>(std::move(buffer)));
  };
  const auto path = dir.write("data", std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  struct Case {
    DataBytes data;
    bool in_file, resident;
  };
  const Case cases[] = {{DataBytes(bytes), false, true},
                        {DataBytes::of_file(path), true, true},
                        {DataBytes::of_file(path, 1000), true, false},
                        {spilled(4'000'000), false, true},
                        {spilled(1000), true, false}};
  for (const Case& c : cases) {
    SCOPED_TRACE(&c - cases);
    DataBytes whole = c.data;
    ASSERT_EQ(whole.size(), bytes.size());
    EXPECT_EQ(whole.in_file(), c.in_file);
    EXPECT_EQ(whole.resident_bytes(), c.resident ? bytes.size() : 0);
    std::vector<std::byte> scratch, all;
    whole.for_each_piece([&](std::span<const std::byte> piece) { all.insert(all.end(), piece.begin(), piece.end()); });
    EXPECT_TRUE(std::ranges::equal(all, expected));
    const DataBytes part = std::exchange(whole, {}).part(1000, 2'000'000).part(5, 100);
    ASSERT_EQ(part.size(), 100U);
    EXPECT_TRUE(std::ranges::equal(part.read(10, 90, scratch), expected.subspan(1015, 90)));
    EXPECT_TRUE(part.read(0, 0, scratch).empty());
    EXPECT_TRUE(whole.empty());
  }
}

TEST(DataBytes, OfAFileThatIsCutShortEndWithAnErrorThatNamesIt) {
  const TempDir dir;
  const auto path = dir.write("data", std::string(5000, 'x'));
  const DataBytes data = DataBytes::of_file(path, 1000);
  std::vector<std::byte> scratch;
  EXPECT_EQ(data.read(4000, 1000, scratch).size(), 1000U);
  std::filesystem::resize_file(path, 4500);
  EXPECT_EQ(data.read(4000, 500, scratch).size(), 500U);
  expect_error(ErrorCode::data, {"data", "cut short", "5000", "rename"}, [&] { data.read(4000, 1000, scratch); });
}

TEST(DataBytes, OfWhatIsNoFileAreRefused) {
  const TempDir dir;
  expect_error(ErrorCode::io, {"missing", "No such file"}, [&] { DataBytes::of_file(dir / "missing"); });
  expect_error(ErrorCode::io, {"not a regular file"}, [&] { DataBytes::of_file(dir.path()); });
}

}  // namespace
}  // namespace trivet
