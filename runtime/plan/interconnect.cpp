#include "trivet/plan/interconnect.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "trivet/base/error.h"
#include "trivet/kernels/attrs_ranks.h"

namespace trivet {
namespace {

double bytes_of(const Plan& plan, const PlannedStep& step) {
  double bytes = 0;
  for (const int v : step.outputs) bytes += static_cast<double>(plan.values[static_cast<std::size_t>(v)].type.bytes());
  return bytes;
}

bool parse(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

}  // namespace

std::span<const Interconnect> interconnects() {
  static const Interconnect all[] = {
      {"ethernet10", 1.25e9, 30e-6, "IEEE 802.3ae, 10 Gbit/s; latency of TCP an assumption"},
      {"ethernet25", 3.125e9, 30e-6, "IEEE 802.3by, 25 Gbit/s; latency an assumption"},
      {"ethernet100", 12.5e9, 20e-6, "IEEE 802.3ba, 100 Gbit/s; latency an assumption"},
      {"ib200", 25e9, 5e-6, "InfiniBand HDR, 200 Gbit/s a port; latency an assumption"},
      {"ib400", 50e9, 5e-6, "InfiniBand NDR, 400 Gbit/s a port (NVIDIA Quantum-2); latency an assumption"},
      {"nvlink4", 450e9, 3e-6, "NVIDIA H100 SXM data sheet: 900 GB/s, both directions together; latency an assumption"},
      {"pcie5", 64e9, 5e-6, "PCI Express 5.0 x16, 64 GB/s in each direction; latency an assumption"},
  };
  return all;
}

Interconnect find_interconnect(std::string_view text) {
  for (const Interconnect& way : interconnects()) {
    if (way.name == text) return way;
  }
  const std::size_t colon = text.find(':');
  Interconnect own{std::string(text), 0, 0, "given"};
  if (colon != std::string_view::npos && parse(text.substr(0, colon), own.bytes_per_second) &&
      parse(text.substr(colon + 1), own.latency_seconds) && own.bytes_per_second > 0 && own.latency_seconds >= 0) {
    return own;
  }
  std::string names;
  for (const Interconnect& way : interconnects()) names += way.name + ", ";
  throw Error(ErrorCode::usage, fmt::format("there is no interconnect '{}'", text.substr(0, 40)),
              fmt::format("one of {}or BYTES_PER_SECOND:SECONDS, such as 1.25e9:30e-6", names));
}

double all_reduce_seconds(double bytes, int ranks, const Interconnect& way) {
  if (ranks <= 1) return 0;
  const double n = ranks;
  const double ring = 2 * (n - 1) * (way.latency_seconds + bytes / n / way.bytes_per_second);
  const double trees = 2 * (std::ceil(std::log2(n)) * way.latency_seconds + bytes / way.bytes_per_second);
  return std::min(ring, trees);
}

double broadcast_seconds(double bytes, int ranks, const Interconnect& way) {
  if (ranks <= 1) return 0;
  return std::ceil(std::log2(ranks)) * way.latency_seconds + bytes / way.bytes_per_second;
}

RanksPrediction predict_ranks(const Plan& plan, const Ceilings& ceilings, const Interconnect& way) {
  RanksPrediction result;
  double now = 0, way_free = 0;
  std::map<std::int64_t, double> done;  // by the number of the sum
  const auto use_way = [&](double seconds) {
    way_free = std::max(way_free, now) + seconds;
    result.sum_seconds += seconds;
  };
  for (std::size_t i = plan.first_repeated; i < plan.steps.size(); ++i) {
    const PlannedStep& step = plan.steps[i];
    if (step.op == "sum_ranks_start" || step.op == "reduce_ranks_start") {
      const auto attrs = step.attributes<kernels::SumRanksAttrs>();  // a reduce has more behind them
      result.ranks = static_cast<int>(attrs.ranks);
      const double all = all_reduce_seconds(bytes_of(plan, step), result.ranks, way);
      use_way(step.op == "sum_ranks_start" ? all : all / 2);
      done[attrs.number] = way_free;
      result.bytes_sent += step.bytes;
      ++result.sums;
    } else if (step.op == "sum_ranks_wait" || step.op == "reduce_ranks_wait" || step.op == "reduce_ranks_sent") {
      now = std::max(now, done.at(step.attributes<kernels::SumRanksAttrs>().number));
    } else if (step.op == "broadcast_ranks_send" || step.op == "broadcast_ranks_receive") {
      const auto attrs = step.attributes<kernels::RootedRanksAttrs>();
      use_way(broadcast_seconds(step.bytes, static_cast<int>(attrs.ranks), way));
      if (step.op == "broadcast_ranks_send") result.bytes_sent += step.bytes;
      ++result.broadcasts;
    } else {
      const double seconds = Plan::seconds(step, ceilings);
      now += seconds;
      result.compute_seconds += seconds;
    }
  }
  result.step_seconds = std::max(now, way_free);
  return result;
}

}  // namespace trivet
