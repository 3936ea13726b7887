#include "trivet/job/spec.h"

#include <gmock/gmock.h>

#include "tests/job/job_files.h"

namespace trivet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(JobTest, ReadsEveryKeyOfATrainingJob) {
  const JobSpec spec = parse(R"(
kind: train
name: every-key
seed: 7
device: cpu
threads: 2
data:
  train: {images: images.idx, labels: labels.idx}
  test: {images: test-images.idx, labels: sub/../test-labels.idx}
  validation: 0.25
  normalize: false
  augment: {crop_padding: 2, flip: true}
  prefetch: 8
model: {name: cnn, channels: [8, 16], hidden: [32], dropout: 0.5, batch_norm: true, activation: gelu, classes: 12}
train:
  epochs: 3
  batch: 64
  micro_batch: 16
  optimizer: {name: sgd, lr: 0.1, momentum: 0.8, weight_decay: 5e-4}
  schedule: {name: step, warmup_steps: 5, milestones: [1, 2], gamma: 0.5}
  clip_norm: 1
  top_k: 3
  checkpoint: {every_steps: 10, every_epochs: 2, keep_last: 3, keep_best: true, best_metric: loss}
)");
  EXPECT_EQ(spec.kind, "train");
  EXPECT_EQ(spec.name, "every-key");
  EXPECT_EQ(spec.seed, 7u);
  EXPECT_EQ(spec.device, "cpu");
  EXPECT_EQ(spec.threads, 2);
  EXPECT_EQ(spec.data.train.images, folder_ / "images.idx");
  EXPECT_EQ(spec.data.train.labels, folder_ / "labels.idx");
  ASSERT_TRUE(spec.data.test.has_value());
  EXPECT_EQ(spec.data.test->images, folder_ / "test-images.idx");
  EXPECT_EQ(spec.data.test->labels, folder_ / "test-labels.idx");
  EXPECT_EQ(spec.data.validation, 0.25);
  EXPECT_FALSE(spec.data.normalize);
  EXPECT_EQ(spec.data.augment, (AugmentConfig{2, true}));
  EXPECT_EQ(spec.data.prefetch, 8);
  EXPECT_EQ(spec.model.name, "cnn");
  EXPECT_THAT(spec.model.channels, ElementsAre(8, 16));
  EXPECT_THAT(spec.model.hidden, ElementsAre(32));
  EXPECT_EQ(spec.model.dropout, 0.5);
  EXPECT_TRUE(spec.model.batch_norm);
  EXPECT_EQ(spec.model.activation, "gelu");
  EXPECT_EQ(spec.model.classes, 12);
  EXPECT_EQ(spec.train.epochs, 3);
  EXPECT_EQ(spec.train.batch, 64);
  EXPECT_EQ(spec.train.micro_batch, 16);
  EXPECT_EQ(spec.train.optimizer.name, "sgd");
  EXPECT_EQ(spec.train.optimizer.lr, 0.1);
  EXPECT_EQ(spec.train.optimizer.momentum, 0.8);
  EXPECT_EQ(spec.train.optimizer.weight_decay, 5e-4);
  EXPECT_EQ(spec.train.schedule.name, "step");
  EXPECT_EQ(spec.train.schedule.warmup_steps, 5);
  EXPECT_THAT(spec.train.schedule.milestones, ElementsAre(1, 2));
  EXPECT_EQ(spec.train.schedule.gamma, 0.5);
  EXPECT_EQ(spec.train.clip_norm, 1.0);
  EXPECT_EQ(spec.train.top_k, 3);
  EXPECT_EQ(spec.train.checkpoint.every_steps, 10);
  EXPECT_EQ(spec.train.checkpoint.every_epochs, 2);
  EXPECT_EQ(spec.train.checkpoint.keep_last, 3);
  EXPECT_TRUE(spec.train.checkpoint.keep_best);
  EXPECT_EQ(spec.train.checkpoint.best_metric, "loss");
}

