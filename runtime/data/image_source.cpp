// Images as a source of samples.
#include <numeric>

#include "trivet/base/error.h"
#include "trivet/data/augment.h"
#include "trivet/data/image_data.h"
#include "trivet/data/normalization.h"

namespace trivet {
namespace {

using nlohmann::json;

// What training has learnt about images.
struct ImagePreparation {
  std::int64_t height = 0, width = 0, channels = 0;
  Normalization normalization;
  std::int64_t classes = 0;  // 0: no labels
  AugmentConfig augment;
};

Preparation to_preparation(const ImagePreparation& p) {
  json values = p.normalization;
  values["height"] = p.height;
  values["width"] = p.width;
  values["channels"] = p.channels;
  values["classes"] = p.classes;
  values["crop_padding"] = p.augment.crop_padding;
  values["flip"] = p.augment.flip;
  return {"images", std::move(values)};
}

ImagePreparation from_preparation(const Preparation& preparation, const std::string& file) {
  if (preparation.kind != "images") {
    throw Error(
        ErrorCode::data,
        fmt::format("{} holds images, the model was trained on data of the kind \"{}\"", file, preparation.kind),
        "give data of the form that the model was trained on");
  }
  try {
    const json& values = preparation.values;
    ImagePreparation p;
    p.normalization = values.get<Normalization>();
    values.at("height").get_to(p.height);
    values.at("width").get_to(p.width);
    values.at("channels").get_to(p.channels);
    values.at("classes").get_to(p.classes);
    values.at("crop_padding").get_to(p.augment.crop_padding);
    values.at("flip").get_to(p.augment.flip);
    if (p.normalization.mean.size() == static_cast<std::size_t>(p.channels)) return p;
    throw Error(ErrorCode::checkpoint,
                fmt::format("the images have {} channels, the normalization is for {}", p.channels,
                            p.normalization.mean.size()),
                "the checkpoint is damaged; choose another one");
  } catch (const json::exception& e) {
    throw Error(ErrorCode::checkpoint, fmt::format("the preparation of the images: {}", e.what()),
                "the checkpoint is damaged; choose another one");
  }
}

// `Channels` known to the compiler makes the inner loop disappear. A table look-up gives the correctly rounded value,
// and so the same bits on every machine.
template <std::size_t Channels>
void convert_fixed(const std::uint8_t* in, std::size_t pixels, const float* table, float* out) {
  for (std::size_t i = 0; i < pixels; ++i, in += Channels, out += Channels) {
    for (std::size_t c = 0; c < Channels; ++c) out[c] = table[c * 256 + in[c]];
  }
}

// in, out: (pixels, channels); table: (channels, 256).
void convert(const std::uint8_t* in, std::size_t pixels, std::size_t channels, const float* table, float* out) {
  if (channels == 1) return convert_fixed<1>(in, pixels, table, out);
  if (channels == 3) return convert_fixed<3>(in, pixels, table, out);
  for (std::size_t i = 0; i < pixels; ++i, in += channels, out += channels) {
    for (std::size_t c = 0; c < channels; ++c) out[c] = table[c * 256 + in[c]];
  }
}

class ImageDataset final : public Dataset {
 public:
  ImageDataset(const ImageData& data, const ImagePreparation& p, bool with_target)
      : data_(data),
        normalization_(p.normalization),
        augment_(p.augment),
        table_(p.normalization.table()),
        inputs_{{"x", DType::f32, {data.height, data.width, data.channels}}} {
    if (!with_target) return;
    target_field_ = Field{"y", DType::i32, {}};
    target_.kind = TargetKind::label;
    target_.classes = p.classes;
    for (std::int64_t i = 0; i < p.classes; ++i) target_.class_names.push_back(std::to_string(i));
  }

  std::int64_t count() const override { return data_.count; }
  const std::vector<Field>& inputs() const override { return inputs_; }
  const std::optional<Field>& target_field() const override { return target_field_; }
  const DataTarget& target() const override { return target_; }
  std::vector<std::int64_t> category_sizes(std::size_t) const override { return {}; }

  void read(std::int64_t sample, const SampleDraw& draw, std::span<std::byte* const> inputs,
            std::byte* y) const override {
    const std::size_t elements = data_.sample_elements();
    const auto channels = static_cast<std::size_t>(data_.channels);
    thread_local std::vector<std::byte> scratch;
    const std::uint8_t* from = data_.sample(sample, scratch);
    if (draw.train) {
      const AugmentDraw change = draw_augmentation(augment_, draw.seed, draw.epoch, sample);
      if (change != AugmentDraw{}) {
        thread_local std::vector<std::uint8_t> changed;
        changed.resize(elements);
        augment_image(data_, change, from, changed.data());
        from = changed.data();
      }
    }
    convert(from, elements / channels, channels, table_.data(), reinterpret_cast<float*>(inputs[0]));
    if (y) std::memcpy(y, &data_.labels[static_cast<std::size_t>(sample)], sizeof(std::int32_t));
  }

