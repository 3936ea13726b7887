// The border between Trivet and a device that is opened as a plug-in: plain C, so that the two may be built with
// different C++ libraries. A plug-in exports one function, trivet_backend_query().
//
// Functions that can fail return TRIVET_OK or another status and then have written the reason to `message`; none
// throws. A handle (TrivetDevice, TrivetStream, ...) belongs to the plug-in and is given back to it once. Functions
// may be called by any thread; work on one stream is put there by one thread at a time.
#pragma once

#include <stddef.h>  // NOLINT(modernize-deprecated-headers): this header is C as well
#include <stdint.h>  // NOLINT(modernize-deprecated-headers)

#ifdef __cplusplus
extern "C" {
#endif

// Grows with each change of this header, of the attribute structs (attrs_*.h) or of the order of DType.
#define TRIVET_BACKEND_VERSION 2u
#define TRIVET_BACKEND_QUERY "trivet_backend_query"

enum { TRIVET_OK = 0, TRIVET_FAILED = 1, TRIVET_NO_MEMORY = 2 };
enum { TRIVET_MAX_RANK = 8 };

typedef struct TrivetMessage {
  char text[1024];  // ends with a zero
} TrivetMessage;

// As trivet::kernels::TensorDesc and View.
typedef struct TrivetDesc {
  uint8_t dtype;
  int32_t rank;
  int64_t shape[TRIVET_MAX_RANK];
} TrivetDesc;
typedef struct TrivetView {
  TrivetDesc desc;
  void* data;
} TrivetView;

// As trivet::kernels::KernelSpec. `attrs` points to the op's struct of attrs_*.h.
typedef struct TrivetSpec {
  const TrivetDesc* in;
  size_t inputs;
  const TrivetDesc* out;
  size_t outputs;
  const void* attrs;
  int32_t threads;
  uint8_t fixed_weights;
  uint8_t tile;
} TrivetSpec;

typedef struct TrivetDevice TrivetDevice;      // NOLINT(modernize-use-using)
typedef struct TrivetStream TrivetStream;      // NOLINT(modernize-use-using)
typedef struct TrivetEvent TrivetEvent;        // NOLINT(modernize-use-using)
typedef struct TrivetGraph TrivetGraph;        // NOLINT(modernize-use-using)
typedef struct TrivetKernel TrivetKernel;      // NOLINT(modernize-use-using)
typedef struct TrivetPrepared TrivetPrepared;  // NOLINT(modernize-use-using)
typedef struct TrivetRanks TrivetRanks;        // NOLINT(modernize-use-using)

// As trivet::kernels::KernelArgs.
typedef struct TrivetArgs {
  const TrivetView* in;
  size_t inputs;
  const TrivetView* out;
  size_t outputs;
  const void* attrs;
  void* workspace;
  void* packed;
  TrivetStream* stream;
  int32_t threads;
} TrivetArgs;

typedef struct TrivetDeviceInfo {
  char name[256];    // "NVIDIA H100 80GB HBM3, sm_90"
  char target[256];  // what kernels and their bits depend on; part of the hash of plans
  size_t memory_bytes;
  size_t alignment;  // of every buffer
  // Highest rates by clocks and widths, per second: products of f32, of bf16 and of 8-bit integers, other f32
  // arithmetic, and bytes of the device's memory.
  double matrix_flops, bf16_matrix_flops, int8_matrix_flops, vector_flops, memory_rate;
  double cache_rate, launch_seconds;
  size_t cache_size;
} TrivetDeviceInfo;

// As trivet::RanksOperation, ReduceOp, DevicePiece and RanksCall.
enum {
  TRIVET_ALL_REDUCE = 0,
  TRIVET_REDUCE = 1,
  TRIVET_REDUCE_SCATTER = 2,
  TRIVET_ALL_GATHER = 3,
  TRIVET_BROADCAST = 4
};
enum { TRIVET_SUM = 0, TRIVET_MAX = 1, TRIVET_MIN = 2 };
typedef struct TrivetPiece {
  const void* in;
  void* out;
  int64_t elements;
} TrivetPiece;
typedef struct TrivetRanksCall {
  const TrivetPiece* pieces;
  size_t count;
  int32_t operation;
  int32_t op;
  int32_t root;
  uint8_t dtype;
} TrivetRanksCall;

// What the ranks of a run are given to find each other.
enum { TRIVET_RANKS_ID_BYTES = 128 };
typedef struct TrivetRanksId {
  char bytes[TRIVET_RANKS_ID_BYTES];
} TrivetRanksId;

// What a plug-in says of itself and of a library that it opens when it is needed.
typedef struct TrivetLibrary {
  char name[64];     // "cuDNN"
  char version[64];  // empty: missing
  char place[512];   // its file, or the reason why it is missing
  uint8_t required;  // without it the plug-in does nothing
} TrivetLibrary;

typedef struct TrivetBackend {
  uint32_t version;   // TRIVET_BACKEND_VERSION of the plug-in; if it is another, nothing else here may be read
  uint32_t size;      // of this struct
  uint64_t layout;    // trivet::kernels::plugin_layout() of the plug-in
  const char* name;   // "cuda"
  const char* build;  // "CUDA 13.0 for sm_80, sm_90a"

  // If there is no device that can be used, the count is 0, the status TRIVET_OK, and `why_not` says why.
  int32_t (*count_devices)(int32_t* count, TrivetMessage* why_not);
  int32_t (*describe_device)(int32_t device, TrivetDeviceInfo* info, TrivetMessage* message);
  // Writes up to `capacity` of them and returns how many there are: the driver and the libraries.
  int32_t (*describe_libraries)(TrivetLibrary* libraries, int32_t capacity);

  int32_t (*open)(int32_t device, TrivetDevice** opened, TrivetMessage* message);
  void (*close)(TrivetDevice* device);
  // Makes it the calling thread's device.
  int32_t (*enter)(TrivetDevice* device, TrivetMessage* message);

  int32_t (*allocate)(TrivetDevice* device, size_t bytes, void** memory, TrivetMessage* message);
  void (*release)(TrivetDevice* device, void* memory);
  int32_t (*allocate_pinned)(TrivetDevice* device, size_t bytes, void** memory, TrivetMessage* message);
  void (*release_pinned)(TrivetDevice* device, void* memory);

  int32_t (*make_stream)(TrivetDevice* device, TrivetStream** stream, TrivetMessage* message);
  void (*release_stream)(TrivetDevice* device, TrivetStream* stream);
  int32_t (*synchronize)(TrivetDevice* device, TrivetStream* stream, TrivetMessage* message);
  // In the order of the stream. The host's memory of upload() may be used again when it returns if it is not pinned.
  int32_t (*upload)(TrivetDevice* device, void* to, const void* host, size_t bytes, TrivetStream* stream,
                    TrivetMessage* message);
  int32_t (*download)(TrivetDevice* device, void* host, const void* from, size_t bytes, TrivetStream* stream,
                      TrivetMessage* message);
  int32_t (*copy)(TrivetDevice* device, void* to, const void* from, size_t bytes, TrivetStream* stream,
                  TrivetMessage* message);

  int32_t (*make_event)(TrivetDevice* device, TrivetEvent** event, TrivetMessage* message);
  void (*release_event)(TrivetDevice* device, TrivetEvent* event);
  int32_t (*record_event)(TrivetDevice* device, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message);
  int32_t (*hold_stream)(TrivetDevice* device, TrivetEvent* event, TrivetStream* stream, TrivetMessage* message);
  int32_t (*synchronize_event)(TrivetDevice* device, TrivetEvent* event, TrivetMessage* message);

  int32_t (*event_reached)(TrivetDevice* device, TrivetEvent* event, int32_t* reached, TrivetMessage* message);

  int32_t (*begin_capture)(TrivetDevice* device, TrivetStream* stream, TrivetMessage* message);
  int32_t (*end_capture)(TrivetDevice* device, TrivetStream* stream, TrivetGraph** graph, TrivetMessage* message);
  int32_t (*launch_graph)(TrivetDevice* device, TrivetGraph* graph, TrivetStream* stream, TrivetMessage* message);
  void (*release_graph)(TrivetDevice* device, TrivetGraph* graph);

  // Null if there is no kernel. The kernel lives as long as the plug-in.
  const TrivetKernel* (*find_kernel)(TrivetDevice* device, const char* op);
  // The index of the input that `packed` is about.
  size_t (*kernel_weights)(const TrivetKernel* kernel);
  int32_t (*kernel_supports)(const TrivetKernel* kernel, const TrivetSpec* spec);  // 0 or 1
  // With the memory that a launch wants: workspace, and that of packed weights (0: no pack()).
  int32_t (*prepare)(const TrivetKernel* kernel, const TrivetSpec* spec, TrivetPrepared** prepared, size_t* workspace,
                     size_t* packed, TrivetMessage* message);
  void (*release_prepared)(TrivetPrepared* prepared);
  int32_t (*run)(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message);
  int32_t (*pack)(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message);

  // As trivet::DeviceRanks. One thread at a time, but for abort_ranks(), after which only release_ranks() is called.
  int32_t (*make_ranks_id)(TrivetDevice* device, TrivetRanksId* id, TrivetMessage* message);
  int32_t (*join_ranks)(TrivetDevice* device, const TrivetRanksId* id, int32_t rank, int32_t size, TrivetRanks** ranks,
                        TrivetMessage* message);
  int32_t (*call_ranks)(TrivetDevice* device, TrivetRanks* ranks, const TrivetRanksCall* call, TrivetStream* stream,
                        TrivetMessage* message);
  int32_t (*ranks_ready)(TrivetDevice* device, TrivetRanks* ranks, int32_t* ready, TrivetMessage* message);
  void (*abort_ranks)(TrivetDevice* device, TrivetRanks* ranks);
  void (*release_ranks)(TrivetDevice* device, TrivetRanks* ranks);
} TrivetBackend;

// The plug-in's table in this version of the border; if it has none, a table of which only `version` may be read.
typedef const TrivetBackend* (*TrivetBackendQuery)(uint32_t version);

#ifdef __cplusplus
}
#endif
