#include "runtime/exec/plugin_device.h"

#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "runtime/exec/plugin_library.h"
#include "trivet/base/error.h"
#include "trivet/base/text.h"
#include "trivet/exec/device_ranks.h"
#include "trivet/kernels/plugin_layout.h"

namespace trivet {
namespace {

using kernels::KernelArgs;
using kernels::KernelEntry;
using kernels::KernelSpec;
using kernels::Prepared;

std::string reason_of(const TrivetMessage& message) {
  return {message.text, ::strnlen(message.text, sizeof message.text)};
}

void check(std::int32_t status, const TrivetMessage& message, const char* doing) {
  if (status == TRIVET_OK) return;
  const std::string reason = reason_of(message);
  if (status == TRIVET_NO_MEMORY) {
    throw Error(ErrorCode::memory, fmt::format("the device cannot {}: {}", doing, reason),
                "use a smaller batch or model; `trivet plan` shows what takes the memory");
  }
  throw Error(ErrorCode::internal, fmt::format("the device cannot {}: {}", doing, reason));
}

struct OpenedDevice;

// The plug-in's kernel for an op. Plans point to it and keep the device by what they prepared.
struct PluginEntry : KernelEntry {
  std::string name;  // that `op` points to
  OpenedDevice* device = nullptr;
  const TrivetKernel* kernel = nullptr;
};

// A device that was opened, closed when nothing refers to it any more: memory, streams and plans do.
struct OpenedDevice : std::enable_shared_from_this<OpenedDevice> {
  OpenedDevice(const TrivetBackend& backend, int number) : api(backend) {
    TrivetMessage message{};
    check(api.describe_device(number, &info, &message), message, "be described");
    check(api.open(number, &handle, &message), message, "be opened");
  }
  OpenedDevice(const OpenedDevice&) = delete;
  OpenedDevice& operator=(const OpenedDevice&) = delete;
  ~OpenedDevice() { api.close(handle); }

  // Calls a function of the table with the device first and the message last.
  template <class F, class... Args>
  void call(const char* doing, F function, Args... args) const {
    TrivetMessage message{};
    check(function(handle, args..., &message), message, doing);
  }

  const TrivetBackend& api;
  TrivetDevice* handle = nullptr;
  TrivetDeviceInfo info{};
  std::mutex mutex;                                                          // of the table below
  std::map<std::string, std::unique_ptr<PluginEntry>, std::less<>> entries;  // null: no kernel
};

using Opened = std::shared_ptr<OpenedDevice>;

const TrivetDesc* border(std::span<const kernels::TensorDesc> descs) {
  return reinterpret_cast<const TrivetDesc*>(descs.data());
}

TrivetSpec border(const KernelSpec& spec) {
  return {border(spec.in), spec.in.size(), border(spec.out),   spec.out.size(),
          spec.attrs,      spec.threads,   spec.fixed_weights, spec.tile};
}

TrivetArgs border(const KernelArgs& args) {
  return {reinterpret_cast<const TrivetView*>(args.in.data()),
          args.in.size(),
          reinterpret_cast<const TrivetView*>(args.out.data()),
          args.out.size(),
          args.attrs,
          args.workspace,
          args.packed,
          static_cast<TrivetStream*>(args.stream),
          args.threads};
}

struct PluginPrepared final : Prepared {
  PluginPrepared(Opened opened, const KernelSpec& spec) : device(std::move(opened)) {
    const TrivetSpec plain = border(spec);
    TrivetMessage message{};
    check(device->api.prepare(static_cast<const PluginEntry*>(spec.entry)->kernel, &plain, &handle, &workspace, &packed,
                              &message),
          message, "prepare a kernel");
  }
  PluginPrepared(const PluginPrepared&) = delete;
  PluginPrepared& operator=(const PluginPrepared&) = delete;
  ~PluginPrepared() override { device->api.release_prepared(handle); }