  std::int64_t label(std::int64_t sample) const override {
    if (!target_field_) throw Error(ErrorCode::internal, "a label of images without labels was asked for");
    return data_.labels[static_cast<std::size_t>(sample)];
  }

  ShownSample show(std::int64_t sample) const override {
    std::vector<std::byte> scratch;
    const std::uint8_t* from = data_.sample(sample, scratch);
    return {data_.height, data_.width, data_.channels, {from, from + data_.sample_elements()}, {}};
  }

  std::vector<std::uint8_t> pixels(std::span<const float> x) const override {
    std::vector<std::uint8_t> result;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i % static_cast<std::size_t>(data_.channels);
      const double value = static_cast<double>(x[i]) * normalization_.stddev[c] + normalization_.mean[c];
      result.push_back(value > 0 ? static_cast<std::uint8_t>(std::min(255.0, std::round(value))) : std::uint8_t{0});
    }
    return result;
  }

 private:
  const ImageData& data_;
  const Normalization normalization_;
  const AugmentConfig augment_;
  const std::vector<float> table_;
  const std::vector<Field> inputs_;
  std::optional<Field> target_field_;
  DataTarget target_;
};

class ImageSource final : public DataSource {
 public:
  ImageSource(ImageData data, const DataFiles& files) : data_(std::move(data)), files_(files) {}

  std::int64_t count() const override { return data_.count; }
  std::string digest() const override { return data_.digest; }
  std::size_t resident_bytes() const override {
    return data_.pixels.resident_bytes() + data_.labels.size() * sizeof(std::int32_t);
  }

  Preparation fit(std::span<const std::int64_t> train, const DataConfig& config) const override {
    const std::int64_t padding = config.augment.crop_padding;
    if (padding < 0 || (padding > 0 && padding >= std::min(data_.height, data_.width))) {
      throw Error(
          ErrorCode::data,
          fmt::format("crops with a padding of {} pixels on images of {} x {}", padding, data_.height, data_.width),
          "choose a padding below the image's height and width");
    }
    if (config.target == "number") {
      throw Error(ErrorCode::data, fmt::format("the labels of {} are classes, not numbers", files_.images.string()),
                  "leave data.target out, or write label");
    }
    ImagePreparation p{data_.height, data_.width, data_.channels, {}, data_.classes, config.augment};
    if (config.classes > 0 && !data_.labels.empty()) p.classes = config.classes;
    p.normalization = config.normalize ? compute_normalization(data_, train) : Normalization::unit(data_.channels);
    return to_preparation(p);
  }

  bool has_target(const Preparation&) const override { return !data_.labels.empty(); }

  std::unique_ptr<Dataset> prepare(const Preparation& preparation, bool with_target) const override {
    const ImagePreparation p = from_preparation(preparation, files_.images.string());
    const Shape here = {data_.height, data_.width, data_.channels}, known = {p.height, p.width, p.channels};
    if (here != known) {
      throw Error(ErrorCode::data, fmt::format("{} has images of {}, the model was trained on {}",
                                               files_.images.string(), to_string(here), to_string(known)));
    }
    if (with_target) check_labels(p.classes);
    return std::make_unique<ImageDataset>(data_, p, with_target);
  }

 private:
  void check_labels(std::int64_t classes) const {
    if (data_.labels.empty()) {
      throw Error(ErrorCode::data, fmt::format("{} has no labels, and they are needed", files_.images.string()),
                  "name the label file under `labels`");
    }
    for (std::size_t i = 0; i < data_.labels.size(); ++i) {
      if (data_.labels[i] >= 0 && data_.labels[i] < classes) continue;
      throw Error(ErrorCode::data,
                  fmt::format("{}: sample {} has label {}, the model has {} classes", files_.labels.string(), i,
                              data_.labels[i], classes),
                  fmt::format("set model.classes to {} when it is trained", data_.classes));
    }
  }

  const ImageData data_;
  const DataFiles files_;
};

}  // namespace

std::unique_ptr<DataSource> image_source(ImageData data, const DataFiles& files) {
  return std::make_unique<ImageSource>(std::move(data), files);
}

std::unique_ptr<DataSource> open_images(const DataFiles& files) { return image_source(load_images(files), files); }

}  // namespace trivet
