// The job: what a user asks for, read from a YAML file and checked as a whole (docs/job-file.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trivet/data/config.h"
#include "trivet/infer/config.h"
#include "trivet/models/config.h"
#include "trivet/train/config.h"

namespace trivet {

struct JobSpec {
  std::string kind;  // train, infer
  std::string name;
  std::uint64_t seed = 1;  // at most 2^63 - 1
  std::string device = "cpu";
  int threads = 0;  // 0: all, shared out among the ranks of a host
  // Train: processes that do the job together. 1 where something else started several: they are as many as it says.
  int ranks = 1;
  int restarts = 0;        // train: how often the run goes on from its last checkpoint after a process failed
  int rank_deadline = 60;  // train: seconds after which a rank that does not answer has failed
  DataConfig data;         // train
  ModelConfig model;       // train
  TrainConfig train;       // train
  InferConfig infer;       // infer
};

// Reads and checks a job. `file_name` names the text in errors; relative paths are taken from `base_directory`.
// Overrides are as for apply_overrides() in trivet/formats/config.h. Every value is in range, every path absolute,
// every data file is there and readable, and every default that depends on other keys is filled in.
// `infer.run` alone stays as written if no such path exists: it may be the id of a run.
// `infer.output` is empty if left out: predictions.<format> in the job's run directory.
// Throws one Error(job) that lists all problems, each with its place.
JobSpec parse_job(std::string_view text, const std::string& file_name, std::span<const std::string> overrides,
                  const std::filesystem::path& base_directory);

// The same for a file; relative paths are taken from the file's folder. Throws Error(io) if it cannot be read.
JobSpec load_job(const std::filesystem::path& path, std::span<const std::string> overrides);

// The job with every default written out and every path absolute. parse_job() reads it back to the same spec.
std::string resolved_yaml(const JobSpec& spec);

// Every key that a job file may have, sorted: "train.optimizer.lr", "model.layers[].units".
std::vector<std::string> job_keys();

}  // namespace trivet
