// What a job file of kind infer says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "trivet/data/config.h"

namespace trivet {

struct InferConfig {
  std::filesystem::path run;        // directory of the training run, of one of its checkpoints, or of an exported model
  std::string checkpoint = "best";  // best, last
  DataFiles data;                   // with labels, the accuracy is reported too
  std::int64_t batch = 256;
  std::filesystem::path output;     // predictions
  std::string format = "csv";       // csv, jsonl, npy
  std::string precision = "model";  // what is computed in: model (as it was trained) or int8
};

}  // namespace trivet
