// A plug-in for tests: the CPU's kernels behind the border of trivet/kernels/plugin.h, and streams that put work off as
// long as they may. What is put on a stream runs when somebody waits for it, so a host that forgets to wait, or uses
// pinned memory again too early, gets wrong numbers every time.
//
// Ranks speak through NCCL as on CUDA, by the plug-in's own code, and a library that stands for NCCL (fake_nccl.cpp).
//
// Environment: TRIVET_FAKE_DEVICES: how many there are. TRIVET_FAKE_PROBLEM: there is none, for this reason.
// TRIVET_FAKE_FAILS: the op whose kernel fails.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/plugin/adapter.h"
#include "kernels/cuda/plugin/nccl.h"
#include "tests/plugins/fake_counts.h"
#include "trivet/kernels/cpu.h"
#include "trivet/kernels/plugin_layout.h"

struct TrivetDevice {
  int number;
};

// True when it is done; what waits for other ranks has to be asked again.
using Work = std::function<bool()>;

struct TrivetGraph {
  std::vector<Work> work;
};

struct TrivetStream {
  std::vector<Work> work;  // from `done` on, still to be run
  std::size_t done = 0;
  std::unique_ptr<TrivetGraph> captured;  // while it captures
};

struct TrivetEvent {
  TrivetStream* stream = nullptr;
  std::size_t after = 0;  // so much work of the stream
};

namespace {

namespace cuda = trivet::kernels::cuda;
namespace plugin = trivet::kernels::plugin;
using plugin::guarded;

constexpr std::size_t kMemory = std::size_t{1} << 30;

std::recursive_mutex mutex;
std::map<const std::byte*, std::size_t> pinned;  // start, bytes
FakeCounts counts;

template <class F>
std::int32_t locked(TrivetMessage* message, const F& f) {
  const std::lock_guard lock(mutex);
  return guarded(message, f);
}

// Whether it has come there.
bool try_until(TrivetStream& stream, std::size_t end) {
  while (stream.done < end) {
    Work work = std::move(stream.work[stream.done++]);  // what throws is not tried again
    if (work()) continue;
    stream.work[--stream.done] = std::move(work);
    return false;
  }
  return true;
}

void run_until(TrivetStream& stream, std::size_t end) {
  while (!try_until(stream, end)) std::this_thread::yield();
}

void put_work(TrivetStream& stream, Work work) {
  (stream.captured ? stream.captured->work : stream.work).push_back(std::move(work));
}

template <class F>
void put(TrivetStream& stream, F work) {
  put_work(stream, [work = std::move(work)]() mutable {
    work();
    return true;
  });
}

bool is_pinned(const void* memory, std::size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(memory);
  const auto after = pinned.upper_bound(begin);
  if (after == pinned.begin()) return false;
  const auto& [start, size] = *std::prev(after);
  return begin + bytes <= start + size;
}

std::int32_t count_devices(std::int32_t* count, TrivetMessage* why_not) {
  const char* devices = std::getenv("TRIVET_FAKE_DEVICES");
  *count = devices ? std::atoi(devices) : 2;
  if (const char* problem = std::getenv("TRIVET_FAKE_PROBLEM")) {
    *count = 0;
    plugin::say(why_not, problem);
  }
  return TRIVET_OK;
}

std::int32_t describe_device(std::int32_t device, TrivetDeviceInfo* info, TrivetMessage*) {
  *info = {};
  std::strcpy(info->name, ("Fake " + std::to_string(device)).c_str());
  std::strcpy(info->target, "fake");
  info->memory_bytes = kMemory;
  info->alignment = 64;
  info->matrix_flops = info->bf16_matrix_flops = info->int8_matrix_flops = 1e12;
  info->vector_flops = 1e11;
  info->memory_rate = 1e11;
  info->cache_rate = 1e12;
  info->launch_seconds = 1e-6;
  info->cache_size = 1 << 20;
  return TRIVET_OK;
}

std::int32_t describe_libraries(TrivetLibrary* libraries, std::int32_t capacity) {
  if (capacity > 0) {
    libraries[0] = {};
    std::strcpy(libraries[0].name, "libfake");
    std::strcpy(libraries[0].place, "it is nowhere");
  }
  return 1;
}

std::int32_t open(std::int32_t device, TrivetDevice** opened, TrivetMessage* message) {
  return locked(message, [&] {
    *opened = new TrivetDevice{device};
    ++counts.open_devices;
  });
}

void close(TrivetDevice* device) {
  const std::lock_guard lock(mutex);
  delete device;
  --counts.open_devices;
}

std::int32_t enter(TrivetDevice*, TrivetMessage*) { return TRIVET_OK; }

// Filled with NaN, so that what was never written shows.
void* nan_memory(std::size_t bytes) {
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory) throw std::bad_alloc();
  return std::memset(memory, 0xFF, bytes);
}

