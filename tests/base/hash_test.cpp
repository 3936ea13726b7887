#include "trivet/base/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/error.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kMillion = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

fs::path put(const TemporaryFolder& folder, std::string_view content) {
  const fs::path path = folder.path() / "file";
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

// FIPS 180-4, the example computations of NIST's Cryptographic Standards and Guidelines.
TEST(Sha256, GivesTheDigestsOfTheStandardsExamples) {
  EXPECT_EQ(sha256_hex("abc"), kAbc);
  EXPECT_EQ(sha256_hex(""), kEmpty);
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(
      sha256_hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
                 "mnopqrstnopqrstu"),
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')), kMillion);
}

TEST(Sha256, GivesTheSameDigestInAnyPieces) {
  for (const std::size_t piece : {1u, 3u, 63u, 64u, 65u, 999'999u}) {
    const std::string all(1'000'000, 'a');
    Sha256 hash;
    for (std::size_t i = 0; i < all.size(); i += piece) hash.update(std::string_view(all).substr(i, piece));
    EXPECT_EQ(hash.hex(), kMillion) << piece;
  }
  Sha256 mixed;
  mixed.update(std::string_view());
  mixed.update("a");
  mixed.update(std::as_bytes(std::span(std::string_view("bc"))));
  mixed.update(std::span<const std::byte>());
  EXPECT_EQ(mixed.hex(), kAbc);
}

TEST(Sha256, CountsNulBytes) {
  EXPECT_EQ(sha256_hex(std::string_view("\0", 1)), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

TEST(Sha256File, IsTheDigestOfTheContentAtEverySizeAroundItsBuffer) {
  const TemporaryFolder folder;
  constexpr std::size_t kBuffer = 1 << 18;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kBuffer - 1, kBuffer, kBuffer + 1, 3 * kBuffer + 7}) {
    std::string content(size, '\0');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>((i * 2654435761u) >> 13);
    EXPECT_EQ(sha256_file(put(folder, content)), sha256_hex(content)) << size;
  }
  EXPECT_EQ(sha256_file(put(folder, "")), kEmpty);
}

TEST(Sha256File, OfWhatCannotBeReadIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  for (const fs::path& path : {folder.path() / "none", folder.path()}) {
    try {
      sha256_file(path);
      ADD_FAILURE() << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::io);
      EXPECT_THAT(e.what(), HasSubstr(path.string()));
    }
  }
}

TEST(Sha256File, RefusesAFifoAndDoesNotWaitForItsWriter) {
  const TemporaryFolder folder;
  const fs::path fifo = folder.path() / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int code = wait_for(start_child([&] {
    alarm(20);  // ends a child that hangs
    try {
      sha256_file(fifo);
    } catch (const Error& e) {
      return e.code() == ErrorCode::io ? 0 : 1;
    }
    return 2;
  }));
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace trivet
