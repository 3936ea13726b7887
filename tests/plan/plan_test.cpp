#include "trivet/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/plan/random_graph.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/exec/session.h"
#include "trivet/plan/memory.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

std::shared_ptr<const Plan> compile_for_cpu(const Graph& g, StateLayout* layout = nullptr) {
  StateLayout own(64);
  StateLayout& states = layout ? *layout : own;
  states.add(g);
  return compile(g, states, *open_device("cpu", {1, {}}));
}

using testing::filled;

TEST(PlaceBuffers, NoTwoLiveBuffersOverlapAndThePeakIsNearTheLargestLiveSum) {
  std::mt19937 rng(7);
  double worst = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<LiveBuffer> buffers(1 + rng() % 60);
    for (LiveBuffer& b : buffers) {
      b.bytes = 64 * (1 + rng() % 200);
      b.first = static_cast<int>(rng() % 50);
      b.last = b.first + static_cast<int>(rng() % 12);
    }
    const Placement p = place_buffers(buffers);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      ASSERT_LE(p.offsets[i] + buffers[i].bytes, p.size);
      for (std::size_t j = 0; j < i; ++j) {
        const bool alive = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
        const bool apart =
            p.offsets[i] + buffers[i].bytes <= p.offsets[j] || p.offsets[j] + buffers[j].bytes <= p.offsets[i];
        ASSERT_TRUE(!alive || apart) << "round " << round << ", buffers " << i << " and " << j;
      }
    }
    const std::size_t live = peak_live_bytes(buffers);
    ASSERT_GE(p.size, live);
    worst = std::max(worst, static_cast<double>(p.size) / static_cast<double>(live));
  }
  EXPECT_LT(worst, 1.5);
}

TEST(Plan, RandomGraphsGiveTheSameValuesAsNodeByNodeEvaluation) {
  const auto device = open_device("cpu", {1, {}});
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const Graph g = testing::RandomGraph(seed).make();
    std::map<std::string, Tensor> bindings;
    for (const ValueId v : g.inputs())
      bindings[g.value(v).name] = filled(g.type(v), seed + static_cast<std::uint32_t>(v));
    bindings["s"] = filled(f32({8, 16}), seed + 100);
    const std::vector<Tensor> expected = evaluate(g, bindings, kernels::cpu::best_isa());

    StateLayout states(64);
    states.add(g);
    const auto plan = compile(g, states, *device);
    const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
    arena->set_state("s", bindings["s"]);
    Session session(arena, plan, /*poison=*/true);
    for (const ValueId v : g.inputs()) {
      const Tensor& t = bindings[g.value(v).name];
      session.set_input(g.value(v).name, t.data.data(), t.data.size());
    }
    session.run();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(session.output(g.outputs()[i].name).data, expected[i].data)
          << "graph " << seed << ", output " << i << "\n"
          << g.dump();
    }
  }
}

// y = exp(s) x + exp(s): exp(s) is needed by every run, s + s by that one alone.
Graph with_fixed_part() {
  Graph g;
  const ValueId x = g.input("x", f32({4}));
  const ValueId s = g.state("s", f32({4}), MemoryClass::parameters, {Init::Kind::constant, 0.5});
  const ValueId e = apply(g, "exp", {apply(g, "add", {s, s})});
  g.set_output("y", apply(g, "add", {apply(g, "mul", {e, x}), e}));
  return g;
}

TEST(Plan, ComputesWhatDependsOnFixedStatesAloneOnlyAfterTheyChange) {
  const Graph g = with_fixed_part();
  const auto device = open_device("cpu", {1, {}});
  StateLayout states(64);
  states.add(g);
  const auto plan = compile(g, states, *device, {.fixed_states = true});
  EXPECT_EQ(plan->first_repeated, 2u);
  EXPECT_EQ(plan->steps.size(), 4u);
  EXPECT_EQ(plan->constant_bytes, 64u);  // exp(s) stays, s + s does not
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(0);
  Session session(arena, plan, /*poison=*/true);
  const std::vector<float> x = {0, 1, 2, 3};
  const auto expect_run = [&](float s) {
    session.set_input("x", x.data(), 16);
    session.run();
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_FLOAT_EQ(session.output("y").as<float>()[i], std::exp(2 * s) * (x[i] + 1));
    }
  };
  expect_run(0.5F);
  expect_run(0.5F);
  Tensor s(f32({4}));
  std::fill(s.as<float>().begin(), s.as<float>().end(), 0.25F);
  arena->set_state("s", s);
  expect_run(0.25F);
}

