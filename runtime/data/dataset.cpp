#include "trivet/data/dataset.h"

#include "trivet/base/error.h"

namespace trivet {
namespace {

const char* kind_name(TargetKind kind) {
  switch (kind) {
    case TargetKind::none:
      return "none";
    case TargetKind::label:
      return "label";
    case TargetKind::number:
      return "number";
  }
  return "none";
}

TargetKind kind_from_name(const std::string& name) {
  for (const TargetKind kind : {TargetKind::none, TargetKind::label, TargetKind::number}) {
    if (name == kind_name(kind)) return kind;
  }
  throw Error(ErrorCode::checkpoint, fmt::format("there is no kind of target \"{}\"", name),
              "the checkpoint is damaged; choose another one");
}

[[noreturn]] void contradictory(const DataTarget& target) {
  throw Error(
      ErrorCode::checkpoint,
      fmt::format("a target with {} classes, {} class names, {} numbers, {} means and {} deviations", target.classes,
                  target.class_names.size(), target.target_names.size(), target.mean.size(), target.stddev.size()),
      "the checkpoint is damaged; choose another one");
}

}  // namespace

void to_json(nlohmann::json& json, const Field& field) {
  json = {{"name", field.name}, {"dtype", dtype_name(field.dtype)}, {"shape", field.shape}};
}

void from_json(const nlohmann::json& json, Field& field) {
  json.at("name").get_to(field.name);
  field.dtype = dtype_from_name(json.at("dtype").get<std::string>());
  json.at("shape").get_to(field.shape);
  element_count(field.shape);
}

void to_json(nlohmann::json& json, const DataTarget& target) {
  json = {{"kind", kind_name(target.kind)},      {"classes", target.classes}, {"class_names", target.class_names},
          {"target_names", target.target_names}, {"mean", target.mean},       {"stddev", target.stddev}};
}

void from_json(const nlohmann::json& json, DataTarget& target) {
  target.kind = kind_from_name(json.at("kind").get<std::string>());
  json.at("classes").get_to(target.classes);
  json.at("class_names").get_to(target.class_names);
  json.at("target_names").get_to(target.target_names);
  json.at("mean").get_to(target.mean);
  json.at("stddev").get_to(target.stddev);
  const std::size_t numbers = target.target_names.size();
  const bool labels = target.kind == TargetKind::label;
  if (labels && (target.classes < 1 || target.class_names.size() != static_cast<std::size_t>(target.classes))) {
    contradictory(target);
  }
  if (target.kind == TargetKind::number &&
      (numbers == 0 || target.mean.size() != numbers || target.stddev.size() != numbers)) {
    contradictory(target);
  }
}

}  // namespace trivet
