#include "runtime/report/encode.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "runtime/report/chart.h"
#include "runtime/report/plan_text.h"
#include "tests/report/run_folder.h"

namespace trivet::report {
namespace {

TEST(Base64, HasTheVectorsOfRfc4648) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, encoded] : vectors) {
    EXPECT_EQ(base64(text), encoded);
    EXPECT_EQ(from_base64(encoded), text);
  }
  for (const char* wrong : {"Zg=", "Z===", "Zm9$", "Zm9v\n", "Zm=v"})
    EXPECT_EQ(from_base64(wrong), std::nullopt) << wrong;
}

std::uint32_t big_endian(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

TEST(Png, HoldsThePixelsAsZlibReadsThem) {
  for (const std::int64_t channels : {1, 3}) {
    Image image{150, 160, channels, {}};  // more than one stored block with three channels
    for (std::int64_t i = 0; i < 150 * 160 * channels; ++i) image.pixels.push_back(static_cast<std::uint8_t>(i * 7));
    const std::string uri = png_uri(image);
    const std::string prefix = "data:image/png;base64,";
    ASSERT_TRUE(uri.starts_with(prefix));
    const auto decoded = from_base64(uri.substr(prefix.size()));
    ASSERT_TRUE(decoded.has_value());
    const std::string& png = *decoded;
    ASSERT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n"));
    std::string data;
    for (std::size_t at = 8; at < png.size();) {
      const std::size_t length = big_endian(std::string_view(png).substr(at));
      const std::string body = png.substr(at + 4, length + 4);
      const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
      EXPECT_EQ(big_endian(std::string_view(png).substr(at + 8 + length)), crc);
      if (body.starts_with("IDAT")) data = body.substr(4);
      at += 12 + length;
    }
    std::string lines(static_cast<std::size_t>(150 * (160 * channels + 1)), '\0');
    uLongf size = lines.size();
    ASSERT_EQ(::uncompress(reinterpret_cast<Bytef*>(lines.data()), &size, reinterpret_cast<const Bytef*>(data.data()),
                           data.size()),
              Z_OK);
    ASSERT_EQ(size, lines.size());
    const auto row = static_cast<std::size_t>(160 * channels);
    for (std::size_t y = 0; y < 150; ++y) {
      EXPECT_EQ(lines[y * (row + 1)], '\0');
      const std::string expected(image.pixels.begin() + static_cast<std::ptrdiff_t>(y * row),
                                 image.pixels.begin() + static_cast<std::ptrdiff_t>((y + 1) * row));
      EXPECT_EQ(lines.substr(y * (row + 1) + 1, row), expected);
    }
  }
}

TEST(Shrink, MeansOverThePixelsThatOneStandsFor) {
  const Image image{2, 4, 1, {0, 10, 100, 110, 20, 30, 120, 130}};
  const Image small = shrink(image, 2);
  EXPECT_EQ(small.height, 1);
  EXPECT_EQ(small.width, 2);
  EXPECT_EQ(small.pixels, (std::vector<std::uint8_t>{15, 115}));
  EXPECT_EQ(shrink(image, 4).pixels, image.pixels);
}

TEST(LinearTicks, AreRoundAndInside) {
  EXPECT_EQ(linear_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(linear_ticks(-1.5, 1.5, 3), (std::vector<double>{-1, 0, 1}));
  EXPECT_LT(linear_ticks(1e17, 1e17 + 64, 5).size(), 101u);
}

TEST(LineChart, ThinsLongCurvesAndKeepsTheirRange) {
  Chart chart;
  chart.curves.push_back({"long", 0, Stroke::solid, {}});
  for (int i = 0; i < 100000; ++i) chart.curves[0].points.push_back({static_cast<double>(i), i == 50000 ? 9.0 : 1.0});
  const std::string drawn = line_chart(chart);
  EXPECT_LT(drawn.size(), 40000u);
  EXPECT_NE(drawn.find("class=\"band"), std::string::npos);  // the single 9 is seen
  EXPECT_NE(drawn.find(">8<"), std::string::npos);           // and the axis reaches to it
}

TEST(PlanText, IsReadBack) {
  const PlanText plan = read_plan_text(testing::plan_text());
  EXPECT_EQ(plan.title, "plan step, batch 128 on CPU: AVX-512, 2 threads");
  ASSERT_EQ(plan.steps.size(), 4u);
  EXPECT_EQ(plan.steps[1].node, "pool1");
  EXPECT_EQ(plan.steps[1].op, "max_pool");
  EXPECT_EQ(plan.steps[1].output, "f32[128,14,14,32]");
  EXPECT_DOUBLE_EQ(plan.steps[1].flops, 3.21e6);
  EXPECT_DOUBLE_EQ(plan.steps[1].bytes, 16.1 * 1024 * 1024);
  EXPECT_DOUBLE_EQ(plan.steps[1].seconds, 1.2e-3);
  EXPECT_EQ(plan.steps[3].output, "");
  EXPECT_EQ(plan.steps[3].op, "adamw_step");
  EXPECT_DOUBLE_EQ(plan.steps[3].seconds, 2e-6);
  ASSERT_EQ(plan.memory.size(), 7u);
  EXPECT_TRUE(plan.memory[2].part);
  EXPECT_EQ(plan.memory[2].bytes, 42047897);
  EXPECT_EQ(plan.memory[3].name, "arena");
  EXPECT_FALSE(plan.memory[3].part);
  EXPECT_EQ(plan.notes.size(), 2u);
}

}  // namespace
}  // namespace trivet::report
