#include "tests/fuzz/targets.h"

#include <cstdio>
#include <exception>
#include <numeric>
#include <sstream>

#include "runtime/comm/message.h"
#include "tests/fuzz/feed.h"
#include "tests/fuzz/fuzz_file.h"
#include "tests/fuzz/record_targets.h"
#include "trivet/base/error.h"
#include "trivet/data/dataset.h"
#include "trivet/formats/config.h"
#include "trivet/formats/gzip.h"
#include "trivet/formats/idx.h"
#include "trivet/formats/npy.h"
#include "trivet/formats/npz.h"
#include "trivet/formats/safetensors.h"
#include "trivet/formats/table_reader.h"
#include "trivet/job/spec.h"
#include "trivet/launcher/events.h"

namespace trivet::testing {
namespace {

void read_all(TableReader& reader) {
  std::span<const Cell> row;
  while (reader.next(row)) {
    if (row.size() != reader.columns().size()) std::terminate();
  }
  reader.digest();
}

void fuzz_config(Bytes bytes) { ConfigDocument::parse(text_of(bytes), "fuzz.yaml"); }

void fuzz_job(Bytes bytes) { parse_job(text_of(bytes), "fuzz.yaml", {}, "/nonexistent"); }

void fuzz_gzip(Bytes bytes) {
  const FuzzFile file(bytes);
  GzipFile gzip(file.path());
  std::vector<std::byte> out(1 << 14);
  for (int i = 0; i < 256 && gzip.read(out) == out.size(); ++i) {
  }
}

// From the files to what a model is fed with.
void learn_and_feed(const DataFiles& files, bool with_target) {
  const DataConfig config;
  const std::unique_ptr<DataSource> source = open_data(files, config);
  std::vector<std::int64_t> samples(static_cast<std::size_t>(source->count()));
  std::iota(samples.begin(), samples.end(), std::int64_t{0});
  feed(*source, source->fit(samples, config), with_target);
}

void fuzz_idx(Bytes bytes) {
  const FuzzFile file(bytes);
  try {
    read_idx_labels(file.path());
  } catch (const Error&) {
    // One file is not both.
  }
  DataFiles files;
  files.images = file.path();
  learn_and_feed(files, false);
}

void fuzz_npy(Bytes bytes) {
  const NpyArray array = parse_npy(DataBytes(bytes), "fuzz.npy");
  std::vector<double> values(static_cast<std::size_t>(std::min<std::int64_t>(array.elements(), 64)));
  read_npy_elements<double>(array, 0, values);
}

void fuzz_npz(Bytes bytes) {
  const FuzzFile file(bytes);
  const NpzFile npz(file.path());
  for (const std::string& name : npz.names()) npz.array(name);
}

void fuzz_safetensors(Bytes bytes) { parse_safetensors(std::as_bytes(bytes), "fuzz.safetensors"); }

void fuzz_csv(Bytes bytes) {
  const FuzzFile file(bytes);
  read_all(*open_csv(file.path()));
}

void fuzz_arff(Bytes bytes) {
  const FuzzFile file(bytes);
  read_all(*open_arff(file.path()));
}

void fuzz_json_lines(Bytes bytes) {
  const FuzzFile file(bytes);
  read_all(*open_json_lines(file.path()));
}

void fuzz_table(Bytes bytes) {
  const FuzzFile file(bytes, ".csv");
  DataFiles files;
  files.file = file.path();
  learn_and_feed(files, true);
}

void fuzz_arrays(Bytes bytes) {
  const FuzzFile file(bytes, ".npz");
  DataFiles files;
  files.file = file.path();
  learn_and_feed(files, true);
}

// --set, one on each line.
void fuzz_overrides(Bytes bytes) {
  std::istringstream lines(text_of(bytes));
  std::vector<std::string> overrides;
  for (std::string line; std::getline(lines, line);) overrides.push_back(line);
  constexpr const char* kJob =
      "kind: train\nname: a\ndata: {train: {file: a.csv}}\n"
      "model: {name: layers, layers: [{type: flatten}, {type: dense, units: 2}]}\n";
  parse_job(kJob, "fuzz.yaml", overrides, "/nonexistent");
}

void fuzz_rendezvous(Bytes bytes) {
  std::string stream = text_of(bytes);
  while (const auto message = comm::take_message(stream, comm::kMaxMessageBytes)) {
    std::string again = comm::encode(*message);
    const auto same = comm::take_message(again, again.size());
    if (!same || same->texts != message->texts || same->number != message->number) std::terminate();
  }
}

void fuzz_event(Bytes bytes) { parse_event(text_of(bytes)); }

constexpr FuzzTarget kTargets[] = {
    {"config", fuzz_config},
    {"job", fuzz_job},
    {"overrides", fuzz_overrides},
    {"gzip", fuzz_gzip},
    {"idx", fuzz_idx},
    {"npy", fuzz_npy},
    {"npz", fuzz_npz},
    {"arrays", fuzz_arrays},
    {"csv", fuzz_csv},
    {"arff", fuzz_arff},
    {"table", fuzz_table},
    {"json_lines", fuzz_json_lines},
    {"safetensors", fuzz_safetensors},
    {"event", fuzz_event},
    {"rendezvous", fuzz_rendezvous},
    {"checkpoint", fuzz_checkpoint},
    {"run_folder", fuzz_run_folder},
    {"store", fuzz_store},
};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return kTargets; }

void run_fuzz_target(const FuzzTarget& target, std::span<const std::uint8_t> bytes) {
  try {
    target.run(bytes);
  } catch (const Error& e) {
    if (e.message().empty() || e.code() == ErrorCode::internal) {
      std::fprintf(stderr, "%s: an error without a message, or an internal one: %s\n", target.name, e.what());
      std::terminate();
    }
  }
}

}  // namespace trivet::testing