TEST_F(JobTest, ReadsTheKeysThatOtherChoicesHave) {
  const JobSpec spec = parse(train_text(
      "model: {name: mlp, hidden: [64, 32]}\n"
      "train:\n  optimizer: {beta1: 0.8, beta2: 0.99, epsilon: 1e-6}\n  schedule: {name: cosine, floor: 0.1}\n"));
  EXPECT_EQ(spec.model.name, "mlp");
  EXPECT_THAT(spec.model.hidden, ElementsAre(64, 32));
  EXPECT_EQ(spec.train.optimizer.name, "adamw");
  EXPECT_EQ(spec.train.optimizer.beta1, 0.8);
  EXPECT_EQ(spec.train.optimizer.beta2, 0.99);
  EXPECT_EQ(spec.train.optimizer.epsilon, 1e-6);
  EXPECT_EQ(spec.train.schedule.floor, 0.1);
}

TEST_F(JobTest, LeavesToTheDataWhatTheDataKnow) {
  const JobSpec spec = parse(train_text());
  EXPECT_EQ(spec.model.classes, 0);
  EXPECT_EQ(spec.train.top_k, 0);
  EXPECT_EQ(spec.train.loss, "");
  EXPECT_EQ(spec.train.checkpoint.best_metric, "");
  EXPECT_FALSE(spec.train.average.has_value());
  EXPECT_FALSE(spec.train.early_stop.has_value());
}

TEST_F(JobTest, ReadsTablesAndArrays) {
  write_text(folder_ / "t.csv", "x");
  const JobSpec spec = parse(R"(
kind: train
name: table
data:
  train: {file: t.csv}
  test: {file: t.csv, targets: images.idx}
  table:
    target: "price: in \u20ac"
    columns: [{name: age, type: number}, {name: "a, b", type: ignore}]
    categories: indices
    missing: error
  target: number
  class_weights: balanced
  sampler: balanced
train:
  loss: huber
  optimizer: {name: sgd, nesterov: true}
  schedule: {name: one_cycle, start: 0.1, rise: 0.4, floor: 0.01}
  average: {decay: 0.99, start_step: 10}
  early_stop: {patience: 3, min_delta: 0.01}
  checkpoint: {best_metric: r2}
)");
  EXPECT_EQ(spec.data.train.file, folder_ / "t.csv");
  EXPECT_FALSE(spec.data.train.is_images());
  EXPECT_EQ(spec.data.test->targets, folder_ / "images.idx");
  EXPECT_EQ(spec.data.table.target, "price: in \xe2\x82\xac");
  EXPECT_EQ(spec.data.table.columns, (std::map<std::string, std::string>{{"age", "number"}, {"a, b", "ignore"}}));
  EXPECT_EQ(spec.data.table.categories, "indices");
  EXPECT_EQ(spec.data.table.missing, "error");
  EXPECT_EQ(spec.data.target, "number");
  EXPECT_EQ(spec.data.class_weights, "balanced");
  EXPECT_EQ(spec.data.sampler, "balanced");
  EXPECT_EQ(spec.train.loss, "huber");
  EXPECT_TRUE(spec.train.optimizer.nesterov);
  EXPECT_EQ(spec.train.schedule.start, 0.1);
  EXPECT_EQ(spec.train.schedule.rise, 0.4);
  EXPECT_EQ(spec.train.schedule.floor, 0.01);
  EXPECT_EQ(spec.train.average->decay, 0.99);
  EXPECT_EQ(spec.train.average->start_step, 10);
  EXPECT_EQ(spec.train.early_stop->patience, 3);
  EXPECT_EQ(spec.train.early_stop->min_delta, 0.01);
  EXPECT_EQ(spec.train.checkpoint.best_metric, "r2");
  const JobSpec infer = parse("kind: infer\nname: i\ndata: {file: t.csv}\ninfer: {run: r}\n");
  EXPECT_EQ(infer.infer.data.file, folder_ / "t.csv");
}