TEST(Plan, RefusesFixedStatesThatTheGraphUpdates) {
  Graph g;
  const ValueId s = g.state("s", f32({4}), MemoryClass::parameters);
  g.set_update(s, apply(g, "add", {s, s}));
  StateLayout states(64);
  states.add(g);
  EXPECT_THROW(compile(g, states, *open_device("cpu", {1, {}}), {.fixed_states = true}), Error);
}

TEST(Plan, TheCheckerFindsABufferThatIsOverwrittenTooEarly) {
  int found = 0, tried = 0;
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    Plan broken = *compile_for_cpu(testing::RandomGraph(seed).make());
    EXPECT_NO_THROW(check_plan(broken));
    // Put the output of the first step that makes a new buffer at the place of another live buffer.
    for (const PlannedStep& step : broken.steps) {
      PlannedValue& out = broken.values[static_cast<std::size_t>(step.outputs[0])];
      for (const PlannedBuffer& b : broken.buffers) {
        const int s = static_cast<int>(&step - broken.steps.data());
        if (out.region == Region::transient && b.first < s && b.last > s && b.offset != out.offset &&
            b.bytes >= out.type.bytes() && b.memory != MemoryClass::workspace) {
          out.offset = b.offset;
          ++tried;
          try {
            check_plan(broken);
          } catch (const Error&) {
            ++found;
          }
          goto next;
        }
      }
    }
  next:;
  }
  EXPECT_GT(tried, 20);
  EXPECT_EQ(found, tried);
}

TEST(Plan, ArenaIsWhatTheRunAllocatesToTheByte) {
  const auto device = open_device("cpu", {1, {}});
  const Graph g = testing::RandomGraph(3).make();
  StateLayout states(64);
  states.add(g);
  const auto plan = compile(g, states, *device);
  const Arena arena(device, states, {plan});
  EXPECT_EQ(arena.bytes(), Arena::planned_bytes(states, {plan}));
  EXPECT_EQ(arena.bytes(), states.bytes() + plan->constant_bytes + plan->transient_bytes);
}

TEST(Plan, PeakByClassAddsUpToTheTransientArena) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const auto plan = compile_for_cpu(testing::RandomGraph(seed).make());
    std::size_t sum = 0;
    for (const std::size_t bytes : plan->peak_by_class) sum += bytes;
    EXPECT_EQ(sum, plan->peak_live);
    EXPECT_LE(plan->peak_live, plan->transient_bytes);
  }
}

TEST(Plan, AChainOfElementwiseOpsRunsInPlace) {
  Graph g;
  ValueId v = g.input("x", f32({64, 64}));
  for (int i = 0; i < 5; ++i) v = apply(g, "tanh", {v});
  g.set_output("y", v);
  EXPECT_EQ(compile_for_cpu(g)->transient_bytes, f32({64, 64}).bytes());
}

TEST(Plan, AnInputThatIsReadLaterIsNotOverwritten) {
  Graph g;
  const ValueId x = g.input("x", f32({64, 64}));
  const ValueId a = apply(g, "tanh", {x});
  const ValueId b = apply(g, "relu", {x});
  g.set_output("y", apply(g, "add", {a, b}));
  EXPECT_EQ(compile_for_cpu(g)->transient_bytes, 2 * f32({64, 64}).bytes());
}

TEST(Plan, UpdatesRunAfterEveryReaderOfTheOldValue) {
  Graph g;
  const ValueId x = g.input("x", f32({4, 4}));
  const ValueId w = g.state("w", f32({4, 4}), MemoryClass::parameters, {Init::Kind::constant, 1.0});
  g.set_update(w, apply(g, "add", {w, x}, {}, "update"));
  g.set_output("y", apply(g, "matmul", {x, w}, {}, "late_reader"));
  const auto plan = compile_for_cpu(g);
  ASSERT_EQ(plan->steps.size(), 2U);
  EXPECT_EQ(plan->steps[0].node, "late_reader");
  EXPECT_EQ(plan->steps[1].node, "update");
}

