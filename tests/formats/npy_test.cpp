#include "trivet/formats/npy.h"

#include "tests/formats/test_files.h"

namespace trivet {
namespace {

using testing::expect_error;
using testing::slurp;
using testing::TempDir;

TEST(Npy, WritesTheBytesThatNumPyWrites) {
  const TempDir dir;
  const std::vector<float> values{1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
  write_npy(dir / "a", {DType::f32, {2, 3}}, values.data());
  const std::string file = slurp(dir / "a");
  // numpy.save of the same array: 128 bytes of header, whose text is padded to end with a newline at 128.
  std::string header("\x93NUMPY\x01\x00\x76\x00", 10);
  header += "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  header.append(127 - header.size(), ' ');
  header += '\n';
  EXPECT_EQ(file.substr(0, 128), header);
  EXPECT_EQ(file.size(), 128u + 24u);
  EXPECT_EQ(file.substr(128, 8), std::string("\0\0\x80\x3f\0\0\0\x40", 8));
}

TEST(Npy, GivesBackEveryShape) {
  const TempDir dir;
  const std::vector<std::int64_t> values{1, -2, INT64_MAX, 4, 5, 6};
  for (const Shape& shape : {Shape{6}, Shape{2, 3}, Shape{1, 6, 1}, Shape{0, 6}, Shape{}}) {
    const TensorType type{DType::i64, shape};
    write_npy(dir / "a", type, values.data());
    const Tensor tensor = read_npy(dir / "a");
    EXPECT_EQ(tensor.type, type);
    const auto expected = std::span(values).first(static_cast<std::size_t>(type.elements()));
    EXPECT_TRUE(std::ranges::equal(tensor.as<std::int64_t>(), expected)) << to_string(type);
    EXPECT_EQ(npy_header(type).size() % 64, 0u);
  }
}

TEST(Npy, RefusesToWriteATypeThatNumPyDoesNotHave) {
  expect_error(ErrorCode::internal, {"bf16"}, [] { npy_header({DType::bf16, {1}}); });
}

TEST(Npy, WritesEveryOtherTypeAndReadsItBack) {
  const TempDir dir;
  const std::vector<std::uint8_t> bytes{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  for (const DType dtype : {DType::f16, DType::f32, DType::f64, DType::i8, DType::i32, DType::i64, DType::u8}) {
    const TensorType type{dtype, {static_cast<std::int64_t>(16 / dtype_size(dtype))}};
    write_npy(dir / "a", type, bytes.data());
    const Tensor tensor = read_npy(dir / "a");
    EXPECT_EQ(tensor.type, type);
    EXPECT_TRUE(std::ranges::equal(tensor.as<std::uint8_t>(), bytes)) << to_string(type);
  }
}

// A file of NumPy's with this text in its header.
std::string npy(const std::string& dict, const std::string& data, int version = 1) {
  std::string file("\x93NUMPY", 6);
  file += static_cast<char>(version);
  file += '\0';
  file += static_cast<char>(dict.size() & 0xff);
  file += static_cast<char>(dict.size() >> 8);
  if (version > 1) file += std::string(2, '\0');
  return file + dict + data;
}

std::string npy_of(const std::string& descr, const std::string& data) {
  return npy("{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2,), }", data);
}

TEST(Npy, ReadsElementsOfEveryTypeAndByteOrder) {
  const TempDir dir;
  struct Case {
    const char* descr;
    std::string data;
    double first, second;
  };
  const std::vector<Case> cases{
      {"<f2", std::string("\x00\x3e\x01\x80", 4), 1.5, -0x1p-24},
      {">f2", std::string("\x3e\x00\x80\x01", 4), 1.5, -0x1p-24},
      {"<f4", std::string("\0\0\xc0\x3f\0\0\0\xc0", 8), 1.5, -2},
      {">f4", std::string("\x3f\xc0\0\0\xc0\0\0\0", 8), 1.5, -2},
      {"<f8", std::string("\0\0\0\0\0\0\xf8\x3f\0\0\0\0\0\0\0\xc0", 16), 1.5, -2},
      {">f8", std::string("\x3f\xf8\0\0\0\0\0\0\xc0\0\0\0\0\0\0\0", 16), 1.5, -2},
      {"|i1", std::string("\x05\xfe", 2), 5, -2},
      {"i1", std::string("\x05\xfe", 2), 5, -2},
      {"<i2", std::string("\x05\x01\xfe\xff", 4), 261, -2},
      {">i2", std::string("\x01\x05\xff\xfe", 4), 261, -2},
      {"<i4", std::string("\x05\x01\0\0\xfe\xff\xff\xff", 8), 261, -2},
      {">i8", std::string("\0\0\0\0\0\0\x01\x05\xff\xff\xff\xff\xff\xff\xff\xfe", 16), 261, -2},
      {"|u1", std::string("\x05\xfe", 2), 5, 254},
      {"<u2", std::string("\x05\x01\xfe\xff", 4), 261, 65534},
      {">u4", std::string("\0\0\x01\x05\xff\xff\xff\xfe", 8), 261, 4294967294.0},
      {"|b1", std::string("\0\x01", 2), 0, 1},
  };
  for (const Case& c : cases) {
    const NpyArray array = map_npy(dir.write("a", npy_of(c.descr, c.data)));
    std::vector<double> values(2);
    read_npy_elements(array, 0, std::span(values));
    EXPECT_EQ(values, (std::vector<double>{c.first, c.second})) << c.descr;
    float second = 0;
    read_npy_elements(array, 1, std::span(&second, 1));
    EXPECT_EQ(second, static_cast<float>(c.second)) << c.descr;
    if (!array.is_integer()) continue;
    std::vector<std::int64_t> integers(2);
    read_npy_elements(array, 0, std::span(integers));
    EXPECT_EQ(static_cast<double>(integers[1]), c.second) << c.descr;
  }
  const Tensor swapped = read_npy(dir.write("a", npy_of(">f4", cases[3].data)));
  EXPECT_TRUE(std::ranges::equal(swapped.as<float>(), std::vector<float>{1.5f, -2.0f}));
  expect_error(ErrorCode::data, {"uint16", "astype"}, [&] { read_npy(dir.write("a", npy_of("<u2", "abcd"))); });
}

TEST(Npy, ReadsAllVersionsOfTheHeader) {
  const TempDir dir;
  const std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
  for (const int version : {1, 2, 3}) {
    EXPECT_EQ(read_npy(dir.write("a", npy(dict, "12345678", version))).type, (TensorType{DType::f32, {1, 2}}));
  }
  expect_error(ErrorCode::data, {"version is 4"}, [&] { read_npy(dir.write("a", npy(dict, "12345678", 4))); });
}

TEST(Npy, SaysHowToMendWhatItCannotRead) {
  const TempDir dir;
  const auto fails = [&](const std::string& dict, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { read_npy(dir.write("a", npy(dict, "12345678"))); });
  };
  fails("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}", {"Fortran order", "numpy.ascontiguousarray"});
  fails("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", {"Python objects"});
  fails("{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}", {"\"<U2\"", "astype"});
  fails("{'descr': '<u8', 'fortran_order': False, 'shape': (1,)}", {"\"<u8\"", "astype"});
  fails("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", {"\"<c8\""});
  fails("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", {"structures"});
  // One dimension has one order.
  EXPECT_EQ(read_npy(dir.write("a", npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}", "12345678"))).type,
            (TensorType{DType::f32, {2}}));
}

TEST(Npy, RefusesEveryTruncation) {
  const TempDir dir;
  const std::vector<float> values{1.0f, 2.0f};
  write_npy(dir / "a", {DType::f32, {2}}, values.data());
  const std::string file = slurp(dir / "a");
  for (std::size_t size = 0; size < file.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(ErrorCode::data, {}, [&] { read_npy(dir.write("b", file.substr(0, size))); });
  }
}

TEST(Npy, RefusesDamagedHeaders) {
  const TempDir dir;
  const auto fails = [&](const std::string& dict, std::initializer_list<std::string_view> parts) {
    expect_error(ErrorCode::data, parts, [&] { read_npy(dir.write("a", npy(dict, "12345678"))); });
  };
  EXPECT_EQ(read_npy(dir.write("a", npy("{\"shape\":(2,),'fortran_order':False,'descr':'<f4'}", "12345678"))).type,
            (TensorType{DType::f32, {2}}));
  fails("{'descr': '<f4', 'fortran_order': False}", {"lacks descr, fortran_order or shape"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", {"unusable"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}", {"unusable"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}", {"unusable"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", {"found 8 bytes", "expected 12", "float32[3]"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", {"unusable"});
  fails("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904)}", {"too many"});
  fails("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", {"neither True nor False"});
  fails("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", {"lacks"});
  fails("{'descr': '<f4', 'why': 1}", {"unknown key \"why\""});
  fails("{'descr': '<f4", {"damaged"});
  fails("", {"damaged"});
  expect_error(ErrorCode::data, {"magic"}, [&] { read_npy(dir.write("a", "PK\x03\x04 and so on")); });
}

}  // namespace
}  // namespace trivet
