// The device that these tests are for: TRIVET_TEST_DEVICE, or "cuda". Without it they skip and say why.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "trivet/base/error.h"
#include "trivet/exec/device.h"

namespace trivet::testing {

struct TestedDevice {
  std::shared_ptr<const Device> device;  // null: it cannot be used
  std::string why_not;
};

inline const TestedDevice& tested_device() {
  static const TestedDevice opened = [] {
    const char* name = std::getenv("TRIVET_TEST_DEVICE");
    try {
      return TestedDevice{open_device(name ? name : "cuda", {1, {}}), ""};
    } catch (const Error& e) {
      return TestedDevice{nullptr, e.what()};
    }
  }();
  return opened;
}

// As the first line of a test's body.
#define TRIVET_NEEDS_DEVICE() \
  if (!::trivet::testing::tested_device().device) GTEST_SKIP() << ::trivet::testing::tested_device().why_not

// Whether `e` says that the device has no kernel for an op, which is then the reason.
inline bool is_no_kernel(const Error& e, std::string& reason) {
  if (e.code() != ErrorCode::graph || e.message().find("has no kernel for") == std::string::npos) return false;
  reason = e.message();
  return true;
}

}  // namespace trivet::testing
