#include "trivet/formats/idx.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/formats/test_files.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::gzip;
using testing::idx;
using testing::TempDir;

std::vector<std::uint8_t> counting(std::size_t n) {
  std::vector<std::uint8_t> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  return values;
}

std::vector<std::uint8_t> elements_of(const IdxArray& array) {
  std::vector<std::uint8_t> values;
  array.bytes.for_each_piece([&](std::span<const std::byte> piece) {
    for (const std::byte b : piece) values.push_back(std::to_integer<std::uint8_t>(b));
  });
  return values;
}

TEST(IdxReader, ReadsPlainAndGzipWhateverTheName) {
  const TempDir dir;
  const auto values = counting(5 * 3 * 4);
  const std::string file = idx({5, 3, 4}, values);
  // The bytes that the format prescribes, written out.
  EXPECT_EQ(file.substr(0, 16), std::string("\0\0\x08\x03\0\0\0\x05\0\0\0\x03\0\0\0\x04", 16));
  for (const auto& path : {dir.write("plain.gz", file), dir.write("packed", gzip(file))}) {
    const IdxArray array = read_idx_images(path);
    EXPECT_EQ(array.shape, (Shape{5, 3, 4}));
    EXPECT_EQ(elements_of(array), values);
  }
}

TEST(IdxReader, ReadsImagesWithChannelsAndLabels) {
  const TempDir dir;
  const auto values = counting(2 * 3 * 4 * 3);
  const IdxArray images = read_idx_images(dir.write("i", idx({2, 3, 4, 3}, values)));
  EXPECT_EQ(images.shape, (Shape{2, 3, 4, 3}));
  EXPECT_EQ(elements_of(images), values);
  const auto classes = counting(300);
  const IdxArray labels = read_idx_labels(dir.write("l", idx({300}, classes)));
  EXPECT_EQ(labels.shape, (Shape{300}));
  EXPECT_EQ(elements_of(labels), classes);
}

TEST(IdxReader, ReadsDataLargerThanItsBuffersAndSeveralGzipMembers) {
  const TempDir dir;
  const auto values = counting(std::size_t{3} * 1024 * 1024 + 5);
  const std::string file = idx({1, 1, static_cast<std::int64_t>(values.size())}, values);
  const std::string members =
      gzip(file.substr(0, 10)) + gzip(file.substr(10, 2'000'000)) + gzip("") + gzip(file.substr(2'000'010));
  EXPECT_EQ(elements_of(read_idx_images(dir.write("plain", file))), values);
  EXPECT_EQ(elements_of(read_idx_images(dir.write("members", members))), values);
}

TEST(IdxReader, RefusesATruncatedFileNamingTheMissingBytes) {
  const TempDir dir;
  const std::string file = idx({10, 4, 4}, counting(160));
  expect_error(ErrorCode::data, {"plain", "truncated", "[10,4,4]", "176", "170"},
               [&] { read_idx_images(dir.write("plain", file.substr(0, 170))); });
  expect_error(ErrorCode::data, {"packed", "found 170 bytes after inflating", "expected 176", "6 are missing"},
               [&] { read_idx_images(dir.write("packed", gzip(file.substr(0, 170)))); });
}

TEST(IdxReader, RefusesEveryTruncationOfAGzipFile) {
  const TempDir dir;
  const std::string packed = gzip(idx({10, 4, 4}, counting(160)));
  for (std::size_t size = 0; size < packed.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(ErrorCode::data, {"packed"}, [&] { read_idx_images(dir.write("packed", packed.substr(0, size))); });
  }
}

TEST(IdxReader, RefusesEveryTruncationOfAPlainFile) {
  const TempDir dir;
  const std::string file = idx({2, 2, 3}, counting(12));
  for (std::size_t size = 0; size < file.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(ErrorCode::data, {"plain"}, [&] { read_idx_images(dir.write("plain", file.substr(0, size))); });
  }
}

