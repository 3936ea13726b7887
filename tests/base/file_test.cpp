#include "trivet/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::size_t kNoLimit = std::size_t{1} << 40;

class FileTest : public ::testing::Test {
 protected:
  fs::path at(const std::string& name) const { return folder_.path() / name; }

  fs::path put(const std::string& name, std::string_view content) const {
    std::ofstream(at(name), std::ios::binary) << content;
    return at(name);
  }

  // The names in the folder, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_.path())) all.push_back(entry.path().filename().string());
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  TemporaryFolder folder_;
};

class AtomicFileTest : public FileTest {};
class ReadFileTest : public FileTest {};
class MappedFileTest : public FileTest {};

// Bytes that differ from place to place, so that a part that is lost, doubled or moved is seen.
std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 2654435761u) >> 13);
  return text;
}

// What the Error(io) of `work` says; fails if there is none.
std::string io_error(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::io) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

// Runs `work` in a child that ends by SIGALRM if it hangs.
int in_child_that_may_hang(const std::function<int()>& work) {
  return wait_for(start_child([&] {
    alarm(30);
    return work();
  }));
}

TEST_F(AtomicFileTest, CommitReplacesTheWholeFile) {
  const fs::path path = put("a", "an old and longer content");
  AtomicFile file(path);
  file.write("new ");
  file.write(std::as_bytes(std::span(std::string_view("content"))));
  EXPECT_EQ(read_file(path, kNoLimit), "an old and longer content");
  file.commit();
  EXPECT_EQ(read_file(path, kNoLimit), "new content");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, MakesAFileThatWasNotThere) {
  write_file_atomic(at("a"), "content");
  EXPECT_EQ(read_file(at("a"), kNoLimit), "content");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, CommittedEmptyIsAnEmptyFile) {
  const fs::path path = put("a", "old");
  AtomicFile(path).commit();
  EXPECT_EQ(read_file(path, kNoLimit), "");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, DestroyedWithoutCommitLeavesTheOldFileAndNoTemporary) {
  const fs::path path = put("a", "old");
  {
    AtomicFile file(path);
    file.write(pattern(1 << 20));
  }
  EXPECT_EQ(read_file(path, kNoLimit), "old");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, DestroyedByAnExceptionLeavesNothingWhereNothingWas) {
  EXPECT_THROW(
      {
        AtomicFile file(at("a"));
        file.write("half");
        throw std::runtime_error("the caller failed");
      },
      std::runtime_error);
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(AtomicFileTest, KeepsEveryByteOfWritesAroundTheBufferSize) {
  constexpr std::size_t kBuffer = 1 << 16;
  const std::string all = pattern(5 << 20);
  AtomicFile file(at("a"));
  std::string_view rest = all;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kBuffer - 1, kBuffer, kBuffer + 1, std::size_t{7},
                                 std::size_t{3} << 20, std::size_t{100}, kBuffer - 100, std::size_t{1}}) {
    file.write(rest.substr(0, size));
    rest.remove_prefix(size);
  }
  file.write(rest);
  file.commit();
  EXPECT_TRUE(read_file(at("a"), kNoLimit) == all);
}

