// The kernel functions of a plug-in's table (trivet/kernels/plugin.h), for kernels that are offered as KernelEntry.
#pragma once

#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "trivet/kernels/kernel.h"
#include "trivet/kernels/plugin.h"

namespace trivet::kernels::plugin {

// Cut to what fits.
inline void say(TrivetMessage* message, std::string_view text) {
  const std::size_t size = text.size() < sizeof message->text ? text.size() : sizeof message->text - 1;
  std::memcpy(message->text, text.data(), size);
  message->text[size] = '\0';
}

// Calls f, and turns what it throws into a status and a message: no exception crosses the border.
template <class F>
std::int32_t guarded(TrivetMessage* message, const F& f) noexcept {
  try {
    f();
    return TRIVET_OK;
  } catch (const std::bad_alloc&) {
    say(message, "out of memory");
    return TRIVET_NO_MEMORY;
  } catch (const std::exception& e) {
    say(message, e.what());
  } catch (...) {
    say(message, "unknown reason");
  }
  return TRIVET_FAILED;
}

// What TrivetPrepared points to.
struct PreparedKernel {
  const KernelEntry* entry = nullptr;
  std::unique_ptr<Prepared> own;
};

inline const PreparedKernel& kernel_of(const TrivetPrepared* prepared) {
  return *reinterpret_cast<const PreparedKernel*>(prepared);
}

inline const TrivetKernel* border(const KernelEntry* entry) { return reinterpret_cast<const TrivetKernel*>(entry); }

// The plain struct as kernels know it. Points into `args`.
KernelArgs kernel_args(const TrivetPrepared* prepared, const TrivetArgs& args);

// Functions of the table.
std::size_t kernel_weights(const TrivetKernel* kernel);
std::int32_t kernel_supports(const TrivetKernel* kernel, const TrivetSpec* spec);
std::int32_t prepare(const TrivetKernel* kernel, const TrivetSpec* spec, TrivetPrepared** prepared,
                     std::size_t* workspace, std::size_t* packed, TrivetMessage* message);
void release_prepared(TrivetPrepared* prepared);
std::int32_t run(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message);
std::int32_t pack(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message);

}  // namespace trivet::kernels::plugin
