#include "trivet/formats/npz.h"

#include "tests/formats/test_files.h"
#include "tests/formats/zip_files.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::npy_file;
using testing::slurp;
using testing::TempDir;
using testing::zip;

const std::vector<float> kX{1, 2, 3, 4, 5, 6};
const std::vector<std::int64_t> kY{7, -8};

std::string x_file() { return npy_file(DType::f32, {2, 3}, kX); }
std::string y_file() { return npy_file(DType::i64, {2}, kY); }

std::vector<double> values_of(const NpyArray& array) {
  std::vector<double> values(static_cast<std::size_t>(array.elements()));
  read_npy_elements(array, 0, std::span(values));
  return values;
}

void expect_both(const NpzFile& file) {
  EXPECT_EQ(file.names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(file.array("x").shape, (Shape{2, 3}));
  EXPECT_EQ(values_of(file.array("x")), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values_of(file.array("y")), (std::vector<double>{7, -8}));
}

TEST(Npz, ReadsStoredAndDeflatedArraysWithAndWithoutZip64) {
  const TempDir dir;
  for (const bool deflated : {false, true}) {
    for (const bool zip64 : {false, true}) {
      const std::string file = zip({{"x.npy", x_file(), deflated, zip64}, {"y.npy", y_file(), false, zip64}}, zip64);
      expect_both(NpzFile(dir.write("a.npz", file)));
    }
  }
}

TEST(Npz, SkipsACommentAndMembersThatAreNoArrays) {
  const TempDir dir;
  const std::string file =
      zip({{"readme.txt", "hello"}, {"x.npy", x_file()}, {"y.npy", y_file(), true}}, false, "PK\x05\x06 no directory");
  expect_both(NpzFile(dir.write("a.npz", file)));
}

TEST(Npz, LeavesStoredArraysWhereTheyAreAndInflatesTheOthers) {
  const TempDir dir;
  const NpzFile file(dir.write("a.npz", zip({{"x.npy", x_file()}, {"y.npy", y_file(), true}})));
  EXPECT_TRUE(file.array("x").data.in_file());
  EXPECT_FALSE(file.array("y").data.in_file());
  EXPECT_EQ(file.array("y").data.resident_bytes(), kY.size() * sizeof(std::int64_t));
}

TEST(Npz, KeepsAnArrayWhenTheFileObjectIsGone) {
  const TempDir dir;
  const NpyArray x = NpzFile(dir.write("a.npz", zip({{"x.npy", x_file()}}))).array("x");
  EXPECT_EQ(values_of(x), (std::vector<double>{1, 2, 3, 4, 5, 6}));
}

TEST(Npz, NamesTheArraysIfOneIsMissing) {
  const TempDir dir;
  const NpzFile file(dir.write("a.npz", zip({{"arr_0.npy", x_file()}, {"arr_1.npy", y_file()}})));
  EXPECT_FALSE(file.has("x"));
  expect_error(ErrorCode::data, {"no array \"x\"", "arr_0, arr_1", "savez"}, [&] { file.array("x"); });
}

TEST(Npz, RefusesAWrongChecksumAndWrongSizes) {
  const TempDir dir;
  std::string good = zip({{"x.npy", x_file()}});
  std::string file = good;
  file[good.find("NUMPY") + 140] = '!';
  expect_error(ErrorCode::data, {"checksum of \"x\""}, [&] { NpzFile(dir.write("a", file)).array("x"); });
  const std::size_t entry = good.find("PK\x01\x02");
  const auto with = [&](std::size_t at, std::uint64_t value, int bytes) {
    file = good;
    file.replace(entry + at, static_cast<std::size_t>(bytes), testing::little(value, bytes));
    return dir.write("a", file);
  };
  expect_error(ErrorCode::data, {"contradict"}, [&] { NpzFile(with(24, 5, 4)).array("x"); });
  expect_error(ErrorCode::data, {"does not fit the file"}, [&] { NpzFile(with(20, 4000000000, 4)).array("x"); });
  expect_error(ErrorCode::data, {"not where the directory says"}, [&] { NpzFile(with(42, 4000000000, 4)).array("x"); });
  expect_error(ErrorCode::data, {"encrypted"}, [&] { NpzFile(with(8, 1, 2)).array("x"); });
  expect_error(ErrorCode::data, {"method 12"}, [&] { NpzFile(with(10, 12, 2)).array("x"); });
}

TEST(Npz, RefusesDeflatedDataOfAnotherSize) {
  const TempDir dir;
  const std::string good = zip({{"x.npy", x_file(), true}});
  const std::size_t entry = good.find("PK\x01\x02");
  for (const std::uint64_t size : {std::uint64_t{10}, x_file().size() + 1, std::uint64_t{4000000000}}) {
    std::string file = good;
    file.replace(entry + 24, 4, testing::little(size, 4));
    expect_error(ErrorCode::data, {"\"x\""}, [&] { NpzFile(dir.write("a", file)).array("x"); });
  }
}

TEST(Npz, RefusesTwoArraysOfOneName) {
  const TempDir dir;
  expect_error(ErrorCode::data, {"\"x\" occurs twice"}, [&] {
    NpzFile(dir.write("a", zip({{"x.npy", x_file()}, {"x.npy", y_file()}})));
  });
}

TEST(Npz, RefusesEveryTruncationAndSurvivesEveryChangedByte) {
  const TempDir dir;
  const auto read = [&](const std::string& text) {
    const NpzFile file(dir.write("a", text));
    for (const std::string& name : file.names()) file.array(name);
  };
  for (const bool zip64 : {false, true}) {
    const std::string good = zip({{"x.npy", x_file(), true, zip64}, {"y.npy", y_file(), false, zip64}}, zip64);
    for (std::size_t size = 0; size < good.size(); size += size % 5 + 1) {
      SCOPED_TRACE(size);
      expect_error(ErrorCode::data, {}, [&] { read(good.substr(0, size)); });
    }
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string changed = good;
      changed[i] = static_cast<char>(~changed[i]);
      try {
        read(changed);
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::data) << e.what();
      }
    }
  }
}

}  // namespace
}  // namespace trivet
