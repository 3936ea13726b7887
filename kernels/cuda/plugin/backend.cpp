// The plug-in's table: devices, memory, streams, events, graphs; and the one function that it exports.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>

#include "kernels/cuda/families.h"
#include "kernels/cuda/plugin/adapter.h"
#include "kernels/cuda/plugin/architectures.h"
#ifdef TRIVET_HAVE_CUDNN
#include "kernels/cuda/plugin/convolution.h"
#endif
#include "kernels/cuda/plugin/cuda_check.h"
#include "kernels/cuda/plugin/libraries.h"
#include "kernels/cuda/plugin/matmul.h"
#include "kernels/cuda/plugin/nccl.h"
#include "kernels/cuda/plugin/open_library.h"
#include "kernels/cuda/plugin/ranks.h"
#include "trivet/kernels/plugin_layout.h"

struct TrivetDevice {
  int number;
};

namespace {

namespace cuda = trivet::kernels::cuda;
namespace plugin = trivet::kernels::plugin;
using cuda::check;
using plugin::guarded;

// A stream is CUDA's own, which kernels are given as it is; so are events and graphs.
cudaStream_t own(TrivetStream* stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t own(TrivetEvent* event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaGraphExec_t own(TrivetGraph* graph) { return reinterpret_cast<cudaGraphExec_t>(graph); }

// Calls f on the device, whichever the thread has used before.
template <class F>
std::int32_t on(const TrivetDevice* device, TrivetMessage* message, const F& f) {
  return guarded(message, [&] {
    check(cudaSetDevice(device->number), "cudaSetDevice");
    f();
  });
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

std::string why_no_devices(cudaError_t error) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  if (driver == 0) {
    void* const library = cuda::open_library("libcuda.so.1");
    return library ? "there is no NVIDIA driver: libcuda.so.1 is there, but the kernel's part does not answer"
                   : "there is no NVIDIA driver: libcuda.so.1 was not found";
  }
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is too old: it is for CUDA " + cuda::version_text(driver) + ", this needs CUDA " +
           cuda::version_text(runtime);
  }
  if (error == cudaSuccess || error == cudaErrorNoDevice) return "the driver finds no NVIDIA GPU";
  return std::string("the driver says: ") + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
}

std::string wrong_architecture(int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  if (cuda::runs_on(TRIVET_CUDA_ARCHITECTURES, major, minor)) return "";
  return "device " + std::to_string(device) + " is sm_" + std::to_string(10 * major + minor) +
         ", and the plug-in was built for " + cuda::architectures_text(TRIVET_CUDA_ARCHITECTURES);
}

std::int32_t count_devices(std::int32_t* count, TrivetMessage* why_not) {
  *count = 0;
  return guarded(why_not, [&] {
    int found = 0;  // stays as it is where there is no driver
    const cudaError_t error = cudaGetDeviceCount(&found);
    if (error != cudaSuccess || found == 0) return plugin::say(why_not, why_no_devices(error));
    std::string reasons;
    for (int device = 0; device < found; ++device) {
      const std::string reason = wrong_architecture(device);
      if (reason.empty()) *count = found;
      reasons += (reasons.empty() || reason.empty() ? "" : "; ") + reason;
    }
    plugin::say(why_not, reasons);
  });
}

// What a multiprocessor does in a clock at most: f32 multiply-adds, and those of its tensor cores on bf16 (CUDA C++
// Programming Guide, "Arithmetic Instructions", and NVIDIA's architecture white papers). 8-bit integers: twice as many.
struct Rates {
  double f32, bf16;
};
Rates rates(int major, int minor) {
  if (major == 8 && minor == 0) return {64, 1024};
  if (major == 8) return {128, 512};
  if (major == 9) return {128, 2048};
  if (major == 10) return {128, 4096};
  return {128, 512};
}

std::int32_t describe_device(std::int32_t device, TrivetDeviceInfo* info, TrivetMessage* message) {
  *info = {};
  return guarded(message, [&] {
    if (const std::string reason = wrong_architecture(device); !reason.empty()) throw std::runtime_error(reason);
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    std::string target = std::string(properties.name) + ", sm_" +
                         std::to_string(10 * properties.major + properties.minor) + ", cuBLASLt " +
                         cuda::products_version();
#ifdef TRIVET_HAVE_CUDNN
    target += ", cuDNN " + cuda::convolutions_version();
#endif
    std::copy_n(properties.name, std::min(sizeof properties.name, sizeof info->name) - 1, info->name);
    std::copy_n(target.data(), std::min(target.size(), sizeof info->target - 1), info->target);
    info->memory_bytes = properties.totalGlobalMem;
    info->alignment = 64;  // that of states and of the regions of an arena
    const double clock = 1e3 * attribute(cudaDevAttrClockRate, device);
    const double processors = properties.multiProcessorCount;
    const Rates each = rates(properties.major, properties.minor);
    info->vector_flops = info->matrix_flops = 2 * each.f32 * processors * clock;
    info->bf16_matrix_flops = 2 * each.bf16 * processors * clock;
    info->int8_matrix_flops = 2 * info->bf16_matrix_flops;
    info->memory_rate =
        2e3 * attribute(cudaDevAttrMemoryClockRate, device) * attribute(cudaDevAttrGlobalMemoryBusWidth, device) / 8;
    info->cache_rate = 32 * processors * clock;  // a sector of the level-2 cache for each multiprocessor
    info->launch_seconds = 2e-6;                 // of a kernel within a graph, the order of magnitude
    info->cache_size = static_cast<std::size_t>(properties.l2CacheSize);
  });
}

// CUDA makes a device's context when it is first used, not here: to ask for a plan must cost no memory of the device.
std::int32_t open(std::int32_t device, TrivetDevice** opened, TrivetMessage* message) {
  return guarded(message, [&] { *opened = new TrivetDevice{device}; });
}

void close(TrivetDevice* device) { delete device; }

std::int32_t enter(TrivetDevice* device, TrivetMessage* message) {
  return on(device, message, [] {});
}

std::int32_t allocate(TrivetDevice* device, std::size_t bytes, void** memory, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaMalloc(memory, bytes), "cudaMalloc"); });
}

