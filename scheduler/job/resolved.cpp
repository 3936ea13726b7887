// A job as YAML with nothing left out. Keys stand in the order of docs/job-file.md.
#include "trivet/formats/config.h"
#include "trivet/job/spec.h"

namespace trivet {
namespace {

void write_source(ConfigWriter& out, const DataFiles& source) {
  out.text("images", source.images.native());
  if (!source.labels.empty()) out.text("labels", source.labels.native());
}

void write_data(ConfigWriter& out, const DataConfig& data) {
  out.open("data");
  out.open("train");
  write_source(out, data.train);
  out.close();
  if (data.test) {
    out.open("test");
    write_source(out, *data.test);
    out.close();
  }
  out.number("validation", data.validation);
  out.flag("normalize", data.normalize);
  out.open("augment");
  out.integer("crop_padding", data.augment.crop_padding);
  out.flag("flip", data.augment.flip);
  out.close();
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
  if (model.name != "layers") {
    if (cnn) out.integers("channels", model.channels);
    out.integers("hidden", model.hidden);
    out.text("activation", model.activation);
    if (cnn) out.flag("batch_norm", model.batch_norm);
    out.number("dropout", model.dropout);
  }
  out.integer("classes", model.classes);
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
  if (optimizer.name == "sgd") out.number("momentum", optimizer.momentum);
  if (optimizer.name == "adamw") {
    out.number("beta1", optimizer.beta1);
    out.number("beta2", optimizer.beta2);
    out.number("epsilon", optimizer.epsilon);
  }
  out.number("weight_decay", optimizer.weight_decay);
  out.close();
}

void write_schedule(ConfigWriter& out, const ScheduleConfig& schedule) {
  out.open("schedule");
  out.text("name", schedule.name);
  out.integer("warmup_steps", schedule.warmup_steps);
  if (schedule.name == "cosine") out.number("floor", schedule.floor);
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
  write_optimizer(out, train.optimizer);
  write_schedule(out, train.schedule);
  out.number("clip_norm", train.clip_norm);
  out.integer("top_k", train.top_k);
  out.open("checkpoint");
  out.integer("every_steps", train.checkpoint.every_steps);
  out.integer("every_epochs", train.checkpoint.every_epochs);
  out.integer("keep_last", train.checkpoint.keep_last);
  out.flag("keep_best", train.checkpoint.keep_best);
  if (has_validation) out.text("best_metric", train.checkpoint.best_metric);
  out.close();
  out.close();
}

void write_infer(ConfigWriter& out, const InferConfig& infer) {
  out.open("data");
  write_source(out, infer.data);
  out.close();
  out.open("infer");
  out.text("run", infer.run.native());
  out.text("checkpoint", infer.checkpoint);
  out.integer("batch", infer.batch);
  if (!infer.output.empty()) out.text("output", infer.output.native());
  out.text("format", infer.format);
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