std::int32_t allocate(TrivetDevice*, std::size_t bytes, void** memory, TrivetMessage* message) {
  return locked(message, [&] {
    *memory = nan_memory(bytes);
    ++counts.allocations;
  });
}

void release(TrivetDevice*, void* memory) { std::free(memory); }

std::int32_t allocate_pinned(TrivetDevice*, std::size_t bytes, void** memory, TrivetMessage* message) {
  return locked(message, [&] {
    *memory = nan_memory(bytes);
    pinned[static_cast<std::byte*>(*memory)] = bytes;
    ++counts.allocations;
  });
}

void release_pinned(TrivetDevice*, void* memory) {
  const std::lock_guard lock(mutex);
  pinned.erase(static_cast<std::byte*>(memory));
  std::free(memory);
}

std::int32_t make_stream(TrivetDevice*, TrivetStream** stream, TrivetMessage* message) {
  return locked(message, [&] { *stream = new TrivetStream(); });
}

void release_stream(TrivetDevice*, TrivetStream* stream) {
  const std::lock_guard lock(mutex);
  delete stream;
}

std::int32_t synchronize(TrivetDevice*, TrivetStream* stream, TrivetMessage* message) {
  return locked(message, [&] {
    if (stream->captured) throw std::runtime_error("a stream that captures cannot be waited for");
    ++counts.synchronizations;
    run_until(*stream, stream->work.size());
  });
}

std::int32_t copy(TrivetDevice*, void* to, const void* from, std::size_t bytes, TrivetStream* stream,
                  TrivetMessage* message) {
  return locked(message, [&] { put(*stream, [=] { std::memcpy(to, from, bytes); }); });
}

// Memory that is not pinned may be used again at once, and so is copied now.
std::int32_t upload(TrivetDevice* device, void* to, const void* host, std::size_t bytes, TrivetStream* stream,
                    TrivetMessage* message) {
  return locked(message, [&] {
    if (is_pinned(host, bytes)) {
      copy(device, to, host, bytes, stream, message);
      return;
    }
    if (stream->captured) throw std::runtime_error("a copy from memory that is not pinned cannot be captured");
    const auto* first = static_cast<const std::byte*>(host);
    put(*stream,
        [to, data = std::vector<std::byte>(first, first + bytes)] { std::memcpy(to, data.data(), data.size()); });
  });
}

std::int32_t make_event(TrivetDevice*, TrivetEvent** event, TrivetMessage* message) {
  return locked(message, [&] { *event = new TrivetEvent(); });
}

void release_event(TrivetDevice*, TrivetEvent* event) {
  const std::lock_guard lock(mutex);
  delete event;
}

std::int32_t record_event(TrivetDevice*, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message) {
  return locked(message, [&] { *event = {stream, stream->work.size()}; });
}

std::int32_t hold_stream(TrivetDevice*, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message) {
  return locked(message, [&] {
    if (stream->captured) throw std::runtime_error("a captured step cannot wait for what was not captured");
    if (event->stream) put_work(*stream, [e = *event] { return try_until(*e.stream, e.after); });
  });
}

std::int32_t synchronize_event(TrivetDevice*, TrivetEvent* event, TrivetMessage* message) {
  return locked(message, [&] {
    if (event->stream) run_until(*event->stream, event->after);
  });
}

std::int32_t event_reached(TrivetDevice*, TrivetEvent* event, std::int32_t* reached, TrivetMessage* message) {
  return locked(message, [&] { *reached = !event->stream || try_until(*event->stream, event->after) ? 1 : 0; });
}

std::int32_t begin_capture(TrivetDevice*, TrivetStream* stream, TrivetMessage* message) {
  return locked(message, [&] {
    if (stream->captured) throw std::runtime_error("the stream captures already");
    stream->captured = std::make_unique<TrivetGraph>();
  });
}

std::int32_t end_capture(TrivetDevice*, TrivetStream* stream, TrivetGraph** graph, TrivetMessage* message) {
  return locked(message, [&] {
    if (!stream->captured) throw std::runtime_error("the stream does not capture");
    *graph = stream->captured.release();
    ++counts.graphs;
  });
}

std::int32_t launch_graph(TrivetDevice*, TrivetGraph* graph, TrivetStream* stream, TrivetMessage* message) {
  return locked(message, [&] {
    ++counts.graph_launches;
    put(*stream, [work = graph->work] {
      for (const Work& each : work) each();
    });
  });
}

void release_graph(TrivetDevice*, TrivetGraph* graph) { delete graph; }

const TrivetKernel* find_kernel(TrivetDevice*, const char* op) {
  return plugin::border(trivet::kernels::cpu::find(op, trivet::kernels::cpu::best_isa()));
}

using Function = std::int32_t (*)(const TrivetPrepared*, const TrivetArgs*, TrivetMessage*);

