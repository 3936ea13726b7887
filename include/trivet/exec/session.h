// Running plans: an arena with its parameters, and sessions on it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trivet/exec/collectives.h"
#include "trivet/exec/device.h"
#include "trivet/plan/plan.h"

namespace trivet {

class InputStaging;

// One allocation for the states, the constants of some plans, and the transient memory that these plans use one after
// the other:  [states | constants of plan 0 | constants of plan 1 | ... | transient]. Twins have no constants of their
// own.
class Arena {
 public:
  Arena(std::shared_ptr<const Device> device, StateLayout states, std::vector<std::shared_ptr<const Plan>> plans);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // What the constructor will allocate, to the byte.
  static std::size_t planned_bytes(const StateLayout& states, const std::vector<std::shared_ptr<const Plan>>& plans);
  // What it allocates beside that for inputs on their way to the device: as much there as in pinned memory of the host.
  static std::size_t staging_bytes(const Device& device, const std::vector<std::shared_ptr<const Plan>>& plans);

  std::size_t bytes() const { return memory_->size(); }
  const Device& device() const { return *device_; }
  const StateLayout& states() const { return states_; }
  Stream& stream() const { return *stream_; }
  // Returns when all that was put on the stream has run. Error(rank) if another rank keeps it from that.
  void wait() const;

  // All states as their Init says, but for data.
  void initialize(std::uint64_t seed);
  void set_state(const std::string& name, const Tensor& value);  // Error(graph): unknown name, other type
  void set_state(const std::string& name, const TensorType& type, const void* host);
  // Rows [first, first + count) of a state along its first dimension.
  void set_state_rows(const std::string& name, std::int64_t first, std::int64_t count, const void* host);
  Tensor get_state(const std::string& name) const;
  std::byte* state_address(const std::string& name) const;
  // Grows when states are set, or updated by a run.
  std::uint64_t state_version() const { return state_version_; }

  // With whom the sums of plans for several ranks are made. To be set before sessions of such plans run.
  void set_collectives(std::shared_ptr<Collectives> collectives) { collectives_ = std::move(collectives); }

 private:
  friend class Session;
  std::byte* region(Region region, const Plan& plan) const;

  std::shared_ptr<const Device> device_;
  StateLayout states_;
  std::vector<std::shared_ptr<const Plan>> plans_;
  std::vector<std::size_t> constant_offsets_;
  std::size_t transient_offset_ = 0;
  std::uint64_t state_version_ = 1;
  std::shared_ptr<Collectives> collectives_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<DeviceMemory> memory_;
  std::unique_ptr<InputStaging> staging_;  // of devices that run beside the host
};

// A plan ready to run on an arena that was made for it. Runs allocate nothing. On a device that runs beside the host,
// the first run puts the plan's steps on the arena's stream one by one; then they are recorded once and started as one,
// or as one between each two places where other ranks are told something.
class Session {
 public:
#ifdef NDEBUG
  static constexpr bool kPoisonByDefault = false;
#else
  static constexpr bool kPoisonByDefault = true;
#endif
  // `poison`: fill a buffer with NaN when its lifetime ends, so that a step which reads too late shows (CPU only).
  Session(std::shared_ptr<Arena> arena, std::shared_ptr<const Plan> plan, bool poison = kPoisonByDefault);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  const Plan& plan() const { return *plan_; }
  // Copies `bytes` of the host to an input; must be all of it. Inputs must be set again before each run, because their
  // memory is used for other values once they were read.
  void set_input(const std::string& name, const void* data, std::size_t bytes);
  void run();  // returns before the device has run it, if it runs beside the host
  // Computes what depends on the states alone, if these have changed. run() does so itself, except for a twin: then
  // the session of the plan that it was made from is to do so, before any of them runs.
  void refresh();
  // Copies an output to the host after run(); waits for it.
  Tensor output(const std::string& name) const;
  float scalar(const std::string& name) const;  // an f32 output of one element
  void read_output(const std::string& name, void* data, std::size_t bytes) const;

 private:
  enum class Ranks { none, start_sum, start_reduce, wait, send, receive };  // what a launch tells other ranks
  struct Launch {
    const PlannedStep* step;
    Ranks ranks;
    std::vector<kernels::View> in;
    std::vector<kernels::View> out;
    void* workspace;
    void* packed;
  };
  // Launches that are recorded as one, and what is then told to other ranks, which cannot be recorded.
  struct Segment {
    std::size_t begin, end;
    const Launch* told;  // null: nothing
  };
  static Ranks part_of(const PlannedStep& step);
  static bool puts_nothing(const Launch& launch);
  std::vector<Segment> segments() const;
  void launch(std::size_t step);
  void run_kernel(const Launch& launch);
  void run_beside_the_host(const Asynchronous& beside);
  void put_on_stream(const Asynchronous& beside, std::size_t slot);
  void put_inputs(const Asynchronous& beside, std::size_t slot);
  std::vector<std::unique_ptr<Recording>> record(const Asynchronous& beside, std::size_t slot);
  std::unique_ptr<Recording> record(const Asynchronous& beside, const std::function<void()>& what);
  void tell_ranks(const Launch& launch);
  Collectives& collectives(std::int64_t ranks) const;
  kernels::View view(int value) const;
  void poison_after(int step) const;
  const PlannedValue& named(const std::map<std::string, int>& names, const std::string& name, const char* what) const;

  std::shared_ptr<Arena> arena_;
  std::shared_ptr<const Plan> plan_;
  std::vector<Launch> launches_;
  bool updates_states_ = false;
  bool has_ranks_ = false;          // some launches have to do with other ranks
  std::uint64_t seen_version_ = 0;  // of the states, by refresh()
  bool poison_;
  // Of devices that run beside the host, from here on: places in a slot of the arena's staging, by input.
  std::map<std::string, std::size_t> staged_;
  std::size_t staged_bytes_ = 0;
  bool has_run_ = false;
  std::vector<Segment> segments_;
  std::vector<std::vector<std::unique_ptr<Recording>>> recordings_;  // by slot, of each segment; null: nothing to run
};

}  // namespace trivet
