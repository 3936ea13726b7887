// Folders as runs leave them, for tests of the pages that are made of them.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/report/encode.h"
#include "tests/formats/test_files.h"

namespace trivet::testing {

using nlohmann::json;

// Losses fall and accuracies rise like those of a run that goes well; `rate` sets how fast.
inline std::string metrics_text(int epochs, int steps, double rate = 1) {
  std::string text;
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double loss = 0;
    for (int i = 1; i <= steps; ++i) {
      const int step = (epoch - 1) * steps + i;
      const double progress = rate * step / (epochs * steps);
      loss = 2.3 * std::exp(-3 * progress) + 0.1 * std::sin(step * 1.7) * std::exp(-2 * progress) + 0.1;
      text += json{{"kind", "step"}, {"step", step},       {"epoch", epoch},
                   {"loss", loss},   {"lr", 1e-3 / epoch}, {"grad_norm", 1 + loss}}
                  .dump() +
              "\n";
    }
    const double accuracy = 1 - 0.9 * std::exp(-2.5 * rate * epoch / epochs);
    text += json{{"kind", "epoch"},
                 {"epoch", epoch},
                 {"step", epoch * steps},
                 {"seconds", 2.0 + 0.1 * (epoch % 3)},
                 {"train", {{"loss", loss}, {"accuracy", accuracy}, {"samples", 6000}}},
                 {"validation",
                  {{"loss", loss + 0.05 * epoch / epochs},
                   {"accuracy", accuracy - 0.03},
                   {"macro_f1", accuracy - 0.04},
                   {"samples", 600}}}}
                .dump() +
            "\n";
  }
  return text;
}

inline std::string final_text(int steps, double accuracy = 0.9125) {
  return json{{"kind", "final"},
              {"steps", steps},
              {"checkpoint", steps - steps / 10},
              {"seconds", 61.5},
              {"peak_resident_bytes", 130 << 20},
              {"planned_bytes", 163 << 20},
              {"train", {{"loss", 0.2}, {"accuracy", 0.95}, {"samples", 6000}}},
              {"validation", {{"loss", 0.3}, {"accuracy", 0.9}, {"samples", 600}}},
              {"test", {{"loss", 0.31}, {"accuracy", accuracy}, {"samples", 1000}}}}
             .dump() +
         "\n";
}

inline const char* plan_text() {
  return R"(plan step, batch 128 on CPU: AVX-512, 2 threads

 #  node                 op             output             FLOPs     bytes  predicted
 0  conv1                conv           f32[128,28,28,32]   57.80 M   13.2 MiB   410.0 us
 1  pool1                max_pool       f32[128,14,14,32]    3.21 M   16.1 MiB     1.20 ms
 2  fc                   matmul         f32[128,10]         25.00 M  512.0 KiB    98.2 us
 3  fc.weight.update     adamw_step                          4.00 k   20.0 KiB     2.0 us

memory at the peak                              bytes
  parameters                     1.6 MiB      1687848
  gradients                      1.6 MiB      1687848
  activations                   40.1 MiB     42047897
arena                           44.0 MiB     46137344
data set                        52.3 MiB     54880000
program and libraries, at most  66.7 MiB     69940019
total, at most                 163.0 MiB    170917888

one step: 4 operations, 86.01 MFLOP, 30.0 MiB moved
predicted: 1.71 ms a step, 74853 samples/s, from measured ceilings (matrix products 200.00 GFLOP/s)
)";
}

inline json image_json(std::int64_t height, std::int64_t width, std::int64_t channels, int seed = 0) {
  std::string pixels;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const double wave =
            std::sin(0.3 * static_cast<double>(x + seed)) * std::cos(0.2 * static_cast<double>(y * (c + 1)));
        pixels += static_cast<char>(std::lround(127.5 + 127 * wave));
      }
    }
  }
  return {{"height", height}, {"width", width}, {"channels", channels}, {"pixels", report::base64(pixels)}};
}