TEST_F(JobTest, AnAutoencoderNeedsNoLabels) {
  const JobSpec spec = parse("kind: train\nname: a\ndata: {train: {images: images.idx}}\nmodel: {name: autoencoder}\n");
  EXPECT_TRUE(spec.data.train.labels.empty());
}

TEST_F(JobTest, ReadsLayersOfEveryType) {
  const JobSpec spec = parse(train_text(R"(
model:
  name: layers
  layers:
    - {type: conv, filters: 8, kernel: 5, stride: 2, padding: valid, activation: relu, bias: false}
    - {type: conv, filters: 4}
    - {type: batch_norm}
    - {type: max_pool, size: 3}
    - {type: average_pool, size: 2, stride: 1}
    - {type: flatten}
    - {type: dense, units: 20, activation: tanh}
    - {type: layer_norm}
    - {type: activation, activation: silu}
    - {type: dropout, rate: 0.5}
    - {type: dense, units: 10, bias: false}
)"));
  const std::vector<LayerConfig>& layers = spec.model.layers;
  ASSERT_EQ(layers.size(), 11u);
  EXPECT_EQ(layers[0].filters, 8);
  EXPECT_EQ(layers[0].kernel, 5);
  EXPECT_EQ(layers[0].stride, 2);
  EXPECT_EQ(layers[0].padding, "valid");
  EXPECT_EQ(layers[0].activation, "relu");
  EXPECT_FALSE(layers[0].bias);
  EXPECT_EQ(layers[1].kernel, 3);
  EXPECT_EQ(layers[1].stride, 1);
  EXPECT_EQ(layers[1].padding, "same");
  EXPECT_EQ(layers[1].activation, "none");
  EXPECT_TRUE(layers[1].bias);
  EXPECT_EQ(layers[2].type, "batch_norm");
  EXPECT_EQ(layers[3].size, 3);
  EXPECT_EQ(layers[3].stride, 3);
  EXPECT_EQ(layers[4].stride, 1);
  EXPECT_EQ(layers[6].units, 20);
  EXPECT_EQ(layers[6].activation, "tanh");
  EXPECT_EQ(layers[8].activation, "silu");
  EXPECT_EQ(layers[9].rate, 0.5);
  EXPECT_FALSE(layers[10].bias);
}

TEST_F(JobTest, FillsInDefaultsThatDependOnOtherKeys) {
  EXPECT_THAT(parse(train_text()).model.hidden, ElementsAre(128));
  EXPECT_THAT(parse(train_text("model: {name: mlp}\n")).model.hidden, ElementsAre(256));
  EXPECT_THAT(parse(train_text("model: {name: autoencoder}\n")).model.hidden, ElementsAre(128, 32));
  EXPECT_EQ(parse(train_text("train: {optimizer: {name: lion}}\n")).train.optimizer.beta2, 0.99);
  EXPECT_EQ(parse(train_text("train: {optimizer: {name: muon}}\n")).train.optimizer.momentum, 0.95);
  EXPECT_TRUE(parse(train_text("train: {optimizer: {name: muon}}\n")).train.optimizer.nesterov);
  EXPECT_TRUE(parse(train_text()).train.checkpoint.keep_best);
  EXPECT_FALSE(parse(train_text(), {"data.validation=0"}).train.checkpoint.keep_best);
}

TEST_F(JobTest, ReadsAnInferenceJob) {
  const JobSpec spec =
      parse(infer_text("infer: {run: fashion-cnn-3, checkpoint: last, batch: 32, output: out.jsonl, format: jsonl}\n"));
  EXPECT_EQ(spec.kind, "infer");
  EXPECT_EQ(spec.infer.data.images, folder_ / "images.idx");
  EXPECT_TRUE(spec.infer.data.labels.empty());
  EXPECT_EQ(spec.infer.run, "fashion-cnn-3");  // no such path: the id of a run
  EXPECT_EQ(spec.infer.checkpoint, "last");
  EXPECT_EQ(spec.infer.batch, 32);
  EXPECT_EQ(spec.infer.output, folder_ / "out.jsonl");
  EXPECT_EQ(spec.infer.format, "jsonl");
}

TEST_F(JobTest, TakesTheRunAsAPathWhereThereIsOne) {
  std::filesystem::create_directory(folder_ / "run-1");
  EXPECT_EQ(parse(infer_text("infer: {run: run-1}\n")).infer.run, folder_ / "run-1");
  EXPECT_EQ(parse(infer_text("infer: {run: run-2}\n")).infer.run, "run-2");
  EXPECT_EQ(parse(infer_text(fmt::format("infer: {{run: {}}}\n", (folder_ / "run-1").native()))).infer.run,
            folder_ / "run-1");
  EXPECT_TRUE(parse(infer_text("infer: {run: run-2}\n")).infer.output.empty());
}

TEST_F(JobTest, LoadsAFileWithPathsRelativeToItsFolder) {
  write_text(folder_ / "job.yaml", train_text());
  const JobSpec spec = load_job(folder_ / "job.yaml", std::vector<std::string>{"train.epochs=4"});
  EXPECT_EQ(spec.data.train.images, folder_ / "images.idx");
  EXPECT_EQ(spec.train.epochs, 4);
}

TEST_F(JobTest, NamesAJobFileThatCannotBeRead) {
  const auto io_error = [](const std::filesystem::path& path) {
    try {
      load_job(path, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      EXPECT_THAT(error.what(), HasSubstr(path.native()));
      return;
    }
    ADD_FAILURE() << "no error for " << path;
  };
  io_error(folder_);
  io_error(folder_ / "absent.yaml");
  write_text(folder_ / "large.yaml", std::string((1 << 20) + 1, '#'));
  io_error(folder_ / "large.yaml");
}

TEST_F(JobTest, NamesFilesThatMayNotBeRead) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  write_text(folder_ / "job.yaml", train_text());
  std::filesystem::permissions(folder_ / "job.yaml", std::filesystem::perms::none);
  EXPECT_THROW(load_job(folder_ / "job.yaml", {}), Error);
  std::filesystem::permissions(folder_ / "labels.idx", std::filesystem::perms::none);
  EXPECT_THAT(error_of(train_text()).message(), HasSubstr("data.train.labels: "));
}

TEST_F(JobTest, RoundTripsThroughTheResolvedForm) {
  std::filesystem::create_directory(folder_ / "run #1");
  const std::vector<std::string> texts = {
      train_text(),
      train_text("model: {name: mlp}\ntrain:\n  optimizer: {name: sgd, lr: 0.3333333333333333}\n"),
      train_text("model: {batch_norm: true}\ntrain:\n  schedule: {name: step, milestones: [2, 5]}\n"),
      train_text("seed: 9223372036854775807\ntrain: {schedule: {name: cosine, floor: 1e-300}, micro_batch: 7}\n"),
      train_text("model: {name: layers, layers: [{type: conv, filters: 3}, {type: max_pool}, {type: flatten}, "
                 "{type: dropout, rate: 0.1}, {type: dense, units: 5}, {type: activation, activation: tanh}, "
                 "{type: layer_norm}, {type: dense, units: 10}]}\n"),
      "kind: train\nname: \"5\"\ndata: {train: {images: images.idx, labels: labels.idx}, validation: 0,\n"
      "  test: {images: test-images.idx, labels: test-labels.idx}}\n",
      train_text("model: {name: autoencoder, hidden: [7]}\ntrain: {loss: l1, average: {}, early_stop: {}}\n"),
      train_text("train: {optimizer: {name: muon}, schedule: {name: one_cycle}}\n"),
      train_text("train: {optimizer: {name: lion}, schedule: {name: linear}, top_k: 2}\n"),
      train_text("train: {optimizer: {name: adafactor}, checkpoint: {best_metric: mae}}\n"),
      "kind: train\nname: t\ndata: {train: {file: images.idx, targets: labels.idx}, sampler: balanced,\n"
      "  table: {target: 'a: b', columns: [{name: '- #', type: ignore}]}}\n",
      "kind: infer\nname: i\ndata: {file: images.idx, targets: labels.idx}\ninfer: {run: r}\n",
      train_text("model: {name: resnet, form: imagenet, depth: 18, precision: bf16}\nmemory: 1.5GiB\n"),
      train_text("model: {name: wide_deep, hidden: [8], embedding: 3}\n"),
      train_text("model: {name: lstm, depth: 2, units: 7, dropout: 0.5}\n"),
      train_text("model: {name: logistic}\n"),
      infer_text("infer: {run: some-id}\n"),
      infer_text("infer: {run: 'run #1', output: 'a b: c.csv', format: npy}\n"),
      infer_text("infer: {run: r, precision: int8}\n"),
      train_text("model: {name: mlp, precision: bf16_weights}\n"),
  };
  for (const std::string& text : texts) {
    SCOPED_TRACE(text);
    const std::string resolved = resolved_yaml(parse(text));
    // Paths are absolute by then, so the folder no longer counts.
    EXPECT_EQ(resolved_yaml(parse_job(resolved, "resolved.yaml", {}, "/")), resolved);
  }
}

TEST_F(JobTest, ResolvedFormHoldsEveryKeyThatApplies) {
  const std::vector<std::string> texts = {
      train_text("model: {classes: 4}\ntrain: {schedule: {name: one_cycle}, loss: mse, top_k: 2, average: {}, "
                 "early_stop: {}, checkpoint: {best_metric: f1}}\n"),
      train_text("train:\n  optimizer: {name: sgd}\n  schedule: {name: step, milestones: [1]}\n"),
      train_text("model: {name: layers, layers: [{type: conv, filters: 1}, {type: max_pool}, {type: dropout, rate: 0}, "
                 "{type: dense, units: 10}]}\n"),
      "kind: train\nname: t\ndata: {train: {file: images.idx, targets: labels.idx},\n  test: {file: images.idx},\n"
      "  table: {target: a, columns: [{name: b, type: ignore}]}}\n",
      train_text("model: {name: resnet, precision: bf16}\nmemory: 512MiB\n"),
      train_text("model: {name: wide_deep}\n"),
      train_text("model: {name: lstm}\n"),
      infer_text("infer: {run: r, output: o.csv}\n"),
  };
  std::string all;
  for (const std::string& text : texts) all += resolved_yaml(parse(text));
  for (const std::string& key : job_keys()) {
    const std::string last = key.substr(key.find_last_of('.') + 1);
    EXPECT_THAT(all, HasSubstr(last + ":")) << key;
  }
}

TEST_F(JobTest, ResolvedFormIsWritten) {
  const std::string resolved = resolved_yaml(parse(infer_text("infer: {run: r1}\n")));
  EXPECT_EQ(resolved,
            fmt::format("kind: infer\nname: i\nseed: 1\ndevice: cpu\nthreads: 0\ndata:\n  images: {}\n"
                        "infer:\n  run: r1\n  checkpoint: best\n  batch: 256\n  format: csv\n  precision: model\n",
                        (folder_ / "images.idx").native()));
}

TEST_F(JobTest, OverridesAreAppliedBeforeChecking) {
  const JobSpec spec = parse(train_text("train: {epochs: many}\n"),
                             {"train.epochs=3", "model.hidden=[7]", "data.augment.flip=true", "name=other"});
  EXPECT_EQ(spec.train.epochs, 3);
  EXPECT_THAT(spec.model.hidden, ElementsAre(7));
  EXPECT_TRUE(spec.data.augment.flip);
  EXPECT_EQ(spec.name, "other");
}

}  // namespace
}  // namespace trivet
