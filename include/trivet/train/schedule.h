// Learning-rate schedules.
#pragma once

#include <cstdint>

#include "trivet/train/config.h"

namespace trivet {

// The learning rate of optimizer step `step` (from 0) of `total_steps`. A pure function, so a resumed run needs no
// state. Warm-up: lr * (step + 1) / warmup_steps, then the schedule.
//   step       times gamma after each milestone epoch
//   cosine     from 1 to `floor` over the steps after the warm-up (Loshchilov and Hutter, "SGDR", 2017, equation 5,
//              without restarts)
//   linear     likewise, in a straight line
//   one_cycle  from `start` to 1 in the first `rise` of the steps, then to `floor` at the last step, both as half a
//              cosine (Smith, "A disciplined approach to neural network hyper-parameters", 2018, section 4.1, with one
//              fall in place of two; momentum stays)
double learning_rate(const OptimizerConfig& optimizer, const ScheduleConfig& schedule, std::int64_t step,
                     std::int64_t total_steps, std::int64_t steps_per_epoch);

}  // namespace trivet
