#include "tools/trivet/resolve.h"

#include "trivet/base/error.h"
#include "trivet/base/table.h"
#include "trivet/formats/config.h"
#include "trivet/store/store.h"

namespace trivet::cli {

std::filesystem::path workspace_folder(const std::string& flag) {
  std::filesystem::path folder = workspace_path(flag);
  if (!is_config_text(std::filesystem::absolute(folder).native())) {
    throw Error(ErrorCode::usage, fmt::format("the workspace's path is not UTF-8 text: {}", printable(folder.native())),
                "choose another folder with --workspace");
  }
  return folder;
}

JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace) {
  JobSpec spec = load_job(path, overrides);
  if (spec.kind == "infer" && !std::filesystem::exists(spec.infer.run)) {
    const std::filesystem::path folder = workspace_folder(workspace);
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
