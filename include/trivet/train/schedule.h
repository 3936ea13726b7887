// Learning-rate schedules.
#pragma once

#include <cstdint>

#include "trivet/train/config.h"

namespace trivet {

// The learning rate of optimizer step `step` (from 0) of `total_steps`. A pure function, so a resumed run needs no
// state. Warm-up: lr * (step + 1) / warmup_steps, then the schedule. cosine: from 1 to `floor` over the steps after the
// warm-up (Loshchilov and Hutter, "SGDR", 2017, equation 5, without restarts). step: times gamma after each milestone
// epoch.
double learning_rate(const OptimizerConfig& optimizer, const ScheduleConfig& schedule, std::int64_t step,
                     std::int64_t total_steps, std::int64_t steps_per_epoch);

}  // namespace trivet
