#include "tests/fuzz/targets.h"

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

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

using Bytes = std::span<const std::uint8_t>;

std::string text_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

// The bytes as a file, in memory where the system has such a folder.
class FuzzFile {
 public:
  explicit FuzzFile(Bytes bytes, const char* extension = "") {
    static const std::filesystem::path kFolder =
        std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    path_ = kFolder / ("trivet-fuzz-" + std::to_string(::getpid()) + extension);
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  ~FuzzFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

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

void fuzz_idx(Bytes bytes) {
  const FuzzFile file(bytes);
  read_idx_images(file.path());
}

void fuzz_npy(Bytes bytes) {
  const NpyArray array = parse_npy(std::as_bytes(bytes), "fuzz.npy", nullptr);
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

// From the file to what a model is fed with.
void fuzz_table(Bytes bytes) {
  const FuzzFile file(bytes, ".csv");
  DataFiles files;
  files.file = file.path();
  const DataConfig config;
  const std::unique_ptr<DataSource> source = open_data(files, config);
  std::vector<std::int64_t> samples(static_cast<std::size_t>(source->count()));
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<std::int64_t>(i);
  const std::unique_ptr<Dataset> data = source->prepare(source->fit(samples, config), true);
  std::vector<std::vector<std::byte>> buffers;
  std::vector<std::byte*> inputs;
  for (const Field& field : data->inputs()) buffers.emplace_back(field.bytes());
  for (std::vector<std::byte>& buffer : buffers) inputs.push_back(buffer.data());
  std::vector<std::byte> y(data->target_field() ? data->target_field()->bytes() : 0);
  for (const std::int64_t sample : samples) data->read(sample, {}, inputs, y.empty() ? nullptr : y.data());
}

void fuzz_event(Bytes bytes) { parse_event(text_of(bytes)); }

constexpr FuzzTarget kTargets[] = {
    {"config", fuzz_config}, {"job", fuzz_job},     {"gzip", fuzz_gzip},
    {"idx", fuzz_idx},       {"npy", fuzz_npy},     {"npz", fuzz_npz},
    {"csv", fuzz_csv},       {"arff", fuzz_arff},   {"json_lines", fuzz_json_lines},
    {"table", fuzz_table},   {"event", fuzz_event}, {"safetensors", fuzz_safetensors},
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
