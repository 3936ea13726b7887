#include "trivet/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/base/hash.h"
#include "trivet/base/json.h"
#include "trivet/exec/float_cast.h"
#include "trivet/formats/safetensors.h"
#include "trivet/models/config_json.h"

namespace trivet {
namespace {

using nlohmann::json;

constexpr int kFormat = 2;  // 1 knew images and labels alone
constexpr std::size_t kLargestState = 16 << 20;
constexpr std::string_view kPrefix = "step-";
const TensorMetadata kMetadata = {{"format", "trivet"}};

bool belongs_to_model(const StateLayout::Slot& slot) { return slot.value.memory == MemoryClass::parameters; }
// Accumulated gradients are zero between optimizer steps, which is when checkpoints are written.
bool belongs_to_optimizer(const StateLayout::Slot& slot) { return slot.value.memory == MemoryClass::optimizer; }

std::string write_states(const fs::path& path, const Arena& arena, bool (*wanted)(const StateLayout::Slot&)) {
  std::vector<TensorRef> refs;
  std::vector<Tensor> copies;  // for devices whose memory the host cannot read
  copies.reserve(arena.states().slots().size());
  for (const StateLayout::Slot& slot : arena.states().slots()) {
    if (!wanted(slot)) continue;
    const std::byte* address = arena.device().host_address(arena.state_address(slot.value.name));
    if (!address) {
      copies.push_back(arena.get_state(slot.value.name));
      address = copies.back().data.data();
    }
    refs.push_back({slot.value.name, slot.value.type, address});
  }
  return write_safetensors(path, refs, kMetadata);
}

json sums_json(const MetricSums& s) {
  return {{"loss", s.loss}, {"correct", s.correct}, {"top_k", s.top_k}, {"samples", s.samples}};
}

MetricSums sums_from(const json& j) { return {j.at("loss"), j.at("correct"), j.at("top_k"), j.at("samples")}; }

json to_json(const TrainState& s) {
  return {{"format", kFormat},
          {"step", s.step},
          {"epoch", s.epoch},
          {"batch", s.batch},
          {"sums", sums_json(s.sums)},
          {"last", sums_json(s.last)},
          {"seed", s.seed},
          {"graph_hash", s.graph_hash},
          {"target", s.target},
          {"data_digest", s.data_digest},
          {"best", s.best ? json(*s.best) : json(nullptr)},
          {"best_step", s.best_step},
          {"to_beat", s.to_beat ? json(*s.to_beat) : json(nullptr)},
          {"stale", s.stale},
          {"seconds", s.seconds},
          {"metrics_bytes", s.metrics_bytes},
          {"model", s.task.model},
          {"inputs", s.task.input.fields},
          {"category_sizes", s.task.input.category_sizes},
          {"outputs", s.task.input.outputs},
          {"data_target", s.task.target},
          {"preparation", {{"kind", s.preparation.kind}, {"values", s.preparation.values}}}};
}

// What is built from a task counts on this.
void check(const ModelTask& task) {
  const DataTarget& target = task.target;
  const auto numbers = static_cast<std::int64_t>(target.mean.size());
  const bool outputs = target.kind == TargetKind::none ||
                       task.input.outputs == (target.kind == TargetKind::label ? target.classes : numbers);
  if (outputs && !task.input.fields.empty() && task.input.category_sizes.size() == task.input.fields.size()) return;
  throw Error(ErrorCode::checkpoint,
              fmt::format("a model of {} inputs, {} lists of categories and {} outputs for {} classes or {} numbers",
                          task.input.fields.size(), task.input.category_sizes.size(), task.input.outputs,
                          target.classes, numbers),
              "the checkpoint is damaged; choose another one");
}

TrainState from_json(const json& j) {
  TrainState s;
  j.at("step").get_to(s.step);
  j.at("epoch").get_to(s.epoch);
  j.at("batch").get_to(s.batch);
  s.sums = sums_from(j.at("sums"));
  s.last = sums_from(j.at("last"));
  j.at("seed").get_to(s.seed);
  j.at("graph_hash").get_to(s.graph_hash);
  j.at("target").get_to(s.target);
  j.at("data_digest").get_to(s.data_digest);
  if (!j.at("best").is_null()) s.best = j.at("best").get<double>();
  j.at("best_step").get_to(s.best_step);
  if (!j.at("to_beat").is_null()) s.to_beat = j.at("to_beat").get<double>();
  j.at("stale").get_to(s.stale);
  j.at("seconds").get_to(s.seconds);
  j.at("metrics_bytes").get_to(s.metrics_bytes);
  j.at("model").get_to(s.task.model);
  j.at("inputs").get_to(s.task.input.fields);
  j.at("category_sizes").get_to(s.task.input.category_sizes);
  j.at("outputs").get_to(s.task.input.outputs);
  j.at("data_target").get_to(s.task.target);
  check(s.task);
  s.task.seed = s.seed;
  j.at("preparation").at("kind").get_to(s.preparation.kind);
  s.preparation.values = j.at("preparation").at("values");
  return s;
}

// Renames a folder, also over one of the same name: the two change places in one act, and the old one goes.
void put_in_place(const fs::path& temporary, const fs::path& target) {
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST && ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(temporary);
    return;
  }
  if (errno != EINVAL)
    throw fs::filesystem_error("rename", temporary, target, std::error_code(errno, std::generic_category()));
  // A file system without exchange: the older checkpoint covers the moment in between.
  fs::path old = temporary;
  old += ".old";
  if (fs::exists(target)) fs::rename(target, old);
  fs::rename(temporary, target);
  fs::remove_all(old);
}

// The text that state.json's own digest covers.
std::string digest_of(json j) {
  j.erase("sha256");
  return sha256_hex(j.dump());
}

[[noreturn]] void damaged(const fs::path& path, const std::string& what) {
  throw Error(ErrorCode::checkpoint, fmt::format("{}: {}", path.string(), what));
}

// `names`: the files that must be there.
json read_verified(const fs::path& directory, std::span<const char* const> names) {
  const fs::path path = directory / "state.json";
  json j = parse_json(read_file(path, kLargestState));
  if (!j.is_object()) damaged(path, "is not a JSON object: truncated or damaged");
  if (j.value("format", json(0)) != json(kFormat)) {
    damaged(path,
            fmt::format("has format {}, this program reads format {}: it was written by another version of trivet",
                        j.value("format", json(0)).dump(), kFormat));
  }
  if (j.value("sha256", json()) != json(digest_of(j))) damaged(path, "does not match its own SHA-256: damaged");
  for (const char* name : names) {
    const std::string expected = j.at("files").at(name).at("sha256").get<std::string>();
    const auto bytes = j.at("files").at(name).at("bytes").get<std::uintmax_t>();
    const fs::path file = directory / name;
    std::error_code error;
    const std::uintmax_t found = fs::file_size(file, error);
    if (error) damaged(file, error.message());
    if (found != bytes) damaged(file, fmt::format("has {} bytes, expected {}: truncated", found, bytes));
    if (sha256_file(file) != expected) damaged(file, "does not match its SHA-256: damaged");
  }
  return j;
}

constexpr std::array kCheckpointFiles = {kModelFile, kOptimizerFile};
constexpr std::array kExportedFiles = {kModelFile};

TrainState read_state(const fs::path& folder, std::span<const char* const> names) {
  const fs::path file = folder / "state.json";
  try {
    const json verified = read_verified(folder, names);
    try {
      return from_json(verified);
    } catch (Error& e) {
      throw e.add_context(fmt::format("reading {}", file.string()));
    }
  } catch (const json::exception& e) {
    damaged(file, e.what());
  }
}

bool is_any_width(const TensorType& found, const TensorType& wanted) {
  const auto has_width = [](DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; };
  return found.shape == wanted.shape && has_width(found.dtype) && has_width(wanted.dtype);
}

[[noreturn]] void refuse_type(const fs::path& path, const std::string& name, const TensorType& found,
                              const TensorType& wanted) {
  damaged(path, fmt::format("'{}' is {}, expected {}", name, to_string(found), to_string(wanted)));
}

void require_count(const fs::path& path, const SafetensorsFile& file, std::size_t used) {
  if (used == file.tensors().size()) return;
  damaged(path, fmt::format("has {} tensors, the model has {}", file.tensors().size(), used));
}

// Copies a file's tensors into the arena's states, which must be the same ones.
void load_file(const fs::path& path, Arena& arena, bool (*wanted)(const StateLayout::Slot&), bool any_width) {
  const SafetensorsFile file(path);
  std::size_t used = 0;
  for (const StateLayout::Slot& slot : arena.states().slots()) {
    if (!wanted(slot)) continue;
    const TensorBytes& tensor = file.tensor(slot.value.name);
    const TensorType& type = slot.value.type;
    if (tensor.type == type) {
      arena.set_state(slot.value.name, tensor.type, tensor.bytes.data());
    } else if (any_width && is_any_width(tensor.type, type)) {
      arena.set_state(slot.value.name, float_cast(tensor.type, tensor.bytes, type.dtype));
    } else {
      refuse_type(path, slot.value.name, tensor.type, type);
    }
    ++used;
  }
  require_count(path, file, used);
}

// The tensor in `weights` if it is a weight, else as it is.
Tensor exported(const std::string& name, const TensorBytes& tensor, DType weights) {
  if (tensor.type.rank() < 2 || !is_any_width(tensor.type, tensor.type)) {
    return Tensor::of_bytes(tensor.type, tensor.bytes);
  }
  constexpr float kLargest = 65504;
  const Tensor wide = float_cast(tensor.type, tensor.bytes, DType::f32);
  const std::span<const float> values = wide.as<float>();
  const auto beyond = std::find_if(values.begin(), values.end(), [](float v) { return !(std::abs(v) <= kLargest); });
  if (weights == DType::f16 && beyond != values.end()) {
    throw Error(ErrorCode::checkpoint,
                fmt::format("'{}' has the element {} at place {}, the largest number of f16 is {}", name, *beyond,
                            beyond - values.begin(), kLargest),
                "export it as bf16 or f32");
  }
  return float_cast(tensor.type, tensor.bytes, weights);
}

}  // namespace