  Opened device;
  TrivetPrepared* handle = nullptr;
  std::size_t workspace = 0, packed = 0;
};

using Launcher = std::int32_t (*)(const TrivetPrepared*, const TrivetArgs*, TrivetMessage*);

void launch(Launcher TrivetBackend::*function, const KernelArgs& args) {
  const auto& prepared = *static_cast<const PluginPrepared*>(args.prepared);
  const TrivetArgs plain = border(args);
  TrivetMessage message{};
  check((prepared.device->api.*function)(prepared.handle, &plain, &message), message, "run a kernel");
}

std::unique_ptr<PluginEntry> make_entry(OpenedDevice& device, std::string_view op) {
  auto entry = std::make_unique<PluginEntry>();
  entry->name = op;
  entry->kernel = device.api.find_kernel(device.handle, entry->name.c_str());
  if (!entry->kernel) return nullptr;
  entry->device = &device;
  entry->op = entry->name.c_str();
  entry->weights = device.api.kernel_weights(entry->kernel);
  entry->supports = [](const KernelSpec& spec) {
    const auto& self = *static_cast<const PluginEntry*>(spec.entry);
    const TrivetSpec plain = border(spec);
    return self.device->api.kernel_supports(self.kernel, &plain) != 0;
  };
  entry->prepare = [](const KernelSpec& spec) -> std::unique_ptr<Prepared> {
    return std::make_unique<PluginPrepared>(static_cast<const PluginEntry*>(spec.entry)->device->shared_from_this(),
                                            spec);
  };
  entry->workspace = [](const KernelSpec&, const Prepared* p) {
    return static_cast<const PluginPrepared*>(p)->workspace;
  };
  entry->packed = [](const KernelSpec&, const Prepared* p) { return static_cast<const PluginPrepared*>(p)->packed; };
  entry->run = [](const KernelArgs& args) { launch(&TrivetBackend::run, args); };
  entry->pack = [](const KernelArgs& args) { launch(&TrivetBackend::pack, args); };
  return entry;
}

class PluginMemory final : public DeviceMemory {
 public:
  PluginMemory(Opened device, std::size_t bytes, bool pinned)
      : device_(std::move(device)), size_(bytes), pinned_(pinned) {
    if (bytes == 0) return;
    void* memory = nullptr;
    const auto& api = device_->api;
    device_->call(pinned ? "allocate pinned memory of the host" : "allocate memory",
                  pinned ? api.allocate_pinned : api.allocate, bytes, &memory);
    data_ = static_cast<std::byte*>(memory);
  }
  PluginMemory(const PluginMemory&) = delete;
  PluginMemory& operator=(const PluginMemory&) = delete;
  ~PluginMemory() override {
    if (data_) (pinned_ ? device_->api.release_pinned : device_->api.release)(device_->handle, data_);
  }
  std::byte* data() const override { return data_; }
  std::size_t size() const override { return size_; }

 private:
  Opened device_;
  std::byte* data_ = nullptr;
  std::size_t size_;
  bool pinned_;
};

TrivetStream* handle_of(Stream& stream) { return static_cast<TrivetStream*>(stream.handle()); }

class PluginStream final : public Stream {
 public:
  explicit PluginStream(Opened device) : device_(std::move(device)) {
    device_->call("make a stream", device_->api.make_stream, &stream_);
  }
  PluginStream(const PluginStream&) = delete;
  PluginStream& operator=(const PluginStream&) = delete;
  ~PluginStream() override { device_->api.release_stream(device_->handle, stream_); }
  void synchronize() override { device_->call("finish what it was given", device_->api.synchronize, stream_); }
  void* handle() const override { return stream_; }

 private:
  Opened device_;
  TrivetStream* stream_ = nullptr;
};

class PluginEvent final : public Event {
 public:
  explicit PluginEvent(Opened device) : device_(std::move(device)) {
    device_->call("make an event", device_->api.make_event, &event_);
  }
  PluginEvent(const PluginEvent&) = delete;
  PluginEvent& operator=(const PluginEvent&) = delete;
  ~PluginEvent() override { device_->api.release_event(device_->handle, event_); }
  void record(Stream& stream) override {
    device_->call("record an event", device_->api.record_event, event_, handle_of(stream));
  }
  void hold(Stream& stream) override {
    device_->call("wait for an event", device_->api.hold_stream, event_, handle_of(stream));
  }
  void synchronize() override { device_->call("wait for an event", device_->api.synchronize_event, event_); }
  bool reached() override {
    std::int32_t reached = 0;
    device_->call("look at an event", device_->api.event_reached, event_, &reached);
    return reached != 0;
  }