// Class i is taken for class i + 1 in i + 1 of 100 cases.
inline json labels_evaluation(const std::vector<std::string>& classes) {
  json j = {{"task", "label"},           {"split", "test"},      {"samples", 100 * classes.size()},
            {"classes", classes},        {"accuracy", 0.9125},   {"top_k", 0.99},
            {"macro_f1", 0.911},         {"weighted_f1", 0.912}, {"auc", 0.987},
            {"calibration_error", 0.034}};
  const std::size_t n = classes.size();
  for (std::size_t truth = 0; truth < n; ++truth) {
    std::vector<int> row(n, 0);
    const int wrong = static_cast<int>(truth % 40) + 1;
    row[truth] = 100 - wrong;
    row[(truth + 1) % n] += wrong;
    j["confusion"].push_back(row);
    j["per_class"].push_back({{"name", classes[truth]},
                              {"precision", 0.91},
                              {"recall", (100 - wrong) / 100.0},
                              {"f1", 0.9},
                              {"support", 100}});
  }
  for (int bin = 0; bin < 15; ++bin) {
    const double confidence = (bin + 0.5) / 15;
    j["calibration"].push_back(
        {{"confidence", confidence}, {"accuracy", std::pow(confidence, 1.2)}, {"count", bin < 3 ? 0 : 10 * bin}});
  }
  for (int i = 0; i < 24; ++i) {
    j["shown"].push_back({{"sample", 17 * i},
                          {"truth", classes[static_cast<std::size_t>(i) % n]},
                          {"predicted", classes[static_cast<std::size_t>(i < 12 ? i + 1 : i) % n]},
                          {"probability", 0.5 + 0.02 * i},
                          {"image", image_json(28, 28, 1, i)}});
  }
  return j;
}

inline json numbers_evaluation() {
  json j = {{"task", "number"}, {"split", "validation"}, {"samples", 500}, {"r2", 0.87}, {"mae", 2.5}, {"rmse", 3.25}};
  for (int i = 0; i < 500; ++i) {
    const double truth = 5 + 45 * (i / 500.0);
    j["scatter"].push_back({truth, truth + 4 * std::sin(i * 2.1)});
  }
  for (int i = 0; i < 24; ++i) {
    j["shown"].push_back({{"sample", i},
                          {"truth", 20 + i},
                          {"predicted", 20.25 + i},
                          {"columns", json::parse(R"([["rooms", "6.5"], ["tax", "296"], ["river", "no"]])")}});
  }
  return j;
}

inline std::vector<std::string> clothes() {
  return {"T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"};
}

// A whole run that ended well, in `folder`/`name`.
inline std::filesystem::path whole_run(const TempDir& folder, const std::string& name,
                                       const json& evaluation = labels_evaluation(clothes()), double rate = 1) {
  std::filesystem::create_directory(folder / name);
  folder.write(name + "/job.yaml", "kind: train\nname: clothes\nseed: 1\nmodel:\n  name: cnn\n");
  folder.write(name + "/environment.json",
               json{{"started", "2026-11-23T12:00:00Z"},
                    {"trivet", {{"version", "0.1.0"}, {"commit", "abcdef"}}},
                    {"host", {{"name", "zen"}, {"cores", 2}, {"memory_bytes", 25276502016}}},
                    {"device", "CPU: AVX-512, 2 threads"}}
                   .dump());
  folder.write(name + "/plan.txt", plan_text());
  folder.write(name + "/log.txt", "2026-11-23 12:00:00.000 info epoch 1/10: train loss 0.5\n");
  folder.write(name + "/worker.log", "");
  folder.write(name + "/metrics.jsonl", metrics_text(10, 47, rate) + final_text(470, 0.9 + 0.01 * rate));
  folder.write(name + "/evaluation.json", evaluation.dump());
  return folder / name;
}

}  // namespace trivet::testing