void CheckpointFolder::prepare() const {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (error)
    throw Error(ErrorCode::io, fmt::format("cannot make the folder {}: {}", directory_.string(), error.message()));
  for (const auto& entry : fs::directory_iterator(directory_)) {
    if (entry.path().filename().string().starts_with(".")) fs::remove_all(entry.path(), error);
  }
}

std::filesystem::path CheckpointFolder::path(std::int64_t step) const {
  return directory_ / fmt::format("{}{:09}", kPrefix, step);
}

void CheckpointFolder::save(const Arena& arena, const TrainState& state) const {
  save(
      state, [&](const fs::path& file) { return write_states(file, arena, belongs_to_model); },
      [&](const fs::path& file) { return write_states(file, arena, belongs_to_optimizer); });
}

void CheckpointFolder::save(const Arena& arena, const TrainState& state, std::span<const TensorRef> optimizer,
                            const TensorSource& source) const {
  save(
      state, [&](const fs::path& file) { return write_states(file, arena, belongs_to_model); },
      [&](const fs::path& file) { return write_safetensors(file, optimizer, kMetadata, source); });
}

void CheckpointFolder::save(const TrainState& state, const WriteFile& model, const WriteFile& optimizer) const {
  const fs::path target = path(state.step);
  const fs::path temporary = directory_ / fmt::format(".writing-{}-{}", state.step, ::getpid());
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  try {
    fs::create_directory(temporary);
    json j = to_json(state);
    const auto add_file = [&](const char* name, const WriteFile& write) {
      const std::string digest = write(temporary / name);
      j["files"][name] = {{"sha256", digest}, {"bytes", fs::file_size(temporary / name)}};
    };
    add_file(kModelFile, model);
    add_file(kOptimizerFile, optimizer);
    j["sha256"] = digest_of(j);
    write_file_atomic(temporary / "state.json", j.dump(1) + "\n");
    put_in_place(temporary, target);
    sync_directory(directory_);
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(temporary, ignored);
    throw Error(ErrorCode::io, fmt::format("cannot write checkpoint {}: {}", target.string(), e.code().message()));
  } catch (Error& e) {
    fs::remove_all(temporary, ignored);
    throw e.add_context(fmt::format("writing checkpoint {}", target.string()));
  }
}

