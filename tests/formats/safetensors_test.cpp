#include "trivet/formats/safetensors.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/formats/test_files.h"
#include "trivet/base/hash.h"

namespace trivet {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::slurp;
using testing::TempDir;

std::string with_header(const std::string& header, const std::string& data = {}) {
  std::string file;
  for (int shift = 0; shift < 64; shift += 8) file += static_cast<char>(header.size() >> shift & 0xff);
  return file + header + data;
}

SafetensorsContent parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "test.safetensors");
}

void expect_refused(std::string_view header, std::string_view data, std::string_view part) {
  SCOPED_TRACE(header);
  expect_error(ErrorCode::checkpoint, {part}, [&] { parse(with_header(std::string(header), std::string(data))); });
}

template <class T>
std::vector<T> values_of(const TensorBytes& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

struct Samples {
  std::vector<float> weights{1.5f, -2.0f, 3.25f, 0.0f, 1e-30f, -0.0f};
  std::vector<std::int64_t> steps{INT64_MIN, 7};
  std::vector<std::uint8_t> bytes{1, 2, 3};
  std::vector<std::uint8_t> flags{1, 0, 1};
  std::vector<double> wide{3.5};
  std::vector<std::int32_t> narrow{-1, 2};

  std::vector<TensorRef> refs() const {
    return {{"z.weights", {DType::f32, {2, 3}}, weights.data()},
            {"a.bytes", {DType::u8, {3}}, bytes.data()},
            {"b.flags", {DType::boolean, {3, 1}}, flags.data()},
            {"steps", {DType::i64, {2}}, steps.data()},
            {"scalar", {DType::f64, {}}, wide.data()},
            {"narrow", {DType::i32, {2}}, narrow.data()},
            {"empty", {DType::f32, {0, 4}}, nullptr}};
  }
};

TEST(Safetensors, GivesBackEveryDtypeShapeAndMetadata) {
  const TempDir dir;
  const Samples samples;
  const TensorMetadata metadata{{"epoch", "3"}, {"note", "\"quoted\"\n\u00e9"}};
  write_safetensors(dir / "a", samples.refs(), metadata);
  const SafetensorsFile file(dir / "a");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.tensors().size(), 7u);
  for (const TensorRef& t : samples.refs()) EXPECT_EQ(file.tensor(t.name).type, t.type) << t.name;
  EXPECT_EQ(values_of<std::int64_t>(file.tensor("steps")), samples.steps);
  EXPECT_EQ(values_of<std::uint8_t>(file.tensor("a.bytes")), samples.bytes);
  EXPECT_EQ(values_of<std::uint8_t>(file.tensor("b.flags")), samples.flags);
  EXPECT_EQ(values_of<double>(file.tensor("scalar")), samples.wide);
  EXPECT_EQ(values_of<std::int32_t>(file.tensor("narrow")), samples.narrow);
  EXPECT_TRUE(file.tensor("empty").bytes.empty());
  const TensorBytes& weights = file.tensor("z.weights");
  ASSERT_EQ(weights.bytes.size(), 24u);
  EXPECT_EQ(std::memcmp(weights.bytes.data(), samples.weights.data(), 24), 0);
}

TEST(Safetensors, WritesTheLayoutOfTheFormat) {
  const TempDir dir;
  const std::vector<float> a{1.0f};
  const std::vector<float> b{2.0f, 3.0f};
  const std::vector<TensorRef> tensors{{"b", {DType::f32, {2}}, b.data()}, {"a", {DType::f32, {1}}, a.data()}};
  write_safetensors(dir / "f", tensors, {{"k", "v"}});
  const std::string file = slurp(dir / "f");
  std::string header = R"({"__metadata__":{"k":"v"},"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},)"
                       R"("b":{"data_offsets":[4,12],"dtype":"F32","shape":[2]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40", 12);
  EXPECT_EQ(file, with_header(header, data));
}

TEST(Safetensors, AlignsEachTensorToItsElements) {
  const TempDir dir;
  write_safetensors(dir / "f", Samples().refs());
  const std::string file = slurp(dir / "f");
  const std::uint64_t length = static_cast<unsigned char>(file[0]) + 256u * static_cast<unsigned char>(file[1]);
  EXPECT_EQ(length % 8, 0u);
  const json header = json::parse(file.substr(8, length));
  EXPECT_EQ(header.size(), 7u);
  for (const auto& [name, tensor] : header.items()) {
    const std::uint64_t begin = tensor["data_offsets"][0];
    const std::string dtype = tensor["dtype"];
    const std::uint64_t width = dtype.ends_with("64") ? 8 : dtype.ends_with("32") ? 4 : 1;
    EXPECT_EQ(begin % width, 0u) << name;
  }
}

