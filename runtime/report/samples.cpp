// Sample predictions, with their images.
#include <fmt/format.h>

#include "runtime/report/encode.h"
#include "runtime/report/html.h"
#include "runtime/report/json_read.h"
#include "runtime/report/sections.h"

namespace trivet::report {
namespace {

using nlohmann::json;

constexpr std::size_t kMostSamples = 48;
constexpr std::size_t kMostColumns = 30;
constexpr std::size_t kLongestText = 120;     // bytes
constexpr std::size_t kPixelBudget = 300000;  // bytes of all images together, before base64
constexpr std::int64_t kLargestSide = 1 << 14;
constexpr std::int64_t kSides[] = {96, 64, 48, 32, 24};

// Nothing unless the pixels are as many as the shape says.
std::optional<Image> read_image(const json& value) {
  const auto size = [&](const char* key) { return std::clamp(number(value, key).value_or(0), 0.0, 1e9); };
  Image image{static_cast<std::int64_t>(size("height")),
              static_cast<std::int64_t>(size("width")),
              static_cast<std::int64_t>(size("channels")),
              {}};
  if (image.height < 1 || image.width < 1 || image.height > kLargestSide || image.width > kLargestSide) return {};
  if (image.channels != 1 && image.channels != 3) return {};
  const json& encoded = member(value, "pixels");
  const auto bytes = encoded.is_string() ? from_base64(encoded.get_ref<const std::string&>()) : std::nullopt;
  if (!bytes || bytes->size() != static_cast<std::size_t>(image.height * image.width * image.channels)) return {};
  image.pixels.assign(bytes->begin(), bytes->end());
  return image;
}

// How large images may be drawn, so that all of them together keep to the budget.
std::int64_t side_for(const std::vector<Image>& images) {
  for (const std::int64_t side : kSides) {
    std::size_t bytes = 0;
    for (const Image& image : images) {
      const std::int64_t longest = std::max(image.height, image.width);
      const double scale = std::min(1.0, static_cast<double>(side) / static_cast<double>(longest));
      bytes += static_cast<std::size_t>(static_cast<double>(image.pixels.size()) * scale * scale) + 100;
    }
    if (bytes <= kPixelBudget) return side;
  }
  return kSides[std::size(kSides) - 1];
}

// A class by its name where the sample has its number.
std::string answer(const json& value, const json& classes) {
  if (value.is_number_integer() && classes.is_array()) {
    const auto index = value.get<std::int64_t>();
    if (index >= 0 && index < static_cast<std::int64_t>(classes.size())) {
      const std::string name = text(classes[static_cast<std::size_t>(index)]);
      if (!name.empty()) return shorten(name, kLongestText);
    }
  }
  return shorten(text(value), kLongestText);
}

std::string columns_table(const json& columns) {
  if (!columns.is_array() || columns.empty()) return {};
  std::string out = "<table><tbody>";
  std::size_t rows = 0;
  for (const json& column : columns) {
    if (!column.is_array() || column.size() != 2) continue;
    if (++rows > kMostColumns) break;
    out += fmt::format("<tr><td class=\"muted\">{}</td><td>{}</td></tr>",
                       escape(shorten(text(column[0]), kLongestText)), escape(shorten(text(column[1]), kLongestText)));
  }
  out += "</tbody></table>";
  return out + (rows > kMostColumns ? "<p class=\"muted\">and more columns</p>" : "");
}

std::string image_tag(const std::optional<Image>& image, std::int64_t side, std::string_view what) {
  if (!image) return {};
  return fmt::format("<img alt=\"{}\" src=\"{}\">", what, png_uri(shrink(*image, side)));
}

struct Shown {
  const json& sample;
  std::optional<Image> image, reconstruction;
};

std::string sample_card(const Shown& shown, const json& classes, bool judged, std::int64_t side) {
  const json& truth = member(shown.sample, "truth");
  const json& predicted = member(shown.sample, "predicted");
  const std::string is = answer(truth, classes), taken = answer(predicted, classes);
  const bool both = !is.empty() && !taken.empty();
  const char* verdict = !judged || !both ? " plain" : is == taken ? "" : " wrong";
  std::string out = fmt::format("<div class=\"sample{}\">", verdict);
  out += image_tag(shown.image, side, "sample") + image_tag(shown.reconstruction, side, "reconstruction");
  if (!is.empty()) out += fmt::format("<p><span class=\"muted\">truth</span> {}</p>", escape(is));
  if (!taken.empty()) {
    const auto probability = number(shown.sample, "probability");
    out += fmt::format("<p><span class=\"muted\">predicted</span> {}{}</p>", escape(taken),
                       probability ? fmt::format(" <span class=\"muted\">{:.1f} %</span>", 100 * *probability) : "");
  }
  if (const std::string number_of = text(member(shown.sample, "sample")); !number_of.empty()) {
    out += fmt::format("<p class=\"muted\">sample {}</p>", escape(shorten(number_of, 40)));
  }
  return out + columns_table(member(shown.sample, "columns")) + "</div>\n";
}

}  // namespace

std::string samples_section(const json& evaluation) {
  const json& list = member(evaluation, "shown");
  if (!list.is_array() || list.empty()) return {};
  std::vector<Shown> samples;
  std::vector<Image> images;
  bool columns = false;
  for (const json& sample : list) {
    if (samples.size() == kMostSamples) break;
    samples.push_back({sample, read_image(member(sample, "image")), read_image(member(sample, "reconstruction"))});
    for (const auto& image : {samples.back().image, samples.back().reconstruction}) {
      if (image) images.push_back(*image);
    }
    columns = columns || !member(sample, "columns").empty();
  }
  const std::int64_t side = side_for(images);
  const bool judged = member(evaluation, "task") == "label";
  std::string content = fmt::format("<div class=\"samples{}\">\n", columns ? " with-columns" : "");
  for (const Shown& shown : samples) content += sample_card(shown, member(evaluation, "classes"), judged, side);
  return section("samples", "Sample predictions", content + "</div>\n");
}

}  // namespace trivet::report
