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

TEST(Npy, RefusesOtherDtypes) {
  expect_error(ErrorCode::internal, {"f64"}, [] { npy_header({DType::f64, {1}}); });
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

TEST(Npy, RefusesHeadersItDoesNotKnow) {
  const TempDir dir;
  const auto read = [&](const std::string& dict) {
    std::string file("\x93NUMPY\x01\x00", 8);
    file += static_cast<char>(dict.size());
    file += '\0';
    return read_npy(dir.write("a", file + dict + "12345678"));
  };
  EXPECT_EQ(read("{'shape':(2,),'fortran_order': False,'descr': '<f4'}").type, (TensorType{DType::f32, {2}}));
  expect_error(ErrorCode::data, {"descr"}, [&] { read("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }"); });
  expect_error(ErrorCode::data, {"C order"}, [&] { read("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }"); });
  expect_error(ErrorCode::data, {"no shape"}, [&] { read("{'descr': '<f4', 'fortran_order': False}"); });
  expect_error(ErrorCode::data, {"unusable"},
               [&] { read("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}"); });
  expect_error(ErrorCode::data, {"expected f32[3]"},
               [&] { read("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"); });
  expect_error(ErrorCode::data, {"unusable"},
               [&] { read("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"); });
  expect_error(ErrorCode::data, {"8 bytes"}, [&] {
    read("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }");
  });
}

}  // namespace
}  // namespace trivet
