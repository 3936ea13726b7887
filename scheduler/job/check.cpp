#include <unistd.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "scheduler/job/read.h"

namespace trivet {
namespace {

constexpr const char* kFashionFolder = "/usr/share/datasets/fashion-mnist/";

void check_data_file(const ConfigNode& node, const std::string& key, const std::filesystem::path& path) {
  if (path.empty()) return;
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    const bool packaged = path.native().starts_with(kFashionFolder);
    node.problem(key, fmt::format("there is no file {}", path.native()),
                 packaged ? "install the Debian package dataset-fashion-mnist, or give the path of your copy"
                          : "relative paths are taken from the job file's folder");
  } else if (!std::filesystem::is_regular_file(status)) {
    node.problem(key, fmt::format("{} is not a regular file", path.native()), "give the path of a data file");
  } else if (::access(path.c_str(), R_OK) != 0) {
    node.problem(key, fmt::format("{} cannot be read", path.native()), "check its permissions");
  }
}

void check_files(const ConfigNode& node, const DataFiles& files) {
  check_data_file(node, "images", files.images);
  check_data_file(node, "labels", files.labels);
  check_data_file(node, "file", files.file);
  check_data_file(node, "targets", files.targets);
}

void check_data(const ConfigNode& node, const DataConfig& data) {
  check_files(node.section("train"), data.train);
  if (!data.test) return;
  const ConfigNode test = node.section("test");
  check_files(test, *data.test);
  if (data.test->is_images() != data.train.is_images()) {
    test.problem(data.test->is_images() ? "images" : "file", "is of another kind than the training data",
                 "give both as images, or both as a file");
  }
}

void check_model(const ConfigNode& node, const ModelConfig& model) {
  if (model.name != "layers") return;
  if (model.layers.empty()) {
    node.problem("layers", "model.name: layers needs at least one layer",
                 "such as layers: [{type: flatten}, {type: dense, units: 10}]");
    return;
  }
  const LayerConfig& last = model.layers.back();
  if (last.type == "dense" && model.classes > 0 && last.units != model.classes) {
    node.sections("layers", model.layers.size())
        .back()
        .problem("units", fmt::format("the last layer has {} units for {} classes", last.units, model.classes),
                 "they must be equal; leave model.classes out, and it is taken from the data");
  }
}

void check_schedule(const ConfigNode& node, const ScheduleConfig& schedule) {
  if (schedule.name != "step") return;
  const std::vector<std::int64_t>& milestones = schedule.milestones;
  if (milestones.empty()) {
    node.problem("milestones", "missing; schedule.name: step needs it", "such as milestones: [6, 9]");
  }
  const auto fall = std::adjacent_find(milestones.begin(), milestones.end(), std::greater_equal<>());
  if (fall != milestones.end()) {
    node.problem("milestones", fmt::format("must ascend, found {} before {}", *fall, *(fall + 1)), "sort the epochs");
  }
}

void check_ranks(const ConfigNode& node, const JobSpec& spec) {
  const TrainConfig& train = spec.train;
  if (spec.ranks > train.batch) {
    node.problem("batch", fmt::format("{} samples are fewer than the {} ranks", train.batch, spec.ranks),
                 "each rank has a part of every batch; raise it, or lower ranks");
  }
  if (train.shards == 0) return;
  if (!std::has_single_bit(static_cast<std::uint64_t>(train.shards))) {
    node.problem("shards", fmt::format("{} is not a power of two", train.shards), "such as 8");
  } else if (train.shards % spec.ranks != 0) {
    node.problem("shards", fmt::format("{} cannot be shared out evenly among {} ranks", train.shards, spec.ranks),
                 "use 1, 2, 4 ... ranks, at most as many as shards");
  } else if (train.shards > train.batch) {
    node.problem("shards", fmt::format("{} is larger than train.batch, which is {}", train.shards, train.batch),
                 "a shard is a part of a batch");
  } else if (spec.device == "cuda" && spec.ranks > 1) {
    node.problem("shards",
                 fmt::format("{} cannot be used with {} ranks on GPUs, which add by NCCL in an order of its own",
                             train.shards, spec.ranks),
                 "leave it out, or train on one GPU or on device: cpu");
  }
  if (train.micro_batch > 0 && train.micro_batch < train.batch) {
    node.problem("micro_batch", "cannot be combined with shards, which are passes of their own",
                 "leave one of them out");
  }
}

void check_train(const ConfigNode& node, const JobSpec& spec) {
  const TrainConfig& train = spec.train;
  if (train.micro_batch > train.batch) {
    node.problem("micro_batch",
                 fmt::format("{} is larger than train.batch, which is {}", train.micro_batch, train.batch),
                 "a micro-batch is a part of a batch; 0 is the whole batch");
  }
  check_ranks(node, spec);
  if (spec.model.classes > 0 && train.top_k > spec.model.classes) {
    node.problem("top_k", fmt::format("{} is larger than model.classes, which is {}", train.top_k, spec.model.classes),
                 "lower it; 1 reports no top-k accuracy");
  }
  check_schedule(node.section("schedule"), train.schedule);
  const ConfigNode checkpoint = node.section("checkpoint");
  if (spec.data.validation > 0) return;
  const char* hint = "set data.validation above 0, or remove this key";
  if (train.checkpoint.keep_best)
    checkpoint.problem("keep_best", "needs a validation split, and data.validation is 0", hint);
  if (checkpoint.has("best_metric")) {
    checkpoint.problem("best_metric", "needs a validation split, and data.validation is 0", hint);
  }
  if (train.early_stop) node.problem("early_stop", "needs a validation split, and data.validation is 0", hint);
}

void check_infer(const ConfigNode& root, const InferConfig& infer) {
  check_files(root.section("data"), infer.data);
  if (infer.output.empty()) return;
  const ConfigNode node = root.section("infer");
  std::error_code error;
  if (std::filesystem::is_directory(infer.output, error) || !infer.output.has_filename()) {
    node.problem("output", fmt::format("{} is a folder", infer.output.native()), "give the path of a file");
  } else if (!std::filesystem::is_directory(infer.output.parent_path(), error)) {
    node.problem("output", fmt::format("there is no folder {}", infer.output.parent_path().native()), "make it first");
  }
  for (const std::filesystem::path& input :
       {infer.data.images, infer.data.labels, infer.data.file, infer.data.targets}) {
    if (!input.empty() && std::filesystem::equivalent(infer.output, input, error)) {
      node.problem("output", fmt::format("{} is a file that this job reads", infer.output.native()),
                   "choose another file");
    }
  }
}

}  // namespace

void check_job(const ConfigNode& root, const JobSpec& spec) {
  if (spec.kind == "infer") {
    check_infer(root, spec.infer);
    return;
  }
  check_data(root.section("data"), spec.data);
  check_model(root.section("model"), spec.model);
  check_train(root.section("train"), spec);
}

}  // namespace trivet
