#include "tools/trivet/resolve.h"

#include "trivet/base/error.h"
#include "trivet/base/table.h"
#include "trivet/formats/config.h"
#include "trivet/service/run.h"
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

std::filesystem::path find_run(const std::filesystem::path& run, const std::string& workspace) {
  if (std::filesystem::exists(run)) return run;
  const std::filesystem::path folder = workspace_folder(workspace);
  if (!has_store(folder)) {
    throw Error(ErrorCode::usage,
                fmt::format("there is no run '{}', and no workspace at {}", run.string(), folder.string()),
                "give a run's directory, or --workspace");
  }
  Store store(folder);
  return std::filesystem::absolute(store.find(run.string()).directory);
}

std::optional<TrainJob> training_job(const std::filesystem::path& run) {
  std::filesystem::path folder = std::filesystem::weakly_canonical(run);
  if (std::filesystem::exists(folder / "state.json")) {
    if (folder.parent_path().filename() != "checkpoints") return std::nullopt;  // an exported model
    folder = folder.parent_path().parent_path();
  }
  if (!std::filesystem::exists(folder / kJobFileName)) return std::nullopt;
  try {
    const JobSpec spec = load_job(folder / kJobFileName, {});
    if (spec.kind == "train") return TrainJob{spec.data, spec.model, spec.train, spec.seed};
  } catch (const Error&) {  // its data are gone, say
  }
  return std::nullopt;
}

JobSpec load_for_running(const std::string& path, const std::vector<std::string>& overrides,
                         const std::string& workspace) {
  JobSpec spec = load_job(path, overrides);
  if (spec.kind == "infer") spec.infer.run = find_run(spec.infer.run, workspace);
  return spec;
}

}  // namespace trivet::cli