 private:
  Opened device_;
  TrivetEvent* event_ = nullptr;
};

class PluginRecording final : public Recording {
 public:
  PluginRecording(Opened device, TrivetGraph* graph) : device_(std::move(device)), graph_(graph) {}
  PluginRecording(const PluginRecording&) = delete;
  PluginRecording& operator=(const PluginRecording&) = delete;
  ~PluginRecording() override { device_->api.release_graph(device_->handle, graph_); }
  void launch(Stream& stream) override {
    device_->call("launch a recorded step", device_->api.launch_graph, graph_, handle_of(stream));
  }

 private:
  Opened device_;
  TrivetGraph* graph_;
};

static_assert(sizeof(TrivetPiece) == sizeof(DevicePiece) && offsetof(TrivetPiece, out) == offsetof(DevicePiece, out) &&
              offsetof(TrivetPiece, elements) == offsetof(DevicePiece, elements));
static_assert(sizeof(TrivetRanksId) == kRanksIdBytes);
static_assert(static_cast<int>(RanksOperation::broadcast) == TRIVET_BROADCAST &&
              static_cast<int>(ReduceOp::min) == TRIVET_MIN);

class PluginRanks final : public DeviceRanks {
 public:
  PluginRanks(Opened device, const std::string& id, int rank, int size) : device_(std::move(device)) {
    TrivetRanksId plain{};
    if (id.size() != sizeof plain.bytes) {
      throw Error(ErrorCode::internal,
                  fmt::format("an id of {} bytes for ranks, expected {}", id.size(), sizeof plain.bytes));
    }
    std::memcpy(plain.bytes, id.data(), id.size());
    device_->call("join other ranks", device_->api.join_ranks, static_cast<const TrivetRanksId*>(&plain), rank, size,
                  &ranks_);
  }
  PluginRanks(const PluginRanks&) = delete;
  PluginRanks& operator=(const PluginRanks&) = delete;
  ~PluginRanks() override { device_->api.release_ranks(device_->handle, ranks_); }
  void call(const RanksCall& call, Stream& stream) override {
    const TrivetRanksCall plain = {reinterpret_cast<const TrivetPiece*>(call.pieces.data()),
                                   call.pieces.size(),
                                   static_cast<std::int32_t>(call.operation),
                                   static_cast<std::int32_t>(call.op),
                                   call.root,
                                   static_cast<std::uint8_t>(call.dtype)};
    device_->call("speak with other ranks", device_->api.call_ranks, ranks_, &plain, handle_of(stream));
  }
  bool is_ready() override {
    std::int32_t ready = 0;
    device_->call("speak with other ranks", device_->api.ranks_ready, ranks_, &ready);
    return ready != 0;
  }
  void abort() noexcept override { device_->api.abort_ranks(device_->handle, ranks_); }

 private:
  Opened device_;
  TrivetRanks* ranks_ = nullptr;
};

class PluginDevice final : public Device, public Asynchronous {
 public:
  explicit PluginDevice(Opened device) : device_(std::move(device)) {}

  std::string description() const override { return fmt::format("{} {}", device_->api.name, device_->info.target); }
  const KernelEntry* find(std::string_view op) const override {
    const std::lock_guard lock(device_->mutex);
    const auto known = device_->entries.find(op);
    if (known != device_->entries.end()) return known->second.get();
    return device_->entries.emplace(op, make_entry(*device_, op)).first->second.get();
  }
  int threads() const override { return 1; }
  std::size_t alignment() const override { return device_->info.alignment; }
  void enter() const override { device_->call("be entered", device_->api.enter); }

