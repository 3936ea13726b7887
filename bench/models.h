// The models that are measured against others: those of the table in docs/benchmarks.md.
#pragma once

#include <string>

#include "trivet/train/graphs.h"

namespace trivet::bench {

inline constexpr const char* kWorks[] = {"mlp", "cnn", "resnet20", "lstm"};

inline ModelTask task_of(const std::string& work, const std::string& precision) {
  ModelConfig model;
  model.classes = 10;
  model.precision = precision;
  Shape sample = {28, 28, 1};
  if (work == "mlp") {
    model.name = "mlp";
    model.hidden = {256};
  } else if (work == "cnn") {
    model.name = "cnn";
  } else if (work == "resnet20") {
    model.name = "resnet";
    model.depth = 20;
    sample = {32, 32, 3};
  } else {
    model.name = "lstm";
    model.units = 128;
    sample = {64, 28};
  }
  return label_task(model, sample, 1);
}

}  // namespace trivet::bench
