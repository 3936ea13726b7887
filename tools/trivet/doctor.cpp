// trivet doctor: what this machine has for Trivet, and why CUDA cannot be used if it cannot.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/trivet/verbs.h"
#include "trivet/base/build_info.h"
#include "trivet/base/text.h"
#include "trivet/exec/device.h"
#include "trivet/exec/plugins.h"
#include "trivet/kernels/libraries.h"

namespace trivet::cli {
namespace {

struct Findings {
  BuildInfo build;
  std::string processor;
  std::string cpu;  // Device::description()
  int cores = 0;
  std::size_t memory_bytes = 0;
  std::string onednn;
  PluginReport cuda;
};

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown processor";
}

Findings examine() {
  const auto cpu = open_device("cpu");
  return {build_info(),      processor_name(),    cpu->description(),
          available_cores(), cpu->memory_bytes(), kernels::cpu::onednn_version(),
          examine_cuda()};
}

nlohmann::json as_json(const Findings& f) {
  nlohmann::json libraries = nlohmann::json::array(), devices = nlohmann::json::array();
  for (const auto& l : f.cuda.libraries) {
    libraries.push_back({{"name", l.name},
                         {"found", !l.version.empty()},
                         {"version", l.version},
                         {"place", l.place},
                         {"required", l.required}});
  }
  for (const auto& d : f.cuda.devices) devices.push_back({{"name", d.name}, {"memory_bytes", d.memory_bytes}});
  return {{"trivet", {{"version", f.build.version}, {"commit", f.build.commit}, {"build_type", f.build.build_type}}},
          {"cpu",
           {{"processor", f.processor},
            {"device", f.cpu},
            {"cores", f.cores},
            {"memory_bytes", f.memory_bytes},
            {"onednn", f.onednn}}},
          {"cuda",
           {{"usable", f.cuda.problem.empty()},
            {"problem", f.cuda.problem},
            {"hint", f.cuda.hint},
            {"plugin", f.cuda.file},
            {"searched", f.cuda.searched},
            {"build", f.cuda.build},
            {"libraries", libraries},
            {"devices", devices}}}};
}

void line(const std::string& name, const std::string& text) {
  std::printf("%s\n", fmt::format("{:<16}{}", name, text).c_str());
}

void print(const Findings& f) {
  line("trivet", fmt::format("{} ({}, {})", f.build.version, f.build.commit, f.build.build_type));
  line("processor", fmt::format("{}; {} core{} for this process, {} of memory", f.processor, f.cores,
                                f.cores == 1 ? "" : "s", format_bytes(f.memory_bytes)));
  line("device: cpu", fmt::format("ready ({})", f.cpu));
  line("oneDNN", f.onednn);
  line("device: cuda", f.cuda.problem.empty() ? "ready" : f.cuda.problem);
  if (!f.cuda.hint.empty()) line("", "hint: " + f.cuda.hint);
  if (f.cuda.file.empty()) return;
  line("  plug-in", f.cuda.build.empty() ? f.cuda.file : fmt::format("{} ({})", f.cuda.file, f.cuda.build));
  for (const auto& l : f.cuda.libraries) {
    line("  " + l.name, l.version.empty() ? fmt::format("missing{}: {}", l.required ? "" : ", not required", l.place)
                                          : fmt::format("{} ({})", l.version, l.place));
  }
  for (std::size_t i = 0; i < f.cuda.devices.size(); ++i) {
    const auto& d = f.cuda.devices[i];
    line(fmt::format("  cuda:{}", i), fmt::format("{}, {}", d.name, format_bytes(d.memory_bytes)));
  }
}

}  // namespace

void add_doctor(CLI::App& app, Context&) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.get_subcommand("doctor");
  verb->add_flag("--json", *json, "For programs");
  verb->footer(
      "Example:\n  TRIVET_CUDA_LIBDIRS=/opt/cuda/lib64 trivet doctor\nThe exit code is 0 also where CUDA cannot "
      "be used.");
  verb->callback([json] {
    const Findings findings = examine();
    if (*json) {
      std::printf("%s\n", as_json(findings).dump(1).c_str());
    } else {
      print(findings);
    }
  });
}

}  // namespace trivet::cli
