// Devices: where plans run. The CPU is linked in; CUDA is a plug-in behind this same interface, so graph, passes,
// training and data have no code that depends on which it is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trivet/plan/target.h"

namespace trivet {

class DeviceRanks;  // trivet/exec/device_ranks.h

// Memory on a device; freed when destroyed.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual std::byte* data() const = 0;  // an address of the device, not always one of the host
  virtual std::size_t size() const = 0;
};

// An order of execution on a device: what is put on a stream runs after what was put on it before.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void synchronize() = 0;  // returns when all that was put on it has run
  virtual void* handle() const = 0;
};

// A place in the order of a stream.
class Event {
 public:
  virtual ~Event() = default;
  virtual void record(Stream& stream) = 0;  // after what was put on the stream until now
  virtual void hold(Stream& stream) = 0;    // what is put on this stream from now on waits for the event
  virtual void synchronize() = 0;           // returns when it was reached; at once if it was never recorded
  virtual bool reached() = 0;               // whether it was; true if it was never recorded
};

// Work that was recorded from a stream, to be started again as one.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void launch(Stream& stream) = 0;
};

// What a device adds whose streams run beside the host.
class Asynchronous {
 public:
  virtual ~Asynchronous() = default;
  // Memory of the host from and to which copies go on beside the host's work. Error(memory) if there is not enough.
  virtual std::unique_ptr<DeviceMemory> allocate_pinned(std::size_t bytes) const = 0;
  virtual std::unique_ptr<Event> make_event() const = 0;
  // From one place of the device to another.
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes, Stream& stream) const = 0;
  // From here on, what is put on the stream does not run but is recorded, until end_recording().
  virtual void begin_recording(Stream& stream) const = 0;
  virtual std::unique_ptr<Recording> end_recording(Stream& stream) const = 0;
  // An id for one call of join_ranks() on each rank. Error(usage) if devices cannot speak with each other, with the
  // reason.
  virtual std::string make_ranks_id() const = 0;
  // This device as rank `rank` of `size`. Returns before the others have come; DeviceRanks::is_ready() says when.
  virtual std::unique_ptr<DeviceRanks> join_ranks(const std::string& id, int rank, int size) const = 0;
};

class Device : public Target {
 public:
  virtual std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) const = 0;  // Error(memory) if there is not enough
  virtual std::unique_ptr<Stream> make_stream() const = 0;
  virtual void upload(std::byte* device, const void* host, std::size_t bytes, Stream& stream) const = 0;
  virtual void download(void* host, const std::byte* device, std::size_t bytes, Stream& stream) const = 0;
  virtual std::size_t memory_bytes() const = 0;  // what a program may use at most
  // The host's address of device memory where the two share it, else null. Lets a reader stream without a copy.
  virtual const std::byte* host_address(const std::byte* device) const = 0;
  // A batch is best cut into tiles whose largest op touches no more than this, each run by one thread; 0: not at all.
  virtual std::size_t tile_bytes() const = 0;
  // Calls task(i, thread) for each i below `tasks`, on all threads() of them. What a task throws is thrown here.
  virtual void run_tasks(std::int64_t tasks, const std::function<void(std::int64_t, int)>& task) const = 0;
  // The CPU's are measured once on a machine, then read from the user's cache folder; a GPU's follow from its clocks.
  virtual Ceilings ceilings() const = 0;
  // Null where a launch has run when it returns.
  virtual const Asynchronous* asynchronous() const { return nullptr; }
};

struct DeviceOptions {
  int threads = 0;                 // 0: one for each core that this process may use
  std::optional<std::string> isa;  // "baseline", "avx2", "avx512"; none: the best that the processor has
};

// `name`: "cpu", "cuda" or "cuda:1". Error(usage) if there is no such device or it cannot be used, with the reason.
std::shared_ptr<const Device> open_device(const std::string& name, const DeviceOptions& options = {});

// Cores that this process may run on.
int available_cores();

// What a program may use of the host's memory at most.
std::size_t host_memory_bytes();

}  // namespace trivet
