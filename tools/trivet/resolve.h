// A job file, ready to run in a workspace.
#pragma once

#include <string>
#include <vector>

#include "trivet/job/spec.h"

namespace trivet::cli {

// workspace_path(), which must be text: it becomes part of job files and records. Error(usage) if it is not.
std::filesystem::path workspace_folder(const std::string& flag);

// Loads the job and replaces a run's id in infer.run by its directory.
JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace);

}  // namespace trivet::cli
