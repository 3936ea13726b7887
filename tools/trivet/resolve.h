// A job file, ready to run in a workspace.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trivet/job/spec.h"
#include "trivet/train/trainer.h"

namespace trivet::cli {

// workspace_path(), which must be text: it becomes part of job files and records. Error(usage) if it is not.
std::filesystem::path workspace_folder(const std::string& flag);

// The directory of a run that is named by its id, name or a path. Error(usage) if there is none.
std::filesystem::path find_run(const std::filesystem::path& run, const std::string& workspace);

// The job of the training run that a folder, or one of its checkpoints, is; none if that cannot be told.
std::optional<TrainJob> training_job(const std::filesystem::path& run);

// Loads the job and replaces a run's id in infer.run by its directory.
JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace);

}  // namespace trivet::cli