TEST(IdxReader, RefusesAnEmptyFileAndAHeaderCutShort) {
  const TempDir dir;
  expect_error(ErrorCode::data, {"empty"}, [&] { read_idx_images(dir.write("a", "")); });
  expect_error(ErrorCode::data, {"empty"}, [&] { read_idx_images(dir.write("a", gzip(""))); });
  expect_error(ErrorCode::data, {"ends at byte 9", "16 bytes"}, [&] {
    read_idx_images(dir.write("a", idx({2, 2, 3}, {}).substr(0, 9)));
  });
}

TEST(IdxReader, RefusesTrailingBytes) {
  const TempDir dir;
  const std::string file = idx({2, 2, 3}, counting(12));
  expect_error(ErrorCode::data, {"at byte 28", "more data"}, [&] { read_idx_images(dir.write("a", file + "x")); });
  expect_error(ErrorCode::data, {"at byte 28 after inflating", "more data"},
               [&] { read_idx_images(dir.write("a", gzip(file + "x"))); });
  expect_error(ErrorCode::data, {"3 bytes follow its end"},
               [&] { read_idx_images(dir.write("a", gzip(file) + "xyz")); });
  expect_error(ErrorCode::data, {"gzip data is unusable"},
               [&] { read_idx_images(dir.write("a", gzip(file) + "\x1f and more")); });
}

TEST(IdxReader, NeverReturnsOtherDataFromADamagedGzipFile) {
  const TempDir dir;
  const auto values = counting(160);
  const std::string packed = gzip(idx({10, 4, 4}, values));
  int refused = 0;
  for (std::size_t i = 0; i < packed.size(); ++i) {
    std::string damaged = packed;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    try {
      // A bit without meaning, such as the file's time, leaves the data as they were.
      EXPECT_EQ(elements_of(read_idx_images(dir.write("a", damaged))), values) << "byte " << i;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::data) << e.what();
      ++refused;
    }
  }
  EXPECT_GE(refused, static_cast<int>(packed.size()) - 10);
}

TEST(IdxReader, ReportsAWrongChecksum) {
  const TempDir dir;
  std::string packed = gzip(idx({10, 4, 4}, counting(160)));
  packed[packed.size() - 8] = static_cast<char>(packed[packed.size() - 8] ^ 1);
  expect_error(ErrorCode::data, {"gzip data is unusable at byte", "incorrect data check", "hint"},
               [&] { read_idx_images(dir.write("a", packed)); });
}

TEST(IdxReader, RefusesAnotherMagicNumberOrType) {
  const TempDir dir;
  expect_error(ErrorCode::data, {"not an IDX file", "0x89504e47", "0x00000803"},
               [&] { read_idx_images(dir.write("a", "\x89PNG and so on")); });
  std::string floats = idx({2, 2, 3}, counting(12));
  floats[2] = 0x0D;
  expect_error(ErrorCode::data, {"byte 2", "0x0d (32-bit float)", "0x08 (unsigned byte)"},
               [&] { read_idx_images(dir.write("a", floats)); });
  expect_error(ErrorCode::data, {"0x00000802", "rank 2"}, [&] {
    read_idx_images(dir.write("a", idx({2, 6}, counting(12))));
  });
}

TEST(IdxReader, SaysWhenImagesAndLabelsAreSwapped) {
  const TempDir dir;
  const auto images = dir.write("i", idx({2, 2, 3}, counting(12)));
  const auto labels = dir.write("l", idx({2}, counting(2)));
  expect_error(ErrorCode::data, {"0x00000801", "swapped"}, [&] { read_idx_images(labels); });
  expect_error(ErrorCode::data, {"0x00000803", "swapped"}, [&] { read_idx_labels(images); });
}