TEST(Safetensors, ReturnsTheDigestOfTheFileAndIgnoresTheOrderOfTensors) {
  const TempDir dir;
  const Samples samples;
  std::vector<TensorRef> refs = samples.refs();
  const std::string digest = write_safetensors(dir / "a", refs);
  EXPECT_EQ(digest, sha256_file(dir / "a"));
  std::reverse(refs.begin(), refs.end());
  EXPECT_EQ(write_safetensors(dir / "b", refs), digest);
}

TEST(Safetensors, WritesTensorsLargerThanItsBuffers) {
  const TempDir dir;
  std::vector<float> big(1'000'003);
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<float>(i);
  const std::vector<TensorRef> refs{{"big", {DType::f32, {1'000'003}}, big.data()}};
  const std::string digest = write_safetensors(dir / "a", refs);
  EXPECT_EQ(digest, sha256_file(dir / "a"));
  EXPECT_EQ(values_of<float>(SafetensorsFile(dir / "a").tensor("big")), big);
}

TEST(Safetensors, WritesAndReadsAFileWithoutTensors) {
  const TempDir dir;
  write_safetensors(dir / "a", {}, {{"only", "metadata"}});
  EXPECT_EQ(SafetensorsFile(dir / "a").metadata().at("only"), "metadata");
  write_safetensors(dir / "b", {});
  EXPECT_TRUE(SafetensorsFile(dir / "b").tensors().empty());
}

TEST(Safetensors, RefusesToWriteWhatCouldNotBeReadBack) {
  const TempDir dir;
  const float v = 1.0f;
  const TensorType type{DType::f32, {1}};
  const auto write = [&](std::vector<TensorRef> refs, const TensorMetadata& metadata = {}) {
    write_safetensors(dir / "a", refs, metadata);
  };
  expect_error(ErrorCode::internal, {"twice"}, [&] { write({{"a", type, &v}, {"a", type, &v}}); });
  expect_error(ErrorCode::internal, {"reserved"}, [&] { write({{"__metadata__", type, &v}}); });
  expect_error(ErrorCode::internal, {"no data"}, [&] { write({{"a", type, nullptr}}); });
  expect_error(ErrorCode::internal, {"UTF-8"}, [&] { write({{"\xff", type, &v}}); });
  expect_error(ErrorCode::internal, {"UTF-8"}, [&] { write({{"a", type, &v}}, {{"k", "\xff"}}); });
  EXPECT_TRUE(dir.empty());
}

TEST(Safetensors, NamesTheFileThatCannotBeWritten) {
  const TempDir dir;
  expect_error(ErrorCode::io, {"absent"}, [&] { write_safetensors(dir / "absent/a", {}); });
}

TEST(Safetensors, NamesTheNearestTensor) {
  const TempDir dir;
  write_safetensors(dir / "a", Samples().refs());
  const SafetensorsFile file(dir / "a");
  expect_error(ErrorCode::checkpoint, {"no tensor \"z.weight\"", "did you mean \"z.weights\""},
               [&] { file.tensor("z.weight"); });
}

TEST(Safetensors, RefusesEveryTruncationAndTrailingBytes) {
  const TempDir dir;
  write_safetensors(dir / "a", Samples().refs());
  const std::string file = slurp(dir / "a");
  for (std::size_t size = 0; size < file.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(ErrorCode::checkpoint, {"test.safetensors"}, [&] { parse(file.substr(0, size)); });
  }
  expect_error(ErrorCode::checkpoint, {"the tensors end at byte"}, [&] { parse(file + "x"); });
  parse(file);
}

TEST(Safetensors, NeverCrashesOnADamagedHeader) {
  const TempDir dir;
  write_safetensors(dir / "a", Samples().refs(), {{"k", "v"}});
  const std::string file = slurp(dir / "a");
  int refused = 0;
  for (std::size_t i = 0; i < 600 && i < file.size(); ++i) {
    for (const char byte : {'\0', '"', '{', '[', '9', '-', '\xff'}) {
      std::string damaged = file;
      damaged[i] = byte;
      try {
        parse(damaged);
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::checkpoint) << e.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Safetensors, RefusesAHeaderLengthBeyondLimitAndFile) {
  expect_error(ErrorCode::checkpoint, {"100000001", "at most 100000000"},
               [] { parse(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)); });
  expect_error(ErrorCode::checkpoint, {"at most"}, [] { parse(std::string(8, '\xff') + "{}"); });
  expect_error(ErrorCode::checkpoint, {"has 2 after the length"},
               [] { parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)); });
  expect_error(ErrorCode::checkpoint, {"found 0 bytes"}, [] { parse(""); });
}

