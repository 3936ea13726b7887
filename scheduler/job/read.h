// The steps of parse_job(). Private to this folder.
#pragma once

#include <filesystem>

#include "trivet/formats/config.h"
#include "trivet/job/spec.h"

namespace trivet {

// Reads each key by itself: type, range, whether it applies. `base` is absolute. Problems are kept in the document.
JobSpec read_job(const ConfigNode& root, const std::filesystem::path& base);

// Checks keys against each other and the file system. Call it only if reading found no problem.
void check_job(const ConfigNode& root, const JobSpec& spec);

}  // namespace trivet
