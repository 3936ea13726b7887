// Data as a model is fed with it, whatever the files were: images, tables, arrays.
//
//   DataSource   what the files hold, as it is
//   Preparation  what is learnt from the training samples alone (means, deviations, categories, ...); plain JSON, which
//                checkpoints carry, so that new data are prepared in the same way
//   Dataset      a source under a preparation: samples by index, ready for the model
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trivet/base/types.h"
#include "trivet/data/config.h"

namespace trivet {

// One tensor of a sample. The batch's tensor has the number of samples as its first dimension.
struct Field {
  std::string name;  // the graph's input: "x", "categories", "y"
  DType dtype = DType::f32;
  Shape shape;  // of one sample

  TensorType batch(std::int64_t samples) const {
    TensorType type{dtype, shape};
    type.shape.insert(type.shape.begin(), samples);
    return type;
  }
  std::size_t bytes() const { return TensorType{dtype, shape}.bytes(); }  // of one sample
  bool operator==(const Field&) const = default;
};

void to_json(nlohmann::json& json, const Field& field);  // {"name": "x", "dtype": "f32", "shape": [28, 28, 1]}
void from_json(const nlohmann::json& json, Field& field);

// What the target says; it decides loss and metrics.
enum class TargetKind {
  none,    // there is no target
  label,   // y i32[]: one of `classes` classes
  number,  // y f32[k]: numbers to be predicted
};

struct DataTarget {
  TargetKind kind = TargetKind::none;
  std::int64_t classes = 0;               // label
  std::vector<std::string> class_names;   // label: as the file spells them; "0", "1", ... where it only has numbers
  std::vector<std::string> target_names;  // number: one for each of the k numbers
  // number: the model predicts (value - mean) / stddev; both have k entries.
  std::vector<double> mean;
  std::vector<double> stddev;
};

void to_json(nlohmann::json& json, const DataTarget& target);
void from_json(const nlohmann::json& json, DataTarget& target);

struct Preparation {
  std::string kind;  // images, table, arrays
  nlohmann::json values;
};

// How a sample is drawn: augmentation is keyed by all of it. `train` false: the sample as it is.
struct SampleDraw {
  bool train = false;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

// A sample for people: its image, or its columns by name.
struct ShownSample {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<std::uint8_t> pixels;  // (height, width, channels); empty: no image
  std::vector<std::pair<std::string, std::string>> columns;
};

// Reading is safe from several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t count() const = 0;
  // What the model is fed with, in order: f32 fields are ready to compute with, i32 fields are categories or tokens.
  virtual const std::vector<Field>& inputs() const = 0;
  virtual const std::optional<Field>& target_field() const = 0;  // "y"; none without a target
  virtual const DataTarget& target() const = 0;
  // For i32 inputs: how many different values each of the field's elements may have (values are 0 .. n - 1, of which 0
  // stands for what training did not know). Empty for fields that are not categories.
  virtual std::vector<std::int64_t> category_sizes(std::size_t input) const = 0;
  // Writes one sample: Field::bytes() bytes for each input and, unless `y` is null, for the target.
  // Error(data) names the sample (and the file's line or element) if it cannot be used.
  virtual void read(std::int64_t sample, const SampleDraw& draw, std::span<std::byte* const> inputs,
                    std::byte* y) const = 0;
  // The class of a sample; Error(internal) unless the target is a label. For class weights and samplers.
  virtual std::int64_t label(std::int64_t sample) const = 0;
  virtual ShownSample show(std::int64_t sample) const = 0;
  // An image (height, width, channels) as people see it from the first input's values for one sample, such as a model's
  // reconstruction; empty unless the samples are images.
  virtual std::vector<std::uint8_t> pixels(std::span<const float>) const { return {}; }
};

class DataSource {
 public:
  virtual ~DataSource() = default;
  virtual std::int64_t count() const = 0;
  virtual std::string digest() const = 0;  // SHA-256 of the content
  // What stays in memory, files that are mapped included (trivet/formats/mapped_file.h).
  virtual std::size_t resident_bytes() const = 0;
  // Learns from the given samples alone.
  virtual Preparation fit(std::span<const std::int64_t> train, const DataConfig& config) const = 0;
  // Whether the data hold the target that the preparation knows: not all data for inference do.
  virtual bool has_target(const Preparation& preparation) const = 0;
  // Error(data) if the data lack what the preparation knows (a column, a shape), or, with `with_target`, the target.
  // The source must outlive the data set.
  virtual std::unique_ptr<Dataset> prepare(const Preparation& preparation, bool with_target) const = 0;
};

// Reads or maps what `files` names. Error(data) or Error(io) with file, line and column.
std::unique_ptr<DataSource> open_data(const DataFiles& files, const DataConfig& config);

}  // namespace trivet