TEST(Safetensors, RefusesWhatIsNotTheHeadersJson) {
  expect_refused("", "", "does not begin with '{'");
  expect_refused(" {}", "", "does not begin with '{'");
  expect_refused("[]", "", "does not begin with '{'");
  expect_refused("{}{", "", "not JSON");
  expect_refused("{\"a\xff\":1}", "", "not JSON");
  expect_refused(R"({"a":1})", "", "\"a\" has a number");
  expect_refused(R"({"a":null})", "", "null");
  expect_refused(R"({"a":[]})", "", "a list");
  expect_refused(R"({"a":{"dtype":"U8","shape":[1]}})", "x", "lacks");
  expect_refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":0}})", "x", "unknown key \"more\"");
  expect_refused(R"({"a":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}})", "x", "a list");
  expect_refused(R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", "x", "a list");
  expect_refused(R"({"a":{"dtype":"U8","shape":{"b":1},"data_offsets":[0,1]}})", "x", "an object");
  expect_refused(R"({"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}})", "x", "a string");
  expect_refused(R"({"__metadata__":{"a":1}})", "", "a number");
  expect_refused(R"({"__metadata__":{"a":{}}})", "", "an object");
}

TEST(Safetensors, RefusesKeysGivenTwice) {
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  expect_refused("{" + a + "," + a + "}", "x", "\"a\" twice");
  expect_refused(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x", "\"dtype\" twice");
  expect_refused(R"({"__metadata__":{"k":"1","k":"2"}})", "", "\"k\" twice");
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", "", "\"__metadata__\" twice");
}

TEST(Safetensors, RefusesSizesThatDoNotAgree) {
  const auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  parse(with_header(tensor("F32", "[2]", "[0,8]"), "12345678"));
  struct Case {
    const char* dtype;
    const char* shape;
    const char* offsets;
    const char* part;
  };
  constexpr Case kCases[] = {
      {"F32", "[3]", "[0,8]", "does not take the 8 bytes"},
      {"F32", "[2]", "[0,9]", "do not lie within the 8 bytes"},
      {"F32", "[2]", "[8,0]", "do not lie within"},
      {"F32", "[2]", "[0]", "do not lie within"},
      {"F32", "[2]", "[0,8,8]", "more than 2 numbers"},
      {"F32", "[-2]", "[0,8]", "a negative number"},
      {"F32", "[2.0]", "[0,8]", "a fraction"},
      {"F32", "[4294967296,4294967296,2]", "[0,0]", "does not take"},
      {"F32", "[18446744073709551615]", "[0,8]", "does not take"},
      {"F32", "[99999999999999999999]", "[0,8]", "past 2^64"},
      {"F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]", "more than 8 numbers"},
      {"F8_E4M3", "[4]", "[0,4]", "has dtype \"F8_E4M3\", expected F32"},
      {"BOOL", "[8]", "[0,8]", "element 0 is 49"},
  };
  for (const Case& c : kCases) expect_refused(tensor(c.dtype, c.shape, c.offsets), "12345678", c.part);
}

TEST(Safetensors, RefusesHolesAndOverlaps) {
  const auto two = [](int a0, int a1, int b0, int b1) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                       R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                       a1 - a0, a0, a1, b1 - b0, b0, b1);
  };
  parse(with_header(two(2, 4, 0, 2), "1234"));
  parse(with_header(two(0, 0, 0, 4), "1234"));
  expect_refused(two(0, 2, 1, 4), "1234", "\"b\" begins at byte 1 of the data, expected 2: two tensors overlap");
  expect_refused(two(0, 4, 0, 4), "1234", "overlap");
  expect_refused(two(0, 1, 2, 4), "1234", "without a tensor");
  expect_refused(two(1, 2, 2, 4), "1234", "\"a\" begins at byte 1 of the data, expected 0");
  expect_refused(two(0, 1, 1, 3), "1234", "end at byte 3");
}

TEST(Safetensors, SurvivesDeepAndLongHeaders) {
  const auto with_run = [](const char* start, char repeated) { return std::string(start).append(1'000'000, repeated); };
  const auto refuse = [](const std::string& header, std::string_view part) {
    expect_error(ErrorCode::checkpoint, {part}, [&] { parse(with_header(header)); });
  };
  refuse(with_run(R"({"a":)", '['), "a list");
  refuse(with_run(R"({"a":{"shape":)", '{'), "an object");
  try {
    parse(with_header(with_run("{\"", 'n').append("\":1}")));
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_LT(std::string_view(e.what()).size(), 1000u);
  }
}

}  // namespace
}  // namespace trivet
