// What a training plan for several ranks asks NCCL for: each bucket as one group, in the plan's order, with the counts
// and types of its tensors, on a stream of their own.
#ifdef TRIVET_TEST_NCCL
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "tests/comm/ranks.h"
#include "tests/golden/golden.h"
#include "tests/plugins/environment.h"
#include "trivet/comm/device_communicator.h"
#include "trivet/kernels/attrs_ranks.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

using testing::fake_counts;
using testing::Ranks;
using testing::require;
using testing::SetVariable;
using testing::UsePlugin;

// Set before any test opens the plug-in: the program looks for libraries once.
const SetVariable kLibraries("TRIVET_CUDA_LIBDIRS", TRIVET_TEST_NCCL);

struct Setting {
  const char* name;
  const char* precision;
  int ranks;
  std::int64_t zero;
};

TrainPlans plans_of(const Setting& setting, int rank, const Device& device) {
  ModelConfig model;
  model.name = "mlp";
  model.classes = golden::kClasses;
  model.hidden = {900, 900};  // more than the first bucket holds
  model.precision = setting.precision;
  TrainConfig config;
  config.batch = 4 * setting.ranks;
  config.top_k = 1;
  config.optimizer.name = "sgd";
  config.ranks = setting.ranks;
  config.rank = rank;
  config.zero = setting.zero;
  return plan_training(label_task(model, {golden::kSide, golden::kSide, 1}, 1), config, {config.batch, 0, 0}, device);
}

// The calls of a run of the plan, as the library writes them down, without the stream.
std::vector<std::string> calls_of(const Plan& plan) {
  std::map<std::int64_t, std::vector<std::string>> by_number;
  for (const PlannedStep& step : plan.steps) {
    const bool sum = step.op == "sum_ranks_start", reduce = step.op == "reduce_ranks_start";
    const bool send = step.op == "broadcast_ranks_send", receive = step.op == "broadcast_ranks_receive";
    if (!sum && !reduce && !send && !receive) continue;
    kernels::RootedRanksAttrs attrs;
    std::memcpy(&attrs, step.attrs.data(), sum ? sizeof(kernels::SumRanksAttrs) : sizeof attrs);
    std::vector<std::string>& lines = by_number[attrs.number];
    for (const int v : send ? step.inputs : step.outputs) {
      const TensorType& type = plan.values[static_cast<std::size_t>(v)].type;
      const char* dtype = type.dtype == DType::bf16 ? "bf16" : "f32";
      if (sum) lines.push_back(fmt::format("all_reduce {} {} sum root 0", type.elements(), dtype));
      if (reduce) lines.push_back(fmt::format("reduce {} {} sum root {}", type.elements(), dtype, attrs.root));
      if (send || receive) lines.push_back(fmt::format("broadcast {} u8 sum root {}", type.bytes(), attrs.root));
    }
    lines.emplace_back("end of group");
  }
  std::vector<std::string> result;
  for (const auto& [number, lines] : by_number) result.insert(result.end(), lines.begin(), lines.end());
  return result;
}

std::vector<std::string> written_down(const std::string& file, const Stream& computing) {
  std::ifstream log(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(log, line);) {
    if (line.starts_with("init")) continue;
    if (const std::size_t at = line.find(" stream "); at != std::string::npos) {
      require(line.substr(at + 8) != fmt::format("{}", computing.handle()),
              fmt::format("not on the stream that computes: {}", line));
      line.resize(at);
    }
    lines.push_back(line);
  }
  return lines;
}

void run_steps(Session& session, int rank) {
  for (std::int64_t step = 1; step <= 4; ++step) {
    for (const auto& [name, value] : session.plan().inputs) {
      const TensorType& type = session.plan().values[static_cast<std::size_t>(value)].type;
      Tensor tensor(type);
      if (name == "x") tensor = golden::noise(static_cast<std::uint32_t>(10 * step + rank), type, 0.5F);
      if (name == "lr" || name == "inv_count") tensor.as<float>()[0] = 0.05F;
      session.set_input(name, tensor.data.data(), tensor.data.size());
    }
    session.run();
  }
}

class NcclTraining : public ::testing::TestWithParam<Setting> {};

TEST_P(NcclTraining, EachBucketIsAGroupInTheOrderOfThePlan) {
  const Setting setting = GetParam();
  const UsePlugin plugin("fake");
  const TemporaryFolder folder;
  const std::string log = (folder.path() / "asked-").string();
  const SetVariable variable("TRIVET_FAKE_NCCL_LOG", log);
  Ranks ranks;
  ranks.start_all(testing::options_for(setting.ranks, "shm"), [&](Communicator& host) {
    const auto device = open_device("cuda");
    const TrainPlans plans = plans_of(setting, host.rank(), *device);
    const auto arena = std::make_shared<Arena>(device, plans.states, plans.all());
    const JoinedDevices joined = join_devices(device, std::shared_ptr<Communicator>(std::shared_ptr<void>(), &host));
    arena->set_collectives(joined.collectives);
    arena->initialize(3);
    const std::shared_ptr<const Plan> plan = plans.step.begin()->second;
    Session session(arena, plan);
    const int graphs = fake_counts().graphs, waits = fake_counts().synchronizations;
    run_steps(session, host.rank());
    require(fake_counts().synchronizations == waits, "no step waits for the device");
    require(fake_counts().graphs > graphs, "steps are recorded");
    require(fake_counts().graph_launches >= 3, "and started again");
    session.scalar("loss");
    const std::vector<std::string> once = calls_of(*plan);
    require(std::count(once.begin(), once.end(), "end of group") >= 2, "there are several buckets");
    std::vector<std::string> expected;
    for (int step = 0; step < 4; ++step) expected.insert(expected.end(), once.begin(), once.end());
    const std::vector<std::string> found = written_down(log + std::to_string(host.rank()), arena->stream());
    for (std::size_t i = 0; i < std::max(found.size(), expected.size()); ++i) {
      const std::string is = i < found.size() ? found[i] : "none", should = i < expected.size() ? expected[i] : "none";
      require(is == should, fmt::format("line {} is '{}', expected '{}'", i, is, should));
    }
    for (const auto& slot : plans.states.slots()) {
      if (slot.value.memory != MemoryClass::parameters || slot.value.type.dtype != DType::f32) continue;
      const Tensor own = arena->get_state(slot.value.name);
      Tensor roots = own;
      host.broadcast(roots.data.data(), roots.data.size(), 0);
      require(roots.data == own.data, fmt::format("{} is that of rank 0", slot.value.name));
    }
  });
  EXPECT_EQ(ranks.failures(), "");
}

INSTANTIATE_TEST_SUITE_P(Settings, NcclTraining,
                         ::testing::Values(Setting{"f32_2", "f32", 2, 0}, Setting{"f32_4", "f32", 4, 0},
                                           Setting{"bf16_weights_2", "bf16_weights", 2, 0},
                                           Setting{"zero1_2", "f32", 2, 1}, Setting{"zero2_4", "f32", 4, 2}),
                         [](const auto& p) { return std::string(p.param.name); });

}  // namespace
}  // namespace trivet
#endif
