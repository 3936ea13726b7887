#include "tools/trivet/resolve.h"

#include "trivet/base/error.h"
#include "trivet/store/store.h"

namespace trivet::cli {

JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace) {
  JobSpec spec = load_job(path, overrides);
  if (spec.kind == "infer" && !std::filesystem::exists(spec.infer.run)) {
    const std::filesystem::path folder = workspace_path(workspace);
    if (!has_store(folder)) {
      throw Error(ErrorCode::usage,
                  fmt::format("infer.run: there is no run '{}', and no workspace at {}", spec.infer.run.string(),
                              folder.string()),
                  "give a run's directory, or --workspace");
    }
    Store store(folder);
    spec.infer.run = std::filesystem::absolute(store.find(spec.infer.run.string()).directory);
  }
  return spec;
}

}  // namespace trivet::cli