TEST(Plan, AnUpdateThatCannotBeWrittenInPlaceIsRefusedByName) {
  Graph g;
  const ValueId w = g.state("w", f32({4, 4}), MemoryClass::parameters);
  g.set_update(w, apply(g, "matmul", {w, w}, {}, "square"));
  try {
    compile_for_cpu(g);
    FAIL() << "compiled";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("square"));
    EXPECT_THAT(e.what(), HasSubstr("'w'"));
  }
}

// A device that has no kernels at all.
class BareTarget final : public Target {
 public:
  std::string description() const override { return "bare device"; }
  const kernels::KernelEntry* find(std::string_view) const override { return nullptr; }
  int threads() const override { return 1; }
  std::size_t alignment() const override { return 64; }
  void enter() const override {}
};

TEST(Plan, AMissingKernelIsAnErrorThatNamesNodeOpTypesAndDevice) {
  Graph g;
  g.set_output("y", apply(g, "exp", {g.input("x", f32({3}))}, {}, "power"));
  try {
    compile(g, StateLayout(64), BareTarget());
    FAIL() << "compiled";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("power: bare device has no kernel for exp(f32[3])"));
  }
}

TEST(Plan, AnOutputThatIsAStatesOldValueIsRefused) {
  Graph g;
  const ValueId w = g.state("w", f32({4}), MemoryClass::parameters);
  g.set_update(w, apply(g, "zero", {w}));
  g.set_output("before", apply(g, "reshape", {w}, {{"shape", std::vector<std::int64_t>{2, 2}}}));
  try {
    compile_for_cpu(g);
    FAIL() << "compiled";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'before'"));
    EXPECT_THAT(e.what(), HasSubstr("'w'"));
  }
}

TEST(Plan, DumpAndHashAreStable) {
  const Graph g = testing::RandomGraph(5).make();
  EXPECT_EQ(compile_for_cpu(g)->hash(), compile_for_cpu(g)->hash());
  EXPECT_NE(compile_for_cpu(g)->hash(), compile_for_cpu(testing::RandomGraph(6).make())->hash());
}

TEST(Plan, CountsFlopsAndBytesOfAProductByHand) {
  Graph g;
  const ValueId a = g.input("a", f32({5, 7}));
  const ValueId b = g.input("b", f32({7, 3}));
  g.set_output("y", apply(g, "matmul", {a, b}));
  const auto plan = compile_for_cpu(g);
  EXPECT_EQ(plan->flops(), 2.0 * 5 * 7 * 3);
  EXPECT_EQ(plan->bytes(), 4.0 * (5 * 7 + 7 * 3 + 5 * 3));
}

TEST(Plan, PredictedTimeIsTheSlowerOfArithmeticAndMemoryAndTheLaunch) {
  Ceilings c;
  c.matrix_flops = 100;
  c.vector_flops = 10;
  c.memory_bytes = 50;
  c.cache_bytes = 500;
  c.launch_seconds = 0.25;
  c.cache_size = 1000;
  PlannedStep step;
  step.flops = 200;
  step.bytes = 5000;
  step.matrix = true;
  EXPECT_DOUBLE_EQ(Plan::seconds(step, c), 0.25 + 100.0);
  step.bytes = 500;
  EXPECT_DOUBLE_EQ(Plan::seconds(step, c), 0.25 + 2.0);
  c.bf16_matrix_flops = 200;
  c.int8_matrix_flops = 400;
  step.dtype = DType::bf16;
  EXPECT_DOUBLE_EQ(Plan::seconds(step, c), 0.25 + 1.0);
  step.bytes = 5;
  for (const DType dtype : {DType::u8, DType::i8}) {
    step.dtype = dtype;
    EXPECT_DOUBLE_EQ(Plan::seconds(step, c), 0.25 + 0.5);
  }
  step.bytes = 500;
  step.matrix = false;
  EXPECT_DOUBLE_EQ(Plan::seconds(step, c), 0.25 + 20.0);
}

TEST(StateLayout, TheSameNameWithAnotherTypeIsRefused) {
  StateLayout states(64);
  Graph a, b;
  a.state("w", f32({2}), MemoryClass::parameters);
  b.state("w", f32({3}), MemoryClass::parameters);
  states.add(a);
  EXPECT_THROW(states.add(b), Error);
  states.add(a);
  EXPECT_EQ(states.slots().size(), 1U);
}

}  // namespace
}  // namespace trivet