  std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) const override {
    if (bytes > memory_bytes()) {
      throw Error(ErrorCode::memory,
                  fmt::format("the arena needs {}, {} has {}", format_bytes(bytes), device_->info.name,
                              format_bytes(memory_bytes())),
                  "use a smaller batch or model; `trivet plan` shows what takes the memory");
    }
    return std::make_unique<PluginMemory>(device_, bytes, false);
  }
  std::unique_ptr<Stream> make_stream() const override { return std::make_unique<PluginStream>(device_); }
  void upload(std::byte* device, const void* host, std::size_t bytes, Stream& stream) const override {
    if (bytes > 0) device_->call("be written to", device_->api.upload, device, host, bytes, handle_of(stream));
  }
  void download(void* host, const std::byte* device, std::size_t bytes, Stream& stream) const override {
    if (bytes > 0) device_->call("be read", device_->api.download, host, device, bytes, handle_of(stream));
  }
  std::size_t memory_bytes() const override { return device_->info.memory_bytes; }
  const std::byte* host_address(const std::byte*) const override { return nullptr; }
  std::size_t tile_bytes() const override { return 0; }
  void run_tasks(std::int64_t tasks, const std::function<void(std::int64_t, int)>& task) const override {
    for (std::int64_t i = 0; i < tasks; ++i) task(i, 0);
  }
  Ceilings ceilings() const override {
    const TrivetDeviceInfo& i = device_->info;
    return {.matrix_flops = i.matrix_flops,
            .bf16_matrix_flops = i.bf16_matrix_flops,
            .int8_matrix_flops = i.int8_matrix_flops,
            .vector_flops = i.vector_flops,
            .memory_bytes = i.memory_rate,
            .triad_bytes = i.memory_rate,
            .cache_bytes = i.cache_rate,
            .launch_seconds = i.launch_seconds,
            .cache_size = i.cache_size};
  }
  const Asynchronous* asynchronous() const override { return this; }

  std::unique_ptr<DeviceMemory> allocate_pinned(std::size_t bytes) const override {
    return std::make_unique<PluginMemory>(device_, bytes, true);
  }
  std::unique_ptr<Event> make_event() const override { return std::make_unique<PluginEvent>(device_); }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes, Stream& stream) const override {
    if (bytes > 0) device_->call("copy", device_->api.copy, to, from, bytes, handle_of(stream));
  }
  void begin_recording(Stream& stream) const override {
    device_->call("begin to record a step", device_->api.begin_capture, handle_of(stream));
  }
  std::unique_ptr<Recording> end_recording(Stream& stream) const override {
    TrivetGraph* graph = nullptr;
    device_->call("record a step", device_->api.end_capture, handle_of(stream), &graph);
    return std::make_unique<PluginRecording>(device_, graph);
  }
  std::string make_ranks_id() const override {
    TrivetRanksId id{};
    TrivetMessage message{};
    if (device_->api.make_ranks_id(device_->handle, &id, &message) != TRIVET_OK) {
      throw Error(ErrorCode::usage, fmt::format("GPUs cannot speak with each other: {}", reason_of(message)),
                  "`trivet doctor` shows what was found of NCCL");
    }
    return {id.bytes, sizeof id.bytes};
  }
  std::unique_ptr<DeviceRanks> join_ranks(const std::string& id, int rank, int size) const override {
    return std::make_unique<PluginRanks>(device_, id, rank, size);
  }

 private:
  Opened device_;
};

}  // namespace

std::shared_ptr<const Device> open_plugin_device(const TrivetBackend& backend, int number) {
  const PluginDevices devices = count_devices(backend);
  if (devices.count == 0) refuse_cuda(devices.why_not, "`trivet doctor` shows what was found, or run on device: cpu");
  if (number >= devices.count) {
    refuse_cuda(fmt::format("there is no device {}: this machine has {}, counted from 0", number, devices.count),
                "`trivet doctor` lists them");
  }
  return std::make_shared<PluginDevice>(std::make_shared<OpenedDevice>(backend, number));
}

}  // namespace trivet