TEST(IdxReader, RefusesADimensionOfZeroAndAProductThatOverflows) {
  const TempDir dir;
  expect_error(ErrorCode::data, {"at byte 8", "dimension 1 is 0"}, [&] {
    read_idx_images(dir.write("a", idx({5, 0, 3}, {})));
  });
  const std::int64_t big = UINT32_MAX;
  expect_error(ErrorCode::data, {"overflow"}, [&] { read_idx_images(dir.write("a", idx({big, big, big, big}, {}))); });
  // Below 2^64 but beyond any file.
  expect_error(ErrorCode::data, {"overflow"}, [&] { read_idx_images(dir.write("a", idx({big, big, 1}, {}))); });
}

TEST(IdxReader, ReservesNothingForAHeaderThatTheFileCannotHold) {
  const TempDir dir;
  const std::string header = idx({1'000'000, 1'000, 1'000}, {});
  expect_error(ErrorCode::data, {"truncated", "[1000000,1000,1000]"}, [&] { read_idx_images(dir.write("a", header)); });
  expect_error(ErrorCode::data, {"truncated", "compressed"}, [&] { read_idx_images(dir.write("a", gzip(header))); });
}

TEST(IdxReader, StopsInflatingWhereTheHeaderSaysTheDataEnd) {
  const TempDir dir;
  // 256 MiB of zeros behind a header of 12 bytes: only the byte after them is ever asked for.
  std::string bomb = idx({2, 2, 3}, counting(12));
  bomb.resize(std::size_t{256} << 20, '\0');
  const std::string packed = gzip(bomb);
  bomb = {};
  expect_error(ErrorCode::data, {"at byte 28 after inflating", "more data"},
               [&] { read_idx_images(dir.write("a", packed)); });
}

TEST(IdxReader, LeavesPlainFilesWhereTheyAreAndInflatesOthers) {
  const TempDir dir;
  const std::string file = idx({5, 3, 4}, counting(60));
  EXPECT_TRUE(read_idx_images(dir.write("plain", file)).bytes.in_file());
  EXPECT_FALSE(read_idx_images(dir.write("packed", gzip(file))).bytes.in_file());
}

TEST(IdxReader, ReadsMoreThanTheMemoryOfTheMachine) {
  const TempDir dir;
  const auto memory = std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const std::int64_t side = 1 << 15;
  const std::int64_t count = memory / (side * side) + 2;
  const auto path = dir.write("sparse", idx({count, side, side}, {}));
  if (truncate(path.c_str(), 16 + count * side * side) != 0) GTEST_SKIP() << "no sparse files of this size here";
  const IdxArray array = read_idx_images(path);
  EXPECT_EQ(array.shape, (Shape{count, side, side}));
  EXPECT_EQ(array.bytes.size(), static_cast<std::size_t>(count * side * side));
  EXPECT_EQ(array.bytes.resident_bytes(), 0U);
  std::vector<std::byte> scratch;
  EXPECT_EQ(array.bytes.read(array.bytes.size() - 1, 1, scratch)[0], std::byte{0});
}

TEST(IdxReader, RefusesWhatIsNotAReadableFile) {
  const TempDir dir;
  expect_error(ErrorCode::io, {"absent", "No such file"}, [&] { read_idx_images(dir / "absent"); });
  expect_error(ErrorCode::io, {"directory"}, [&] { read_idx_images(dir.path()); });
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  expect_error(ErrorCode::io, {"pipe", "regular file"}, [&] { read_idx_images(dir / "pipe"); });
}

TEST(IdxReader, RefusesAFileWithoutReadPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read anything";
  const TempDir dir;
  const auto locked = dir.write("locked", "x");
  std::filesystem::permissions(locked, std::filesystem::perms::none);
  expect_error(ErrorCode::io, {"locked", "Permission denied"}, [&] { read_idx_images(locked); });
}

TEST(IdxHeader, RefusesADimensionThatDoesNotFit) {
  expect_error(ErrorCode::data, {"2^32"}, [] { idx_header({std::int64_t{1} << 32}); });
}

}  // namespace
}  // namespace trivet