TEST_F(AtomicFileTest, KeepsEveryByteOfManySmallWrites) {
  const std::string all = pattern(300'000);
  AtomicFile file(at("a"));
  for (std::size_t i = 0; i < all.size(); i += 7) file.write(std::string_view(all).substr(i, 7));
  file.commit();
  EXPECT_TRUE(read_file(at("a"), kNoLimit) == all);
}

TEST_F(AtomicFileTest, OfTwoWritersOfOnePathTheLastToCommitWinsWhole) {
  AtomicFile first(at("a"));
  AtomicFile second(at("a"));
  first.write(std::string(100'000, '1'));
  second.write(std::string(50'000, '2'));
  second.commit();
  EXPECT_EQ(read_file(at("a"), kNoLimit), std::string(50'000, '2'));
  first.commit();
  EXPECT_EQ(read_file(at("a"), kNoLimit), std::string(100'000, '1'));
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, TakesAPathWithoutAFolder) {
  const int code = wait_for(start_child([&] {
    fs::current_path(at("").parent_path());
    write_file_atomic("a", "content");
    return 0;
  }));
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_file(at("a"), kNoLimit), "content");
}

TEST_F(AtomicFileTest, IsReadableByOthersAsTheUmaskAllows) {
  const int code = wait_for(start_child([&] {
    umask(027);
    write_file_atomic(at("a"), "content");
    return 0;
  }));
  ASSERT_EQ(code, 0);
  EXPECT_EQ(fs::status(at("a")).permissions(), fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read);
}

TEST_F(AtomicFileTest, KilledWhileWritingLeavesTheOldContent) {
  const fs::path path = put("a", "old");
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = start_child([&] {
    AtomicFile file(path);
    file.write(pattern(1 << 20));
    const char byte = 1;
    if (write(ready[1], &byte, 1) != 1) return 1;
    for (;;) pause();
  });
  close(ready[1]);
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  // The child stands between write() and commit(), with most of its bytes in the temporary file.
  ASSERT_EQ(names().size(), 2u);
  EXPECT_GT(fs::file_size(at(names()[1])), 900'000u);
  kill(child, SIGKILL);
  EXPECT_EQ(wait_for(child), 128 + SIGKILL);
  EXPECT_EQ(read_file(path, kNoLimit), "old");
  write_file_atomic(path, "new");
  EXPECT_EQ(read_file(path, kNoLimit), "new");
}

TEST_F(AtomicFileTest, IsNotStoppedByTheTemporaryOfAKilledProcessWithTheSameId) {
  // In a container each start may get the same process id, and so meet what the start before left behind.
  std::string name;
  {
    const AtomicFile file(at("a"));
    ASSERT_EQ(names().size(), 1u);
    name = names()[0];
  }
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  if (digits < name.size()) {
    const unsigned long next = std::stoul(name.substr(digits));
    for (unsigned long i = 0; i < 5; ++i) put(name.substr(0, digits) + std::to_string(next + i), "left behind");
  }
  put(name, "left behind");
  write_file_atomic(at("a"), "content");
  EXPECT_EQ(read_file(at("a"), kNoLimit), "content");
}

// In a child, writes `content` to `path` where files may have at most `most` bytes, and checks the error's text.
int write_under_a_limit(const fs::path& path, std::string_view content, rlim_t most) {
  return wait_for(start_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{most, most};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    try {
      write_file_atomic(path, content);
    } catch (const Error& e) {
      const std::string text = e.what();
      if (e.code() != ErrorCode::io) return 2;
      if (text.find(path.string()) == std::string::npos) return 3;
      return text.find("File too large") == std::string::npos ? 4 : 0;
    }
    return 5;
  }));
}

TEST_F(AtomicFileTest, ThatCannotGrowIsAnErrorWithTheReasonAndLeavesNothing) {
  EXPECT_EQ(write_under_a_limit(at("new"), pattern(1 << 20), 100'000), 0);  // fails in write()
  EXPECT_EQ(write_under_a_limit(at("new"), pattern(60'000), 10'000), 0);  // fails in commit(), which empties the buffer
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(AtomicFileTest, ThatCannotGrowLeavesTheOldFile) {
  const fs::path path = put("a", "old");
  EXPECT_EQ(write_under_a_limit(path, pattern(1 << 20), 100'000), 0);
  EXPECT_EQ(read_file(path, kNoLimit), "old");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, DoesNotCommitAfterAFailedWrite) {
  const fs::path path = put("a", "old");
  const int code = wait_for(start_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    AtomicFile file(path);
    try {
      file.write(pattern(1 << 20));
      return 2;
    } catch (const Error&) {
    }
    try {
      file.commit();
      return 3;
    } catch (const Error&) {
    }
    return 0;
  }));
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_file(path, kNoLimit), "old");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, CommittedTwiceIsAnErrorThatHarmsNothing) {
  AtomicFile file(at("a"));
  file.write("content");
  file.commit();
  EXPECT_THAT(io_error([&] { file.commit(); }), HasSubstr(at("a").string()));
  EXPECT_EQ(read_file(at("a"), kNoLimit), "content");
  EXPECT_THAT(names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, InAMissingFolderIsAnErrorThatNamesThePath) {
  const fs::path path = at("none") / "a";
  EXPECT_THAT(io_error([&] { AtomicFile file(path); }),
              AllOf(HasSubstr(path.string()), HasSubstr("No such file or directory")));
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(AtomicFileTest, BelowARegularFileIsAnErrorThatNamesThePath) {
  const fs::path path = put("file", "old") / "a";
  EXPECT_THAT(io_error([&] { AtomicFile file(path); }), AllOf(HasSubstr(path.string()), HasSubstr("Not a directory")));
  EXPECT_EQ(read_file(at("file"), kNoLimit), "old");
}

TEST_F(AtomicFileTest, InThePlaceOfAFolderIsAnErrorAndLeavesTheFolder) {
  fs::create_directory(at("folder"));
  EXPECT_THAT(io_error([&] { write_file_atomic(at("folder"), "content"); }),
              AllOf(HasSubstr(at("folder").string()), HasSubstr("Is a directory")));
  EXPECT_TRUE(fs::is_directory(at("folder")));
  EXPECT_THAT(names(), ElementsAre("folder"));
}

TEST_F(FileTest, SyncDirectoryOfWhatIsNoFolderIsAnError) {
  sync_directory(at("").parent_path());
  EXPECT_THAT(io_error([&] { sync_directory(at("none")); }), HasSubstr(at("none").string()));
  const fs::path file = put("file", "");
  EXPECT_THAT(io_error([&] { sync_directory(file); }), HasSubstr("Not a directory"));
}

TEST_F(ReadFileTest, GivesEveryByteAlsoNuls) {
  const std::string content("a\0b\r\n\0\xff", 7);
  EXPECT_EQ(read_file(put("a", content), kNoLimit), content);
  const std::string large = pattern(3'000'000);
  EXPECT_TRUE(read_file(put("b", large), kNoLimit) == large);
}

TEST_F(ReadFileTest, GivesNothingForAnEmptyFile) { EXPECT_EQ(read_file(put("a", ""), 0), ""); }

TEST_F(ReadFileTest, TakesExactlyTheLimitAndRefusesOneByteMore) {
  const fs::path path = put("a", std::string(2048, 'x'));
  EXPECT_EQ(read_file(path, 2048).size(), 2048u);
  EXPECT_THAT(io_error([&] { read_file(path, 2047); }), HasSubstr(path.string()));
  EXPECT_THAT(io_error([&] { read_file(path, 1024); }),
              AllOf(HasSubstr("2.0 KiB"), HasSubstr("more than the 1.0 KiB allowed")));
}

TEST_F(ReadFileTest, RefusesAHugeFileWithoutReadingIt) {
  const fs::path path = put("a", "");
  fs::resize_file(path, std::uintmax_t{1} << 40);  // takes no room on the disk
  EXPECT_THAT(io_error([&] { read_file(path, 1 << 20); }), HasSubstr("1.0 TiB"));
}

TEST_F(ReadFileTest, FollowsALink) {
  fs::create_symlink(put("a", "content"), at("link"));
  EXPECT_EQ(read_file(at("link"), kNoLimit), "content");
}

TEST_F(ReadFileTest, OfWhatIsNoFileIsAnErrorThatNamesIt) {
  EXPECT_THAT(io_error([&] { read_file(at("none"), kNoLimit); }),
              AllOf(HasSubstr(at("none").string()), HasSubstr("No such file or directory")));
  fs::create_directory(at("folder"));
  EXPECT_THAT(io_error([&] { read_file(at("folder"), kNoLimit); }),
              AllOf(HasSubstr(at("folder").string()), HasSubstr("not a regular file")));
}

TEST_F(ReadFileTest, RefusesAFifoAndDoesNotWaitForItsWriter) {
  ASSERT_EQ(mkfifo(at("fifo").c_str(), 0600), 0);
  const int code = in_child_that_may_hang([&] {
    try {
      read_file(at("fifo"), kNoLimit);
    } catch (const Error& e) {
      return e.code() == ErrorCode::io ? 0 : 1;
    }
    return 2;
  });
  EXPECT_EQ(code, 0);
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST_F(MappedFileTest, ShowsEveryByte) {
  const std::string content = pattern(3 * 4096 + 17);
  const MappedFile file(put("a", content));
  EXPECT_TRUE(text_of(file) == content);
}

TEST_F(MappedFileTest, OfAnEmptyFileIsEmpty) {
  const MappedFile file(put("a", ""));
  EXPECT_TRUE(file.bytes().empty());
}

TEST_F(MappedFileTest, KeepsTheOldContentWhenTheFileIsReplaced) {
  const fs::path path = put("a", "old content");
  const MappedFile file(path);
  write_file_atomic(path, "new");
  EXPECT_EQ(text_of(file), "old content");
  EXPECT_EQ(text_of(MappedFile(path)), "new");
}

TEST_F(MappedFileTest, OfWhatIsNoFileIsAnErrorThatNamesIt) {
  EXPECT_THAT(io_error([&] { MappedFile file(at("none")); }),
              AllOf(HasSubstr(at("none").string()), HasSubstr("No such file or directory")));
  fs::create_directory(at("folder"));
  EXPECT_THAT(io_error([&] { MappedFile file(at("folder")); }), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace trivet