void release(TrivetDevice*, void* memory) { cudaFree(memory); }

std::int32_t allocate_pinned(TrivetDevice* device, std::size_t bytes, void** memory, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaMallocHost(memory, bytes), "cudaMallocHost"); });
}

void release_pinned(TrivetDevice*, void* memory) { cudaFreeHost(memory); }

std::int32_t make_stream(TrivetDevice* device, TrivetStream** stream, TrivetMessage* message) {
  return on(device, message, [&] {
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    *stream = reinterpret_cast<TrivetStream*>(made);
  });
}

void release_stream(TrivetDevice*, TrivetStream* stream) { cudaStreamDestroy(own(stream)); }

std::int32_t synchronize(TrivetDevice* device, TrivetStream* stream, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaStreamSynchronize(own(stream)), "cudaStreamSynchronize"); });
}

template <cudaMemcpyKind kind>
std::int32_t transfer(TrivetDevice* device, void* to, const void* from, std::size_t bytes, TrivetStream* stream,
                      TrivetMessage* message) {
  return on(device, message, [&] { check(cudaMemcpyAsync(to, from, bytes, kind, own(stream)), "cudaMemcpyAsync"); });
}

std::int32_t make_event(TrivetDevice* device, TrivetEvent** event, TrivetMessage* message) {
  return on(device, message, [&] {
    cudaEvent_t made = nullptr;
    check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    *event = reinterpret_cast<TrivetEvent*>(made);
  });
}

void release_event(TrivetDevice*, TrivetEvent* event) { cudaEventDestroy(own(event)); }

std::int32_t record_event(TrivetDevice* device, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaEventRecord(own(event), own(stream)), "cudaEventRecord"); });
}

std::int32_t hold_stream(TrivetDevice* device, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaStreamWaitEvent(own(stream), own(event)), "cudaStreamWaitEvent"); });
}

std::int32_t synchronize_event(TrivetDevice* device, TrivetEvent* event, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaEventSynchronize(own(event)), "cudaEventSynchronize"); });
}

std::int32_t event_reached(TrivetDevice* device, TrivetEvent* event, std::int32_t* reached, TrivetMessage* message) {
  return on(device, message, [&] {
    const cudaError_t state = cudaEventQuery(own(event));
    *reached = state == cudaErrorNotReady ? 0 : 1;
    if (state == cudaErrorNotReady) {
      cudaGetLastError();  // it is no error, and the next launch is not to be blamed for it
    } else {
      check(state, "cudaEventQuery");
    }
  });
}

