// Small data and small jobs for tests of the whole program: a run takes a fraction of a second.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tests/formats/test_files.h"
#include "trivet/data/random.h"

namespace trivet::testing {

struct SmallSet {
  std::vector<std::uint8_t> pixels;  // (N, side, side)
  std::vector<std::uint8_t> labels;  // (N)
};

// Ten classes, each a bright bar at a place of its own over noise: learnt in a few epochs, but not by chance.
inline SmallSet small_set(std::int64_t count, std::int64_t side = 12, std::uint64_t seed = 5) {
  SmallSet set;
  DrawSequence draws(seed);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto label = static_cast<std::int64_t>(draws.below(10));
    set.labels.push_back(static_cast<std::uint8_t>(label));
    for (std::int64_t y = 0; y < side; ++y) {
      for (std::int64_t x = 0; x < side; ++x) {
        const bool bright = label < 5 ? y / 2 == label : x / 2 == label - 5;
        set.pixels.push_back(static_cast<std::uint8_t>(draws.below(128) + (bright ? 100 : 0)));
      }
    }
  }
  return set;
}

// Writes NAME.images and NAME.labels.
inline void write_small_set(const TempDir& folder, const std::string& name, std::int64_t count, std::int64_t side = 12,
                            std::uint64_t seed = 5) {
  const SmallSet set = small_set(count, side, seed);
  folder.write(name + ".images", idx({count, side, side}, set.pixels));
  folder.write(name + ".labels", idx({count}, set.labels));
}

// Convolutions, batch normalization, dropout, augmentation, SGD with momentum, clipping; the last batch is smaller.
inline std::string cnn_job(int epochs = 3) {
  return fmt::format(R"(kind: train
name: cnn
seed: 7
threads: 1
data:
  train: {{images: train.images, labels: train.labels}}
  augment: {{crop_padding: 1, flip: true}}
  validation: 0.15
model: {{name: cnn, channels: [4], hidden: [12], dropout: 0.2, batch_norm: true}}
train:
  epochs: {}
  batch: 32
  clip_norm: 1.5
  optimizer: {{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 0.0001}}
  checkpoint: {{every_steps: 3}}
)",
                     epochs);
}

// Accumulated gradients, AdamW, a cosine schedule with warm-up; batches and micro-batches both with a smaller last one.
inline std::string micro_batch_job(int epochs = 3) {
  return fmt::format(R"(kind: train
name: micro
seed: 8
threads: 1
data:
  train: {{images: train.images, labels: train.labels}}
  augment: {{crop_padding: 1}}
model: {{name: mlp, hidden: [24], dropout: 0.1}}
train:
  epochs: {}
  batch: 32
  micro_batch: 12
  clip_norm: 2
  optimizer: {{name: adamw, lr: 0.01, weight_decay: 0.01}}
  schedule: {{name: cosine, warmup_steps: 4, floor: 0.05}}
  checkpoint: {{every_steps: 3}}
)",
                     epochs);
}

// Learnt to the last held-out sample early on, so that the best checkpoint is an old one.
inline std::string easy_job() {
  return R"(kind: train
name: easy
threads: 1
data: {train: {images: train.images, labels: train.labels}}
model: {name: mlp, hidden: [32]}
train:
  epochs: 14
  batch: 32
  optimizer: {name: adamw, lr: 0.01}
)";
}

inline std::string infer_job(const std::string& run, const std::string& format = "csv") {
  return fmt::format(R"(kind: infer
name: predict
threads: 1
data: {{images: test.images, labels: test.labels}}
infer: {{run: '{}', format: {}}}
)",
                     run, format);
}

}  // namespace trivet::testing
