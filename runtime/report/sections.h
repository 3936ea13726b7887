// The parts of a run's page. Each is "" if the run has nothing for it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/report/run_files.h"

namespace trivet::report {

std::string curves_section(const RunFiles& files);
std::string evaluation_section(const nlohmann::json& evaluation);
std::string samples_section(const nlohmann::json& evaluation);
std::string plan_section(const std::string& plan);
std::string environment_section(const nlohmann::json& environment);

}  // namespace trivet::report
