#include "trivet/train/schedule.h"

#include <numbers>

namespace trivet {

namespace {

// From `from` at progress 0 to `to` at 1.
double half_cosine(double from, double to, double progress) {
  return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * std::clamp(progress, 0.0, 1.0)));
}

double one_cycle(const ScheduleConfig& schedule, std::int64_t step, std::int64_t total_steps) {
  const auto now = static_cast<double>(step);
  const auto last = static_cast<double>(std::max<std::int64_t>(1, total_steps - 1));
  const double peak = std::clamp(schedule.rise * static_cast<double>(total_steps) - 1.0, 0.0, last);
  if (now < peak) return half_cosine(schedule.start, 1.0, now / peak);
  return peak < last ? half_cosine(1.0, schedule.floor, (now - peak) / (last - peak)) : 1.0;
}

}  // namespace

double learning_rate(const OptimizerConfig& optimizer, const ScheduleConfig& schedule, std::int64_t step,
                     std::int64_t total_steps, std::int64_t steps_per_epoch) {
  if (schedule.name == "one_cycle") return optimizer.lr * one_cycle(schedule, step, total_steps);
  const std::int64_t warmup = schedule.warmup_steps;
  if (step < warmup) return optimizer.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const auto length = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / length);
  double factor = 1.0;
  if (schedule.name == "cosine") {
    factor = half_cosine(1.0, schedule.floor, progress);
  } else if (schedule.name == "linear") {
    factor = 1.0 + (schedule.floor - 1.0) * progress;
  } else if (schedule.name == "step") {
    for (const std::int64_t milestone : schedule.milestones) {
      if (step >= milestone * steps_per_epoch) factor *= schedule.gamma;
    }
  }
  return optimizer.lr * factor;
}

}  // namespace trivet