std::int32_t begin_capture(TrivetDevice* device, TrivetStream* stream, TrivetMessage* message) {
  return on(device, message, [&] {
    check(cudaStreamBeginCapture(own(stream), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  });
}

std::int32_t end_capture(TrivetDevice* device, TrivetStream* stream, TrivetGraph** graph, TrivetMessage* message) {
  return on(device, message, [&] {
    cudaGraph_t captured = nullptr;
    check(cudaStreamEndCapture(own(stream), &captured), "cudaStreamEndCapture");
    cudaGraphExec_t ready = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&ready, captured, 0);
    cudaGraphDestroy(captured);
    check(error, "cudaGraphInstantiate");
    *graph = reinterpret_cast<TrivetGraph*>(ready);
  });
}

std::int32_t launch_graph(TrivetDevice* device, TrivetGraph* graph, TrivetStream* stream, TrivetMessage* message) {
  return on(device, message, [&] { check(cudaGraphLaunch(own(graph), own(stream)), "cudaGraphLaunch"); });
}

void release_graph(TrivetDevice*, TrivetGraph* graph) { cudaGraphExecDestroy(own(graph)); }

const TrivetKernel* find_kernel(TrivetDevice*, const char* op) {
  const trivet::kernels::KernelEntry* entry = cuda::find_product(op);
#ifdef TRIVET_HAVE_CUDNN
  if (!entry) entry = cuda::find_convolution(op);
#endif
  if (!entry) entry = cuda::find_ranks(op);
  return plugin::border(entry ? entry : cuda::find(op));
}

std::int32_t make_ranks_id(TrivetDevice* device, TrivetRanksId* id, TrivetMessage* message) {
  return on(device, message, [&] { cuda::make_ranks_id(*id); });
}

std::int32_t join_ranks(TrivetDevice* device, const TrivetRanksId* id, std::int32_t rank, std::int32_t size,
                        TrivetRanks** ranks, TrivetMessage* message) {
  return on(device, message, [&] { *ranks = cuda::join_ranks(*id, rank, size); });
}

std::int32_t call_ranks(TrivetDevice* device, TrivetRanks* ranks, const TrivetRanksCall* call, TrivetStream* stream,
                        TrivetMessage* message) {
  return on(device, message, [&] { cuda::call_ranks(*ranks, *call, stream); });
}

std::int32_t ranks_ready(TrivetDevice* device, TrivetRanks* ranks, std::int32_t* ready, TrivetMessage* message) {
  return on(device, message, [&] { *ready = cuda::ranks_ready(*ranks) ? 1 : 0; });
}

void abort_ranks(TrivetDevice* device, TrivetRanks* ranks) {
  cudaSetDevice(device->number);
  cuda::abort_ranks(*ranks);
}

void release_ranks(TrivetDevice* device, TrivetRanks* ranks) {
  cudaSetDevice(device->number);
  cuda::release_ranks(ranks);
}

const TrivetBackend& table() {
  static const std::string build =
      "CUDA " + cuda::version_text(CUDART_VERSION) + " for " + cuda::architectures_text(TRIVET_CUDA_ARCHITECTURES);
  static const TrivetBackend backend = {
      .version = TRIVET_BACKEND_VERSION,
      .size = sizeof(TrivetBackend),
      .layout = trivet::kernels::plugin_layout(),
      .name = "cuda",
      .build = build.c_str(),
      .count_devices = count_devices,
      .describe_device = describe_device,
      .describe_libraries = cuda::describe_libraries,
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
      .upload = transfer<cudaMemcpyHostToDevice>,
      .download = transfer<cudaMemcpyDeviceToHost>,
      .copy = transfer<cudaMemcpyDeviceToDevice>,
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
      .run = plugin::run,
      .pack = plugin::pack,
      .make_ranks_id = make_ranks_id,
      .join_ranks = join_ranks,
      .call_ranks = call_ranks,
      .ranks_ready = ranks_ready,
      .abort_ranks = abort_ranks,
      .release_ranks = release_ranks,
  };
  return backend;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const TrivetBackend* trivet_backend_query(std::uint32_t) {
  return &table();
}
