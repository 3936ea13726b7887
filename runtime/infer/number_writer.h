// Predicted numbers as a table: one row for each sample. Private to this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/base/file.h"

namespace trivet {

// The file appears at commit(); destroyed earlier, the writer leaves nothing. Formats:
//   csv    RFC 4180: `index`, a column for each name and, with targets, one "target.<name>" for each; CR LF
//   jsonl  an object a line: index, the names and, with targets, "target": {names}
//   npy    the predictions alone, f32 (rows, names)
// Numbers are written with the fewest digits that read back as the same float.
class NumberWriter {
 public:
  // Error(usage) for an unknown format; Error(io) if the file cannot be created.
  NumberWriter(std::string_view format, const std::filesystem::path& path, std::int64_t rows,
               std::vector<std::string> names, bool targets);

  // Both as many as names; `targets` empty if there are none. Error(diverged) if a prediction is not finite.
  void add(std::int64_t index, std::span<const double> predicted, std::span<const double> targets);

  void commit();

 private:
  std::string csv_row(std::int64_t index, std::span<const double> predicted, std::span<const double> targets) const;
  std::string json_row(std::int64_t index, std::span<const double> predicted, std::span<const double> targets) const;

  const std::string format_;
  const std::vector<std::string> names_;
  std::vector<std::string> keys_;  // the names as JSON
  AtomicFile file_;
};

}  // namespace trivet
