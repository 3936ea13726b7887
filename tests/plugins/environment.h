// Environment variables of a test, and the plug-ins that stand for CUDA's.
#pragma once

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "tests/plugins/fake_counts.h"

namespace trivet::testing {

// Set while this lives; then as it was.
class SetVariable {
 public:
  SetVariable(std::string name, const std::string& value) : name_(std::move(name)) {
    if (const char* before = std::getenv(name_.c_str())) before_ = before;
    ::setenv(name_.c_str(), value.c_str(), 1);
  }
  SetVariable(const SetVariable&) = delete;
  SetVariable& operator=(const SetVariable&) = delete;
  ~SetVariable() { before_ ? ::setenv(name_.c_str(), before_->c_str(), 1) : ::unsetenv(name_.c_str()); }

 private:
  std::string name_;
  std::optional<std::string> before_;
};

// open_device("cuda") opens this plug-in while it lives.
class UsePlugin {
 public:
  explicit UsePlugin(const std::string& name) : path_("TRIVET_PLUGIN_PATH", folder(name)) {}
  static std::string folder(const std::string& name) { return fmt::format("{}/{}", TRIVET_TEST_PLUGINS, name); }

 private:
  SetVariable path_;
};

// What the plug-in "fake" has done. It must have been opened.
inline const FakeCounts& fake_counts() {
  void* library = ::dlopen((UsePlugin::folder("fake") + "/libtrivet_cuda.so").c_str(), RTLD_NOW | RTLD_NOLOAD);
  return *reinterpret_cast<const FakeCounts* (*)()>(::dlsym(library, "fake_counts"))();
}

}  // namespace trivet::testing
