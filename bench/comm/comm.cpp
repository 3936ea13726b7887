// What ranks of this machine reach together: the time of an all-reduce of float32, for several sizes, as the slowest
// rank sees it, and the message's bytes divided by it ("algorithm bandwidth"). A round is as many calls as take about a
// tenth of a second; the figures are the median, the smallest and the largest of the rounds.
//   bench/comm                              shm and gloo, 2 ranks, 1 KB to 64 MB
//   bench/comm --kind shm --ranks 2 --bytes 67108864 --rounds 9 --json
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "trivet/base/clock.h"
#include "trivet/base/table.h"
#include "trivet/base/text.h"
#include "trivet/comm/communicator.h"

namespace trivet {
namespace {

struct Options {
  std::vector<std::string> kinds = {"shm", "gloo"};
  std::vector<std::int64_t> bytes = {1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10,
                                     1 << 20, 4 << 20, 16 << 20, 64 << 20};
  int ranks = 2;
  int rounds = 7;
  bool json = false;
};

struct Figures {
  std::string kind;
  std::int64_t bytes;
  std::vector<double> seconds;  // of a call, for each round, ascending

  double median() const { return seconds[seconds.size() / 2]; }
  double rate(double s) const { return static_cast<double>(bytes) / s / 1e9; }
};

// Seconds of a call, by the slowest rank.
double time_calls(Communicator& ranks, std::span<const Piece> message, int calls) {
  ranks.barrier();
  const double began = steady_seconds();
  for (int i = 0; i < calls; ++i) ranks.all_reduce(message, DType::f32, ReduceOp::sum);
  double seconds = (steady_seconds() - began) / calls;
  const Piece piece{&seconds, 1};
  ranks.all_reduce(std::span(&piece, 1), DType::f64, ReduceOp::max);
  return seconds;
}

Figures measure(Communicator& ranks, std::int64_t bytes, int rounds) {
  std::vector<float> data(static_cast<std::size_t>(bytes) / sizeof(float), 0.0F);
  const Piece piece{data.data(), static_cast<std::int64_t>(data.size())};
  const std::span message(&piece, 1);
  time_calls(ranks, message, 1);
  const double first = time_calls(ranks, message, 3);
  const int calls = static_cast<int>(std::clamp(0.1 / first, 1.0, 100'000.0));
  Figures figures{ranks.kind(), bytes, {}};
  for (int i = 0; i < rounds; ++i) figures.seconds.push_back(time_calls(ranks, message, calls));
  std::sort(figures.seconds.begin(), figures.seconds.end());
  return figures;
}

void print(const std::vector<Figures>& all, const Options& options) {
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Figures& f : all) {
      list.push_back({{"kind", f.kind},
                      {"ranks", options.ranks},
                      {"bytes", f.bytes},
                      {"seconds", f.seconds},
                      {"median_seconds", f.median()},
                      {"GB_per_s", f.rate(f.median())}});
    }
    std::cout << list.dump(1) << "\n";
    return;
  }
  Table table({"communicator", "ranks", "size", "median", "fastest", "slowest", "GB/s", "best", "worst"});
  for (const Figures& f : all) {
    table.add_row({f.kind, std::to_string(options.ranks), format_bytes(static_cast<std::uint64_t>(f.bytes)),
                   format_seconds(f.median()), format_seconds(f.seconds.front()), format_seconds(f.seconds.back()),
                   fmt::format("{:.3f}", f.rate(f.median())), fmt::format("{:.3f}", f.rate(f.seconds.front())),
                   fmt::format("{:.3f}", f.rate(f.seconds.back()))});
  }
  std::cout << table.str();
}

int run_rank(CommunicatorOptions options, const Options& bench) {
  std::vector<Figures> all;
  for (const std::string& kind : bench.kinds) {
    options.kind = kind;
    const auto ranks = join(options);
    for (const std::int64_t bytes : bench.bytes) all.push_back(measure(*ranks, bytes, bench.rounds));
    ranks->barrier();
  }
  if (options.rank == 0) print(all, bench);
  return 0;
}

int run(const Options& bench) {
  CommunicatorOptions options;
  options.size = bench.ranks;
  options.port = free_port();
  options.token = random_token();
  std::vector<pid_t> others;
  for (options.rank = bench.ranks - 1; options.rank > 0; --options.rank) {
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        _exit(run_rank(options, bench));
      } catch (const std::exception& e) {
        std::cerr << e.what() << std::endl;
        _exit(1);
      }
    }
    others.push_back(pid);
  }
  int code = run_rank(options, bench);
  for (const pid_t pid : others) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) code = 1;
  }
  return code;
}

}  // namespace
}  // namespace trivet

int main(int argc, char** argv) {
  trivet::Options options;
  CLI::App app("All-reduce between ranks of this machine");
  app.add_option("--kind", options.kinds, "shm, gloo");
  app.add_option("--bytes", options.bytes, "sizes of the message")->check(CLI::Range(4, 1 << 30));
  app.add_option("--ranks", options.ranks)->check(CLI::Range(2, 64));
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000));
  app.add_flag("--json", options.json);
  CLI11_PARSE(app, argc, argv);
  try {
    return trivet::run(options);
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
