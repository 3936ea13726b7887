#include "kernels/cuda/plugin/architectures.h"

namespace trivet::kernels::cuda {
namespace {

// The text before the first `separator`.
std::string_view before(std::string_view text, char separator) {
  std::size_t size = 0;
  while (size < text.size() && text[size] != separator) ++size;
  return text.substr(0, size);
}

// Calls f(number, specific, real, name) for each architecture.
template <class F>
void for_each(std::string_view list, const F& f) {
  while (!list.empty()) {
    const std::string_view entry = before(list, ',');
    const std::string_view name = before(entry, '-');
    int number = 0;
    for (const char c : name) {
      if (c >= '0' && c <= '9') number = 10 * number + (c - '0');
    }
    if (number > 0) f(number, name.back() == 'a', entry.substr(name.size()) == "-real", name);
    list.remove_prefix(entry.size() < list.size() ? entry.size() + 1 : list.size());
  }
}

}  // namespace

bool runs_on(std::string_view list, int major, int minor) {
  bool found = false;
  const int device = 10 * major + minor;
  for_each(list, [&](int number, bool specific, bool real, std::string_view) {
    if (specific) {
      found = found || number == device;
    } else {
      found = found || (number / 10 == major && number <= device) || (!real && number <= device);
    }
  });
  return found;
}

std::string architectures_text(std::string_view list) {
  std::string text;
  for_each(list, [&](int, bool specific, bool real, std::string_view name) {
    if (!text.empty()) text += ", ";
    text += "sm_" + std::string(name) + (real || specific ? "" : " and later");
  });
  return text;
}

}  // namespace trivet::kernels::cuda
