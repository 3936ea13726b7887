// Predictions as a table: one row for each sample.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/base/file.h"

namespace trivet {

// The file appears at commit(); destroyed earlier, the writer leaves nothing. Formats:
//   csv    RFC 4180: a header `index,predicted,confidence[,label]`, lines ended by CR LF
//   jsonl  an object a line: index, predicted, confidence, probabilities (list), label if there are labels
//   npy    the probabilities alone, f32 (rows, classes), in the order of add()
// Numbers are written with the fewest digits that read back as the same float. Classes are written by name if they
// have names (strings in JSON, quoted where RFC 4180 asks for it), else as numbers.
class PredictionWriter {
 public:
  struct Table {
    std::int64_t rows = 0;
    std::int64_t classes = 0;  // at least 1
    bool labels = false;
    std::vector<std::string> names{};  // of the classes; empty: none
  };

  // Error(usage) for an unknown format; Error(io) if the file cannot be created.
  static std::unique_ptr<PredictionWriter> create(std::string_view format, const std::filesystem::path& path,
                                                  const Table& table);
  virtual ~PredictionWriter() = default;
  PredictionWriter(const PredictionWriter&) = delete;
  PredictionWriter& operator=(const PredictionWriter&) = delete;

  // `index`: the sample's index in the data set. `probabilities` (classes): the prediction is the first of the largest,
  // the confidence its probability. Error(diverged) if one is not finite; Error(internal) unless the number of
  // classes and the presence of a label are those of the table.
  void add(std::int64_t index, std::span<const float> probabilities, std::optional<std::int32_t> label = {});

  // Error(internal) unless `rows` rows were added.
  void commit();

 protected:
  struct Row {
    std::int64_t index;
    std::int64_t predicted;
    std::span<const float> probabilities;
    std::optional<std::int32_t> label;
  };

  PredictionWriter(const std::filesystem::path& path, const Table& table) : table_(table), file_(path) {}
  virtual void write_row(const Row& row) = 0;

  const Table table_;
  AtomicFile file_;

 private:
  std::int64_t written_ = 0;
};

// A field of a CSV file: in quotes if it holds a comma, a quote or a line break.
std::string csv_field(std::string_view text);

}  // namespace trivet
