#include "tests/fuzz/record_targets.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tests/fuzz/feed.h"
#include "trivet/base/error.h"
#include "trivet/base/hash.h"
#include "trivet/base/json.h"
#include "trivet/report/report.h"
#include "trivet/store/store.h"
#include "trivet/train/checkpoint.h"

namespace trivet::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Bytes bytes_of(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

// The text with step 1 and right digests, if it is an object at all.
std::string with_digests(const std::string& text, const fs::path& checkpoint) {
  json state = parse_json(text);
  if (!state.is_object()) return text;
  state.erase("sha256");
  state["format"] = 2;
  state["step"] = 1;
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    write_bytes(checkpoint / name, bytes_of("{}"));
    state["files"][name] = {{"sha256", sha256_file(checkpoint / name)}, {"bytes", 2}};
  }
  state["sha256"] = sha256_hex(state.dump());
  return state.dump();
}

// Data of each form, to be prepared as the checkpoint says.
std::unique_ptr<DataSource> small_data(const std::string& kind, const fs::path& folder) {
  using namespace std::string_view_literals;
  constexpr std::string_view kImages = "\0\0\x08\x03\0\0\0\x02\0\0\0\x06\0\0\0\x06"sv;
  const std::string npy_dict = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }";
  DataFiles files;
  if (kind == "images") {
    files.images = folder / "small.idx";
    write_bytes(files.images, bytes_of(std::string(kImages) + std::string(72, '\x07')));
  } else if (kind == "table") {
    files.file = folder / "small.csv";
    write_bytes(files.file, bytes_of("u,v,colour,class\n1,2,red,a\n3,4,blue,b\n"));
  } else {
    files.file = folder / "small.npy";
    std::string npy("\x93NUMPY\x01\0"sv);
    npy += static_cast<char>(npy_dict.size());
    write_bytes(files.file, bytes_of(npy + '\0' + npy_dict + std::string(24, '\x03')));
  }
  return open_data(files, {});
}

}  // namespace

void fuzz_checkpoint(Bytes bytes) {
  const FuzzFolder folder;
  const CheckpointFolder checkpoints(folder.path());
  const fs::path checkpoint = checkpoints.path(1);
  fs::create_directories(checkpoint);
  const std::string text = text_of(bytes);
  write_bytes(checkpoint / "state.json", bytes_of(with_digests(text, checkpoint)));
  const TrainState state = checkpoints.load_state(1);
  prediction_elements(state.task);
  const Graph graph = predict_graph(state.task, 2);
  const std::unique_ptr<DataSource> source = small_data(state.preparation.kind, folder.path());
  feed(*source, state.preparation, source->has_target(state.preparation));
}

void fuzz_run_folder(Bytes bytes) {
  constexpr std::array kNames = {"metrics.jsonl", "evaluation.json", "environment.json",
                                 "plan.txt",      "job.yaml",        "log.txt"};
  const FuzzFolder folder;
  for (const char* name : kNames) {
    const auto end = std::find(bytes.begin(), bytes.end(), std::uint8_t{0});
    const auto size = static_cast<std::size_t>(end - bytes.begin());
    if (size > 0) write_bytes(folder.path() / name, bytes.first(size));
    bytes = bytes.subspan(std::min(bytes.size(), size + 1));
  }
  write_report(folder.path());
  const std::array<ReportedRun, 2> runs = {ReportedRun{.directory = folder.path(), .id = "r0001"},
                                           ReportedRun{.directory = folder.path(), .id = "r0002"}};
  compare_runs(runs);
  write_comparison(runs, folder.path() / "comparison.html");
}

void fuzz_store(Bytes bytes) {
  const FuzzFolder folder;
  write_bytes(folder.path() / "trivet.db", bytes);
  Store store(folder.path(), [] { return 1.0; });
  for (const JobRecord& job : store.list()) store.find(job.id);
  const JobRecord job = store.create_job({"fuzz", "train", "0"}, {1, 1});
  store.mark_ended(job.id, job.attempt, JobState::failed, "fuzz", 1);
  store.begin_attempt(job.id, {1, 1});
}

}  // namespace trivet::testing
