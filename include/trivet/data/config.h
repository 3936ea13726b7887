// What a job file says about data. Plain values; the job file's checker has verified ranges.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace trivet {

// The files of one set of samples, in one of three forms. Gzip is told by content, not by name. Labels and targets may
// be absent for inference.
struct DataFiles {
  // IDX images.
  std::filesystem::path images{};
  std::filesystem::path labels{};  // empty: none
  // A table (.csv, .tsv, .arff, .jsonl) or arrays (.npy, .npz: "x" and, if there is a target, "y").
  std::filesystem::path file{};
  std::filesystem::path targets{};  // with a .npy file: the .npy file of its targets; empty: none

  bool is_images() const { return !images.empty(); }
  const std::filesystem::path& main() const { return is_images() ? images : file; }
};

struct AugmentConfig {
  std::int64_t crop_padding = 0;  // pad by so many zero pixels on each side, then crop at a random place; 0 is off
  bool flip = false;              // mirror left to right with probability 1/2
  bool operator==(const AugmentConfig&) const = default;
};

// How a table is read. What is left out is inferred from the training samples.
struct TableConfig {
  std::string target;                          // column to predict; empty: the last one
  std::map<std::string, std::string> columns;  // type of a column: number, category, ignore
  // one_hot: categories are numbers of the field "x" too; indices: they have the field "categories" of their own.
  std::string categories = "one_hot";
  std::string missing = "impute";  // impute (mean of a number, a category of its own), error
  bool operator==(const TableConfig&) const = default;
};

struct DataConfig {
  DataFiles train;
  std::optional<DataFiles> test;
  double validation = 0.1;  // share of `train` held out, in [0, 1)
  // Images: to mean 0 and deviation 1 per channel; tables and arrays: per column. Computed on the training split alone.
  bool normalize = true;
  AugmentConfig augment;
  TableConfig table;
  // What the target is: auto (labels of images, integers of arrays and words of tables are labels, other numbers are
  // numbers), label, number.
  std::string target = "auto";
  // Labels that are numbers: so many classes, and a label beyond is an error; 0: as many as there are.
  std::int64_t classes = 0;
  std::string class_weights = "none";  // none, balanced: the loss of a sample counts n / (classes * n of its class)
  std::string sampler = "shuffle";     // shuffle: each sample once an epoch; balanced: classes equally often
  std::int64_t prefetch = 4;           // batches prepared ahead by a background thread
};

}  // namespace trivet
