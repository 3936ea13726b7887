#include "trivet/job/spec.h"

#include <algorithm>

#include "scheduler/job/read.h"
#include "trivet/base/file.h"
#include "trivet/formats/config.h"

namespace trivet {

JobSpec parse_job(std::string_view text, const std::string& file_name, std::span<const std::string> overrides,
                  const std::filesystem::path& base_directory) {
  ConfigDocument document = ConfigDocument::parse(text, file_name);
  apply_overrides(document, overrides);
  JobSpec spec = read_job(document.root(), std::filesystem::absolute(base_directory));
  if (!document.has_problems()) check_job(document.root(), spec);
  document.finish();
  return spec;
}

JobSpec load_job(const std::filesystem::path& path, std::span<const std::string> overrides) {
  const std::string text = read_file(path, kConfigMaxBytes);
  return parse_job(text, path.string(), overrides, std::filesystem::absolute(path).parent_path());
}

std::vector<std::string> job_keys() {
  // The readers themselves say what they ask for; one layer and one column make them ask for the keys of all.
  std::vector<std::string> keys;
  for (const char* text :
       {"{kind: train, data: {table: {columns: [{}]}}, model: {name: layers, layers: [{type: dense}]}}",
        "kind: infer"}) {
    ConfigDocument document = ConfigDocument::parse(text, "keys");
    read_job(document.root(), "/");
    for (std::string& key : document.asked_keys()) keys.push_back(std::move(key));
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

}  // namespace trivet
