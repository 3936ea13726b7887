#include "scheduler/job/read.h"

#include <algorithm>
#include <charconv>

#include "trivet/base/text.h"
#include "trivet/models/build.h"

namespace trivet {
namespace {

using Names = std::vector<std::string>;

constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kMaxSteps = 1'000'000'000;
constexpr std::int64_t kMaxSeed = INT64_MAX;  // fits the integers of JSON readers and SQLite
constexpr std::int64_t kMostRanks = 65'536;
constexpr std::size_t kMaxLayers = 1000;
constexpr std::size_t kMaxColumns = 10'000;
constexpr std::size_t kMaxNameBytes = 64;

const Names kActivations = {"none", "relu", "gelu", "silu", "tanh", "sigmoid"};
const Names kLayerTypes = {"dense",      "conv",    "max_pool", "average_pool", "batch_norm",
                           "layer_norm", "flatten", "dropout",  "activation"};

// Whether `key` counts under the choice made in `decider` ("name: sgd"). If not, it must not be there.
bool applies(const ConfigNode& node, const std::string& key, const std::string& decider, const std::string& chosen,
             const Names& allowed) {
  if (std::find(allowed.begin(), allowed.end(), chosen) != allowed.end()) return true;
  if (chosen.empty()) {
    node.ignore(key);
  } else {
    node.refuse(key,
                fmt::format("applies only with {}: {}, found {}: {}", decider, join(allowed, " or "), decider, chosen),
                fmt::format("remove it, or change {}", decider));
  }
  return false;
}

std::filesystem::path resolve(const ConfigNode& node, const std::string& key, const std::filesystem::path& written,
                              const std::filesystem::path& base) {
  if (written.empty()) return {};
  const std::filesystem::path path = (base / written).lexically_normal();
  if (!is_config_text(path.native())) {
    node.problem(key, "the folder of the job file has a name that is not plain UTF-8 text", "rename the folder");
  }
  return path;
}

// Images with labels, or one file with everything; which of them is told by the keys that are there.
DataFiles read_files(const ConfigNode& node, const std::filesystem::path& base, bool labels_required) {
  DataFiles files;
  const auto path = [&](const char* key, const std::filesystem::path& written) {
    return resolve(node, key, written, base);
  };
  files.file = path("file", node.path("file"));
  if (!files.file.empty()) {
    const char* why = "applies only to images, and `file` is given";
    const char* hint = "give images and labels, or one file";
    node.refuse("images", why, hint);
    node.refuse("labels", why, hint);
    files.targets = path("targets", node.path("targets"));
    return files;
  }
  node.refuse("targets", "applies only with `file`", "labels of images are given as `labels`");
  files.images = path("images", node.required_path("images"));
  files.labels = path("labels", labels_required ? node.required_path("labels") : node.path("labels"));
  return files;
}

TableConfig read_table(const ConfigNode& node) {
  TableConfig table;
  table.target = node.text("target", table.target);
  for (const ConfigNode& column : node.sections("columns", kMaxColumns)) {
    const std::string name = column.required_text("name");
    const std::string type = column.required_choice("type", Names{"number", "category", "ignore"});
    if (!table.columns.emplace(name, type).second) {
      column.problem("name", fmt::format("the column '{}' is there twice", name), "remove one of them");
    }
  }
  table.categories = node.choice("categories", table.categories, Names{"one_hot", "indices"});
  table.missing = node.choice("missing", table.missing, Names{"impute", "error"});
  return table;
}

DataConfig read_data(const ConfigNode& node, const std::filesystem::path& base, const ModelConfig& model) {
  DataConfig data;
  const bool labels = !reconstructs(model);
  data.train = read_files(node.required_section("train"), base, labels);
  const ConfigNode test = node.section("test");
  const DataFiles test_files = read_files(test, base, labels);
  if (test.present()) data.test = test_files;
  data.validation = node.number("validation", data.validation, NumberRange::below(0, 1));
  data.normalize = node.flag("normalize", data.normalize);
  const bool images = data.train.file.empty();
  if (images) {
    node.refuse("table", "applies only with `file`", "remove it");
  } else {
    node.refuse("augment", "applies only to images", "remove it");
  }
  const ConfigNode augment = node.section("augment");
  data.augment.crop_padding = augment.integer("crop_padding", data.augment.crop_padding, 0, 64);
  data.augment.flip = augment.flag("flip", data.augment.flip);
  data.table = read_table(node.section("table"));
  data.target = node.choice("target", data.target, Names{"auto", "label", "number"});
  data.class_weights = node.choice("class_weights", data.class_weights, Names{"none", "balanced"});
  data.sampler = node.choice("sampler", data.sampler, Names{"shuffle", "balanced"});
  data.prefetch = node.integer("prefetch", data.prefetch, 0, 1024);
  return data;
}

LayerConfig read_layer(const ConfigNode& node) {
  LayerConfig layer;
  layer.type = node.required_choice("type", kLayerTypes);
  const auto has = [&](const std::string& key, const Names& types) {
    return applies(node, key, "type", layer.type, types);
  };
  if (has("units", {"dense"})) layer.units = node.required_integer("units", 1, kMillion);
  if (has("filters", {"conv"})) layer.filters = node.required_integer("filters", 1, 65536);
  if (has("kernel", {"conv"})) layer.kernel = node.integer("kernel", layer.kernel, 1, 64);
  if (has("size", {"max_pool", "average_pool"})) layer.size = node.integer("size", layer.size, 1, 64);
  if (has("stride", {"conv", "max_pool", "average_pool"})) {
    layer.stride = node.integer("stride", layer.type == "conv" ? 1 : layer.size, 1, 64);
  }
  if (has("padding", {"conv"})) layer.padding = node.choice("padding", layer.padding, Names{"same", "valid"});
  if (has("rate", {"dropout"})) layer.rate = node.required_number("rate", NumberRange::below(0, 1));
  if (has("bias", {"dense", "conv"})) layer.bias = node.flag("bias", layer.bias);
  if (layer.type == "activation") {
    layer.activation = node.required_choice("activation", std::span(kActivations).subspan(1));
  } else if (has("activation", {"dense", "conv", "activation"})) {
    layer.activation = node.choice("activation", layer.activation, kActivations);
  }
  return layer;
}

ModelConfig read_model(const ConfigNode& node) {
  ModelConfig model;
  model.name = node.choice("name", model.name,
                           Names{"logistic", "mlp", "cnn", "resnet", "wide_deep", "lstm", "autoencoder", "layers"});
  const auto has = [&](const std::string& key, const Names& names) {
    return applies(node, key, "name", model.name, names);
  };
  if (has("hidden", {"mlp", "cnn", "wide_deep", "autoencoder"})) {
    std::vector<std::int64_t> hidden = {model.name == "mlp" ? 256 : 128};
    if (model.name == "wide_deep") hidden.push_back(64);
    if (model.name == "autoencoder") hidden.push_back(32);
    model.hidden = node.integers("hidden", hidden, 1, kMillion, kMaxLayers);
  }
  if (has("channels", {"cnn"})) model.channels = node.integers("channels", model.channels, 1, 65536, 64);
  model.precision = node.choice("precision", model.precision, Names{"f32", "bf16", "bf16_weights", "f16"});
  if (has("form", {"resnet"})) model.form = node.choice("form", model.form, Names{"cifar", "imagenet"});
  if (has("depth", {"resnet", "lstm"})) model.depth = node.integer("depth", model.name == "lstm" ? 1 : 20, 1, 1000);
  if (has("width", {"resnet"})) model.width = node.integer("width", model.form == "cifar" ? 16 : 64, 1, 65536);
  if (has("units", {"lstm"})) model.units = node.integer("units", model.units, 1, 65536);
  if (has("embedding", {"wide_deep"})) model.embedding = node.integer("embedding", model.embedding, 1, 65536);
  if (has("activation", {"mlp", "cnn", "wide_deep", "autoencoder"})) {
    model.activation = node.choice("activation", model.activation, kActivations);
  }
  if (has("batch_norm", {"cnn"})) model.batch_norm = node.flag("batch_norm", model.batch_norm);
  if (has("dropout", {"mlp", "cnn", "resnet", "wide_deep", "lstm"}))
    model.dropout = node.number("dropout", model.dropout, NumberRange::below(0, 1));
  if (has("classes", {"logistic", "mlp", "cnn", "resnet", "wide_deep", "lstm", "layers"}))
    model.classes = node.integer("classes", model.classes, 2, kMillion);
  if (has("layers", {"layers"})) {
    for (const ConfigNode& layer : node.sections("layers", kMaxLayers)) model.layers.push_back(read_layer(layer));
  }
  return model;
}

OptimizerConfig read_optimizer(const ConfigNode& node) {
  OptimizerConfig optimizer;
  optimizer.name = node.choice("name", optimizer.name, Names{"sgd", "adamw", "lion", "adafactor", "muon"});
  const auto has = [&](const std::string& key, const Names& names) {
    return applies(node, key, "name", optimizer.name, names);
  };
  optimizer.lr = node.number("lr", optimizer.lr, NumberRange::above(0, 1000));
  const NumberRange decay = NumberRange::below(0, 1);
  const bool muon = optimizer.name == "muon";
  if (has("momentum", {"sgd", "muon"})) {
    optimizer.momentum = node.number("momentum", muon ? 0.95 : optimizer.momentum, decay);
  }
  if (has("nesterov", {"sgd", "muon"})) optimizer.nesterov = node.flag("nesterov", muon);
  if (has("beta1", {"adamw", "lion", "muon"})) optimizer.beta1 = node.number("beta1", optimizer.beta1, decay);
  if (has("beta2", {"adamw", "lion", "muon"})) {
    optimizer.beta2 = node.number("beta2", optimizer.name == "lion" ? 0.99 : optimizer.beta2, decay);
  }
  if (has("epsilon", {"adamw", "muon"})) {
    optimizer.epsilon = node.number("epsilon", optimizer.epsilon, NumberRange::above(0, 1));
  }
  optimizer.weight_decay = node.number("weight_decay", optimizer.weight_decay, NumberRange::closed(0, 1000));
  return optimizer;
}

ScheduleConfig read_schedule(const ConfigNode& node) {
  ScheduleConfig schedule;
  schedule.name = node.choice("name", schedule.name, Names{"constant", "step", "cosine", "linear", "one_cycle"});
  const auto has = [&](const std::string& key, const Names& names) {
    return applies(node, key, "name", schedule.name, names);
  };
  if (has("warmup_steps", {"constant", "step", "cosine", "linear"})) {
    schedule.warmup_steps = node.integer("warmup_steps", schedule.warmup_steps, 0, kMaxSteps);
  }
  if (has("floor", {"cosine", "linear", "one_cycle"})) {
    schedule.floor = node.number("floor", schedule.floor, NumberRange::closed(0, 1));
  }
  if (has("milestones", {"step"})) schedule.milestones = node.integers("milestones", {}, 1, kMillion, kMaxLayers);
  if (has("gamma", {"step"})) schedule.gamma = node.number("gamma", schedule.gamma, NumberRange::above(0, 1));
  if (has("start", {"one_cycle"})) schedule.start = node.number("start", schedule.start, NumberRange::above(0, 1));
  if (has("rise", {"one_cycle"})) schedule.rise = node.number("rise", schedule.rise, NumberRange::closed(0, 1));
  return schedule;
}

CheckpointConfig read_checkpoint(const ConfigNode& node, double validation) {
  CheckpointConfig checkpoint;
  checkpoint.every_steps = node.integer("every_steps", checkpoint.every_steps, 0, kMaxSteps);
  checkpoint.every_epochs = node.integer("every_epochs", checkpoint.every_epochs, 1, kMillion);
  checkpoint.keep_last = node.integer("keep_last", checkpoint.keep_last, 1, 1000);
  checkpoint.keep_best = node.flag("keep_best", validation > 0);
  checkpoint.best_metric =
      node.choice("best_metric", checkpoint.best_metric, Names{"accuracy", "loss", "f1", "auc", "r2", "mae"});
  return checkpoint;
}

std::optional<AverageConfig> read_average(const ConfigNode& node) {
  AverageConfig average;
  average.decay = node.number("decay", average.decay, NumberRange::below(0, 1));
  average.start_step = node.integer("start_step", average.start_step, 0, kMaxSteps);
  return node.present() ? std::optional(average) : std::nullopt;
}

std::optional<EarlyStopConfig> read_early_stop(const ConfigNode& node) {
  EarlyStopConfig early_stop;
  early_stop.patience = node.integer("patience", early_stop.patience, 1, kMillion);
  early_stop.min_delta = node.number("min_delta", early_stop.min_delta, NumberRange::closed(0, 1e6));
  return node.present() ? std::optional(early_stop) : std::nullopt;
}

TrainConfig read_train(const ConfigNode& node, const JobSpec& spec) {
  TrainConfig train;
  train.epochs = node.integer("epochs", train.epochs, 1, kMillion);
  train.batch = node.integer("batch", train.batch, 1, kMillion);
  train.micro_batch = node.integer("micro_batch", train.micro_batch, 0, kMillion);
  train.shards = node.integer("shards", train.shards, 0, kMostRanks);
  train.zero = node.integer("zero", train.zero, 0, 2);
  train.loss = node.choice("loss", train.loss, Names{"mse", "l1", "huber"});
  train.optimizer = read_optimizer(node.section("optimizer"));
  train.schedule = read_schedule(node.section("schedule"));
  train.clip_norm = node.number("clip_norm", train.clip_norm, NumberRange::closed(0, 1e6));
  train.top_k = node.integer("top_k", train.top_k, 1, kMillion);
  train.checkpoint = read_checkpoint(node.section("checkpoint"), spec.data.validation);
  train.average = read_average(node.section("average"));
  train.early_stop = read_early_stop(node.section("early_stop"));
  return train;
}

InferConfig read_infer(const ConfigNode& root, const std::filesystem::path& base) {
  InferConfig infer;
  infer.data = read_files(root.required_section("data"), base, false);
  const ConfigNode node = root.required_section("infer");
  const std::filesystem::path written = node.required_path("run");
  const std::filesystem::path run = resolve(node, "run", written, base);
  std::error_code unreadable;
  infer.run = std::filesystem::exists(run, unreadable) ? run : written;
  infer.checkpoint = node.choice("checkpoint", infer.checkpoint, Names{"best", "last"});
  infer.batch = node.integer("batch", infer.batch, 1, kMillion);
  infer.output = resolve(node, "output", node.path("output"), base);
  infer.format = node.choice("format", infer.format, Names{"csv", "jsonl", "npy"});
  infer.precision = node.choice("precision", infer.precision, Names{"model", "int8"});
  return infer;
}

// "512MiB", "2GiB", "1.5GiB"; 0 if the key is absent.
std::size_t read_bytes(const ConfigNode& node, const std::string& key) {
  const std::string text = node.text(key, "");
  if (text.empty()) return 0;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = std::string_view(text).substr(static_cast<std::size_t>(end - text.data()));
  const double scale = unit == "KiB" ? 0x1p10 : unit == "MiB" ? 0x1p20 : unit == "GiB" ? 0x1p30 : 0;
  constexpr double kMost = 0x1p50;
  if (error != std::errc{} || !(number > 0) || scale == 0 || number * scale > kMost) {
    node.problem(key, fmt::format("'{}' is no amount of memory", text), "write a number with KiB, MiB or GiB: 2GiB");
    return 0;
  }
  return static_cast<std::size_t>(number * scale);
}

// Names become parts of file names and run ids.
std::string read_name(const ConfigNode& root) {
  const std::string name = root.required_text("name");
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool fits = name.empty() || (name.size() <= kMaxNameBytes && letter_or_digit(name[0]) &&
                                     std::all_of(name.begin(), name.end(), [&](char c) {
                                       return letter_or_digit(c) || c == '-' || c == '_' || c == '.';
                                     }));
  if (!fits) {
    root.problem(
        "name", fmt::format("'{}' cannot be a job's name", name.substr(0, kMaxNameBytes)),
        fmt::format("use at most {} letters, digits, '-', '_' and '.', with a letter or digit first", kMaxNameBytes));
  }
  return name;
}

}  // namespace

JobSpec read_job(const ConfigNode& root, const std::filesystem::path& base) {
  JobSpec spec;
  spec.kind = root.required_choice("kind", Names{"train", "infer"});
  spec.name = read_name(root);
  spec.seed = static_cast<std::uint64_t>(root.integer("seed", static_cast<std::int64_t>(spec.seed), 0, kMaxSeed));
  spec.device = root.choice("device", spec.device, Names{"cpu", "cuda"});
  spec.threads = static_cast<int>(root.integer("threads", spec.threads, 0, 1024));
  if (applies(root, "model", "kind", spec.kind, {"train"})) spec.model = read_model(root.section("model"));
  if (spec.kind == "train") spec.data = read_data(root.required_section("data"), base, spec.model);
  if (applies(root, "train", "kind", spec.kind, {"train"})) spec.train = read_train(root.section("train"), spec);
  if (applies(root, "ranks", "kind", spec.kind, {"train"})) {
    spec.ranks = static_cast<int>(root.integer("ranks", spec.ranks, 1, kMostRanks));
  }
  if (applies(root, "restarts", "kind", spec.kind, {"train"})) {
    spec.restarts = static_cast<int>(root.integer("restarts", spec.restarts, 0, 1000));
  }
  if (applies(root, "rank_deadline", "kind", spec.kind, {"train"})) {
    spec.rank_deadline = static_cast<int>(root.integer("rank_deadline", spec.rank_deadline, 1, 86'400));
  }
  if (applies(root, "memory", "kind", spec.kind, {"train"})) spec.train.memory = read_bytes(root, "memory");
  if (applies(root, "infer", "kind", spec.kind, {"infer"})) spec.infer = read_infer(root, base);
  if (spec.kind.empty()) root.ignore("data");
  return spec;
}

}  // namespace trivet
