// A job as YAML with nothing left out. Keys stand in the order of docs/job-file.md.
#include "trivet/formats/config.h"
#include "trivet/job/spec.h"

namespace trivet {
namespace {

void write_files(ConfigWriter& out, const DataFiles& files) {
  const auto path = [&](const char* key, const std::filesystem::path& value) {
    if (!value.empty()) out.text(key, value.native());
  };
  path("images", files.images);
  path("labels", files.labels);
  path("file", files.file);
  path("targets", files.targets);
}

void write_table(ConfigWriter& out, const TableConfig& table) {
  out.open("table");
  if (!table.target.empty()) out.text("target", table.target);
  if (!table.columns.empty()) {
    out.open_list("columns");
    for (const auto& [name, type] : table.columns) {
      out.next_item();
      out.text("name", name);
      out.text("type", type);
    }
    out.close_list();
  }
  out.text("categories", table.categories);
  out.text("missing", table.missing);
  out.close();
}

void write_data(ConfigWriter& out, const DataConfig& data) {
  out.open("data");
  out.open("train");
  write_files(out, data.train);
  out.close();
  if (data.test) {
    out.open("test");
    write_files(out, *data.test);
    out.close();
  }
  out.number("validation", data.validation);
  out.flag("normalize", data.normalize);
  if (data.train.is_images()) {
    out.open("augment");
    out.integer("crop_padding", data.augment.crop_padding);
    out.flag("flip", data.augment.flip);
    out.close();
  } else {
    write_table(out, data.table);
  }
  out.text("target", data.target);
  out.text("class_weights", data.class_weights);
  out.text("sampler", data.sampler);
  out.integer("prefetch", data.prefetch);
  out.close();
}

void write_layer(ConfigWriter& out, const LayerConfig& layer) {
  const bool conv = layer.type == "conv";
  const bool dense = layer.type == "dense";
  const bool pool = layer.type == "max_pool" || layer.type == "average_pool";
  out.text("type", layer.type);
  if (dense) out.integer("units", layer.units);
  if (conv) out.integer("filters", layer.filters);
  if (conv) out.integer("kernel", layer.kernel);
  if (pool) out.integer("size", layer.size);
  if (conv || pool) out.integer("stride", layer.stride);
  if (conv) out.text("padding", layer.padding);
  if (layer.type == "dropout") out.number("rate", layer.rate);
  if (dense || conv) out.flag("bias", layer.bias);
  if (dense || conv || layer.type == "activation") out.text("activation", layer.activation);
}

void write_model(ConfigWriter& out, const ModelConfig& model) {
  const bool cnn = model.name == "cnn";
  out.open("model");
  out.text("name", model.name);
  const bool resnet = model.name == "resnet";
  const bool lstm = model.name == "lstm";
  if (cnn) out.integers("channels", model.channels);
  if (!model.hidden.empty()) {
    out.integers("hidden", model.hidden);
    out.text("activation", model.activation);
  }
  if (cnn) out.flag("batch_norm", model.batch_norm);
  if (resnet) out.text("form", model.form);
  if (resnet || lstm) out.integer("depth", model.depth);
  if (resnet) out.integer("width", model.width);
  if (lstm) out.integer("units", model.units);
  if (model.name == "wide_deep") out.integer("embedding", model.embedding);
  out.text("precision", model.precision);
  if (model.name != "logistic" && model.name != "autoencoder" && model.name != "layers") {
    out.number("dropout", model.dropout);
  }
  if (model.classes > 0) out.integer("classes", model.classes);
  if (model.name == "layers") {
    out.open_list("layers");
    for (const LayerConfig& layer : model.layers) {
      out.next_item();
      write_layer(out, layer);
    }
    out.close_list();
  }
  out.close();
}

void write_optimizer(ConfigWriter& out, const OptimizerConfig& optimizer) {
  out.open("optimizer");
  out.text("name", optimizer.name);
  out.number("lr", optimizer.lr);
  const bool muon = optimizer.name == "muon";
  const bool adamw = optimizer.name == "adamw" || muon;
  if (optimizer.name == "sgd" || muon) {
    out.number("momentum", optimizer.momentum);
    out.flag("nesterov", optimizer.nesterov);
  }
  if (adamw || optimizer.name == "lion") {
    out.number("beta1", optimizer.beta1);
    out.number("beta2", optimizer.beta2);
  }
  if (adamw) out.number("epsilon", optimizer.epsilon);
  out.number("weight_decay", optimizer.weight_decay);
  out.close();
}

void write_schedule(ConfigWriter& out, const ScheduleConfig& schedule) {
  out.open("schedule");
  out.text("name", schedule.name);
  const bool one_cycle = schedule.name == "one_cycle";
  if (!one_cycle) out.integer("warmup_steps", schedule.warmup_steps);
  if (one_cycle || schedule.name == "cosine" || schedule.name == "linear") out.number("floor", schedule.floor);
  if (one_cycle) {
    out.number("start", schedule.start);
    out.number("rise", schedule.rise);
  }
  if (schedule.name == "step") {
    out.integers("milestones", schedule.milestones);
    out.number("gamma", schedule.gamma);
  }
  out.close();
}

void write_train(ConfigWriter& out, const TrainConfig& train, bool has_validation) {
  out.open("train");
  out.integer("epochs", train.epochs);
  out.integer("batch", train.batch);
  out.integer("micro_batch", train.micro_batch);
  out.integer("shards", train.shards);
  out.integer("zero", train.zero);
  if (!train.loss.empty()) out.text("loss", train.loss);
  write_optimizer(out, train.optimizer);
  write_schedule(out, train.schedule);
  out.number("clip_norm", train.clip_norm);
  if (train.top_k > 0) out.integer("top_k", train.top_k);
  out.open("checkpoint");
  out.integer("every_steps", train.checkpoint.every_steps);
  out.integer("every_epochs", train.checkpoint.every_epochs);
  out.integer("keep_last", train.checkpoint.keep_last);
  out.flag("keep_best", train.checkpoint.keep_best);
  if (has_validation && !train.checkpoint.best_metric.empty()) {
    out.text("best_metric", train.checkpoint.best_metric);
  }
  out.close();
  if (train.average) {
    out.open("average");
    out.number("decay", train.average->decay);
    out.integer("start_step", train.average->start_step);
    out.close();
  }
  if (train.early_stop) {
    out.open("early_stop");
    out.integer("patience", train.early_stop->patience);
    out.number("min_delta", train.early_stop->min_delta);
    out.close();
  }
  out.close();
}

void write_infer(ConfigWriter& out, const InferConfig& infer) {
  out.open("data");
  write_files(out, infer.data);
  out.close();
  out.open("infer");
  out.text("run", infer.run.native());
  out.text("checkpoint", infer.checkpoint);
  out.integer("batch", infer.batch);
  if (!infer.output.empty()) out.text("output", infer.output.native());
  out.text("format", infer.format);
  out.text("precision", infer.precision);
  out.close();
}

}  // namespace

std::string resolved_yaml(const JobSpec& spec) {
  ConfigWriter out;
  out.text("kind", spec.kind);
  out.text("name", spec.name);
  out.integer("seed", static_cast<std::int64_t>(spec.seed));
  out.text("device", spec.device);
  out.integer("threads", spec.threads);
  if (spec.kind == "train") {
    out.integer("ranks", spec.ranks);
    out.integer("restarts", spec.restarts);
    out.integer("rank_deadline", spec.rank_deadline);
  }
  if (spec.train.memory > 0) out.text("memory", fmt::format("{}KiB", spec.train.memory / 1024));
  if (spec.kind == "infer") {
    write_infer(out, spec.infer);
  } else {
    write_data(out, spec.data);
    write_model(out, spec.model);
    write_train(out, spec.train, spec.data.validation > 0);
  }
  return out.str();
}

}  // namespace trivet
