// A job file, ready to run in a workspace.
#pragma once

#include <string>
#include <vector>

#include "trivet/job/spec.h"

namespace trivet::cli {

// Loads the job and replaces a run's id in infer.run by its directory.
JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace);

}  // namespace trivet::cli