// As a GPU's launch takes the views by value; what a kernel throws later comes out where somebody waits.
std::int32_t put_kernel(Function function, const TrivetPrepared* prepared, const TrivetArgs* args,
                        TrivetMessage* message) {
  return locked(message, [&] {
    const char* failing = std::getenv("TRIVET_FAKE_FAILS");
    if (failing && std::string(failing) == plugin::kernel_of(prepared).entry->op) {
      throw std::runtime_error(std::string(failing) + ": the kernel was told to fail");
    }
    ++counts.kernels;
    put(*args->stream, [=, own = *args, in = std::vector<TrivetView>(args->in, args->in + args->inputs),
                        out = std::vector<TrivetView>(args->out, args->out + args->outputs)]() mutable {
      own.in = in.data();
      own.out = out.data();
      TrivetMessage failure;
      if (function(prepared, &own, &failure) != TRIVET_OK) throw std::runtime_error(failure.text);
    });
  });
}

std::int32_t run(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message) {
  return put_kernel(plugin::run, prepared, args, message);
}

std::int32_t pack(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message) {
  return put_kernel(plugin::pack, prepared, args, message);
}

// Puts what a call of the library that stands for NCCL does on a stream of this plug-in.
void put_step(void* stream, bool (*step)(void*), void* state) {
  auto& own = *static_cast<TrivetStream*>(stream);
  if (own.captured) throw std::runtime_error("calls between ranks are not captured");
  put_work(own, [=] { return step(state); });
}

std::int32_t make_ranks_id(TrivetDevice*, TrivetRanksId* id, TrivetMessage* message) {
  return locked(message, [&] { cuda::make_ranks_id(*id); });
}

std::int32_t join_ranks(TrivetDevice*, const TrivetRanksId* id, std::int32_t rank, std::int32_t size,
                        TrivetRanks** ranks, TrivetMessage* message) {
  return locked(message, [&] {
    *ranks = cuda::join_ranks(*id, rank, size);
    using Use = void (*)(void (*)(void*, bool (*)(void*), void*));
    void* const library = ::dlopen("libnccl.so.2", RTLD_LAZY | RTLD_NOLOAD);
    void* const use = library ? ::dlsym(library, "fake_nccl_use_streams") : nullptr;
    if (!use) throw std::runtime_error("this is not the library that stands for NCCL");
    reinterpret_cast<Use>(use)(put_step);
  });
}

std::int32_t call_ranks(TrivetDevice*, TrivetRanks* ranks, const TrivetRanksCall* call, TrivetStream* stream,
                        TrivetMessage* message) {
  return locked(message, [&] { cuda::call_ranks(*ranks, *call, stream); });
}

std::int32_t ranks_ready(TrivetDevice*, TrivetRanks* ranks, std::int32_t* ready, TrivetMessage* message) {
  return locked(message, [&] { *ready = cuda::ranks_ready(*ranks) ? 1 : 0; });
}

void abort_ranks(TrivetDevice*, TrivetRanks* ranks) { cuda::abort_ranks(*ranks); }

void release_ranks(TrivetDevice*, TrivetRanks* ranks) { cuda::release_ranks(ranks); }

constexpr TrivetBackend kBackend = {
    .version = TRIVET_BACKEND_VERSION,
    .size = sizeof(TrivetBackend),
    .layout = trivet::kernels::plugin_layout(),
    .name = "cuda",
    .build = "the CPU's kernels, for tests",
    .count_devices = count_devices,
    .describe_device = describe_device,
    .describe_libraries = describe_libraries,
    .open = open,
    .close = close,
    .enter = enter,
    .allocate = allocate,
    .release = release,
    .allocate_pinned = allocate_pinned,
    .release_pinned = release_pinned,
    .make_stream = make_stream,
    .release_stream = release_stream,
    .synchronize = synchronize,
    .upload = upload,
    .download = copy,
    .copy = copy,
    .make_event = make_event,
    .release_event = release_event,
    .record_event = record_event,
    .hold_stream = hold_stream,
    .synchronize_event = synchronize_event,
    .event_reached = event_reached,
    .begin_capture = begin_capture,
    .end_capture = end_capture,
    .launch_graph = launch_graph,
    .release_graph = release_graph,
    .find_kernel = find_kernel,
    .kernel_weights = plugin::kernel_weights,
    .kernel_supports = plugin::kernel_supports,
    .prepare = plugin::prepare,
    .release_prepared = plugin::release_prepared,
    .run = run,
    .pack = pack,
    .make_ranks_id = make_ranks_id,
    .join_ranks = join_ranks,
    .call_ranks = call_ranks,
    .ranks_ready = ranks_ready,
    .abort_ranks = abort_ranks,
    .release_ranks = release_ranks,
};

}  // namespace

extern "C" {
__attribute__((visibility("default"))) const TrivetBackend* trivet_backend_query(std::uint32_t) { return &kBackend; }
__attribute__((visibility("default"))) const FakeCounts* fake_counts() { return &counts; }
}