std::vector<std::int64_t> CheckpointFolder::steps() const {
  std::vector<std::int64_t> found;
  if (!fs::is_directory(directory_)) return found;
  for (const auto& entry : fs::directory_iterator(directory_)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    std::int64_t step = 0;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (error == std::errc() && stop == end) found.push_back(step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

TrainState CheckpointFolder::load_state(std::int64_t step) const {
  TrainState state = read_state(path(step), kCheckpointFiles);
  if (state.step != step) damaged(path(step), fmt::format("holds step {}", state.step));
  return state;
}

void CheckpointFolder::load_tensors(std::int64_t step, Arena& arena, bool optimizer) const {
  load_file(path(step) / kModelFile, arena, belongs_to_model, false);
  if (optimizer) load_file(path(step) / kOptimizerFile, arena, belongs_to_optimizer, false);
}

void CheckpointFolder::load_optimizer(std::int64_t step, std::span<const TensorRef> optimizer,
                                      const TakeTensor& take) const {
  const fs::path file = path(step) / kOptimizerFile;
  const SafetensorsFile stored(file);
  for (const TensorRef& wanted : optimizer) {
    const TensorBytes& tensor = stored.tensor(wanted.name);
    if (tensor.type != wanted.type) refuse_type(file, wanted.name, tensor.type, wanted.type);
    take(wanted, tensor.bytes);
  }
  require_count(file, stored, optimizer.size());
}

void CheckpointFolder::prune(std::int64_t keep_last, std::int64_t best_step) const {
  std::vector<std::int64_t> all = steps();
  const std::size_t keep = std::min(all.size(), static_cast<std::size_t>(keep_last));
  all.resize(all.size() - keep);
  for (const std::int64_t step : all) {
    if (step == best_step) continue;
    const fs::path doomed = directory_ / fmt::format(".removing-{}", step);
    std::error_code error;
    fs::rename(path(step), doomed, error);
    fs::remove_all(doomed, error);
  }
}

void CheckpointFolder::set_aside(std::int64_t step) const {
  fs::path aside = path(step);
  aside += ".damaged";
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(path(step), aside, error);
}

void export_model(const fs::path& checkpoint, const fs::path& folder, DType weights) {
  json j = read_verified(checkpoint, kExportedFiles);
  const SafetensorsFile model(checkpoint / kModelFile);
  std::vector<Tensor> tensors;
  std::vector<TensorRef> refs;
  for (const auto& [name, tensor] : model.tensors()) tensors.push_back(exported(name, tensor, weights));
  std::size_t next = 0;
  for (const auto& [name, tensor] : model.tensors()) {
    const Tensor& t = tensors[next++];
    refs.push_back({name, t.type, t.data.data()});
  }
  const fs::path target = fs::absolute(folder).lexically_normal();
  const fs::path temporary = target.parent_path() / fmt::format(".exporting-{}", ::getpid());
  std::error_code ignored;
  try {
    fs::create_directories(temporary);
    const std::string digest = write_safetensors(temporary / kModelFile, refs, kMetadata);
    j["files"] = {{kModelFile, {{"sha256", digest}, {"bytes", fs::file_size(temporary / kModelFile)}}}};
    j["sha256"] = digest_of(j);
    write_file_atomic(temporary / "state.json", j.dump(1) + "\n");
    if (fs::exists(target))
      throw Error(ErrorCode::io, fmt::format("{} is there already", target.string()), "choose another folder");
    fs::rename(temporary, target);
    sync_directory(target.parent_path());
  } catch (const fs::filesystem_error& e) {
    fs::remove_all(temporary, ignored);
    throw Error(ErrorCode::io, fmt::format("cannot write the model {}: {}", target.string(), e.code().message()));
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
}

TrainState load_model_state(const fs::path& folder) { return read_state(folder, kExportedFiles); }

void load_model(const fs::path& folder, Arena& arena) { load_file(folder / kModelFile, arena, belongs_to_model, true); }

NewestCheckpoint newest_checkpoint(const CheckpointFolder& folder) {
  NewestCheckpoint result;
  const std::vector<std::int64_t> steps = folder.steps();
  for (auto it = steps.rbegin(); it != steps.rend(); ++it) {
    try {
      result.found = folder.load_state(*it);
      return result;
    } catch (const Error& e) {
      result.damaged.emplace_back(*it, e.what());
    }
  }
  return result;
}

}  // namespace trivet
