// A compiled pass with what it wants to be fed. Private to this folder.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "trivet/exec/session.h"
#include "trivet/train/metrics.h"
#include "trivet/train/plans.h"

namespace trivet {

struct Pass {
  Session session;
  bool wants_y;
  bool wants_sample;
  bool wants_step;
  bool wants_share;
  bool wants_lr;
  bool has_counts;
  bool has_top_k;

  Pass(std::shared_ptr<Arena> arena, const PlanPtr& plan)
      : session(std::move(arena), plan),
        wants_y(plan->inputs.contains("y")),
        wants_sample(plan->inputs.contains("sample")),
        wants_step(plan->inputs.contains("step")),
        wants_share(plan->inputs.contains("share")),
        wants_lr(plan->inputs.contains("lr")),
        has_counts(plan->outputs.contains("correct")),
        has_top_k(plan->outputs.contains("top_k")) {}

  template <class T>
  void set(const std::string& name, std::span<const T> values) {
    session.set_input(name, values.data(), values.size_bytes());
  }
  template <class T>
  void set_scalar(const std::string& name, T value) {
    session.set_input(name, &value, sizeof value);
  }
  void add_sums(MetricSums& sums, std::int64_t samples) {
    sums.loss += static_cast<double>(session.scalar("loss"));
    if (has_counts) sums.correct += static_cast<double>(session.scalar("correct"));
    if (has_top_k) sums.top_k += static_cast<double>(session.scalar("top_k"));
    sums.samples += samples;
  }
};

template <class Key>
using Passes = std::map<Key, std::unique_ptr<Pass>>;

template <class Key>
Passes<Key> make_passes(const std::shared_ptr<Arena>& arena, const std::map<Key, PlanPtr>& plans) {
  Passes<Key> passes;
  for (const auto& [key, plan] : plans) passes[key] = std::make_unique<Pass>(arena, plan);
  return passes;
}

}  // namespace trivet
