#include <fmt/format.h>

#include <charconv>

#include "runtime/exec/cpu_device.h"
#include "runtime/exec/plugin_device.h"
#include "runtime/exec/plugin_library.h"
#include "trivet/base/error.h"
#include "trivet/exec/device.h"

namespace trivet {
namespace {

constexpr std::string_view kCuda = "cuda";

// The number after "cuda:", 0 for "cuda" itself; none if it is neither.
std::optional<int> cuda_number(std::string_view name) {
  if (name == kCuda) return 0;
  if (!name.starts_with("cuda:")) return std::nullopt;
  const std::string_view digits = name.substr(kCuda.size() + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

std::shared_ptr<const Device> open_device(const std::string& name, const DeviceOptions& options) {
  if (name == "cpu") return open_cpu(options);
  if (const auto number = cuda_number(name)) return open_plugin_device(open_plugin(), *number);
  throw Error(ErrorCode::usage, fmt::format("there is no device '{}'", name),
              "cpu, cuda, or cuda:1 for the second GPU");
}

}  // namespace trivet
