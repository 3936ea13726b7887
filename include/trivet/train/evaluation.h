// What a model makes of a split: its figures, and samples for people to look at.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "trivet/data/loader.h"
#include "trivet/train/metrics.h"

namespace trivet {

// How much is measured.
enum class Detail {
  figures,  // what costs little: for numbers and reconstructions everything, for labels F1
  auc,      // likewise, and the area under the curve
  all,      // everything, and examples for report()
};

class Evaluation {
 public:
  // `samples`: of the split.
  Evaluation(const ModelTask& task, Detail detail, std::int64_t samples);
  ~Evaluation();

  // `prediction`: that of evaluate_graph() or predict_graph() for the batch, which has targets (reconstruction: none).
  void add(const Batch& batch, std::span<const float> prediction);

  // Adds what was measured to the means of a split.
  void complete(Metrics& metrics) const;

  // With Detail::all: evaluation.json of a run (docs/runs.md). `data` has the samples.
  nlohmann::json report(const Dataset& data, std::string_view split, const Metrics& metrics) const;

  // The largest that its buffers get.
  static std::size_t planned_bytes(const ModelTask& task, std::int64_t batch, std::int64_t samples);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trivet
