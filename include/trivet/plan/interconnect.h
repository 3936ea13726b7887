// What the way between ranks costs, and a plan's predicted time on it: arithmetic on paper for clusters of any size.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "trivet/plan/plan.h"

namespace trivet {

struct Interconnect {
  std::string name;
  double bytes_per_second = 0;  // that a rank can send while it receives as much
  double latency_seconds = 0;   // of one message
  std::string source;
};

// Those that have names, with where their figures come from.
std::span<const Interconnect> interconnects();
// One of them by its name, or "RATE:LATENCY" in bytes per second and seconds, such as "1.25e9:30e-6". Error(usage).
Interconnect find_interconnect(std::string_view text);

// Seconds of an all-reduce of `bytes` over `ranks`: the better of a ring, 2 (n - 1) messages of bytes / n each, and two
// trees, 2 log2(n) messages of all bytes, pipelined (Thakur, Rabenseifner and Gropp, "Optimization of Collective
// Communication Operations in MPICH", 2005; Sanders, Speck and Traeff, "Two-tree algorithms for full bandwidth
// broadcast, reduction and scan", 2009).
double all_reduce_seconds(double bytes, int ranks, const Interconnect& way);

// Seconds of a broadcast of `bytes` to `ranks`, through a pipelined tree (likewise).
double broadcast_seconds(double bytes, int ranks, const Interconnect& way);

struct RanksPrediction {
  int ranks = 1;
  int sums = 0;             // messages of a step
  int broadcasts = 0;       // likewise
  double bytes_sent = 0;    // by each rank in a step
  double sum_seconds = 0;   // of all sums and broadcasts
  double step_seconds = 0;  // with what of them is hidden behind computing
  double compute_seconds = 0;
};

// A step of a plan for several ranks: computing and sums go on side by side, each in the plan's order, and a wait holds
// computing up until its sum is done; a step ends when all is done.
RanksPrediction predict_ranks(const Plan& plan, const Ceilings& ceilings, const Interconnect& way);

}  // namespace trivet
