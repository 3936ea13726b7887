#include "trivet/train/schedule.h"

#include <numbers>

namespace trivet {

double learning_rate(const OptimizerConfig& optimizer, const ScheduleConfig& schedule, std::int64_t step,
                     std::int64_t total_steps, std::int64_t steps_per_epoch) {
  const std::int64_t warmup = schedule.warmup_steps;
  if (step < warmup) return optimizer.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  double factor = 1.0;
  if (schedule.name == "cosine") {
    const auto length = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup));
    const double progress = std::min(1.0, static_cast<double>(step - warmup) / length);
    factor = schedule.floor + (1.0 - schedule.floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  } else if (schedule.name == "step") {
    for (const std::int64_t milestone : schedule.milestones) {
      if (step >= milestone * steps_per_epoch) factor *= schedule.gamma;
    }
  }
  return optimizer.lr * factor;
}

}  // namespace trivet
