#include "trivet/exec/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;

struct Counter {
  std::shared_ptr<const Device> device = open_device("cpu", {1, {}});
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<Arena> arena;

  // s <- s + x; y = s * 2 of the old value.
  Counter() {
    Graph g("counter");
    const ValueId x = g.input("x", {DType::f32, {4}});
    const ValueId s = g.state("s", {DType::f32, {4}}, MemoryClass::parameters, {Init::Kind::constant, 1.0});
    g.set_output("y", apply(g, "add", {s, s}));
    g.set_update(s, apply(g, "add", {s, x}));
    StateLayout states(64);
    states.add(g);
    plan = compile(g, states, *device);
    arena = std::make_shared<Arena>(device, states, std::vector{plan});
    arena->initialize(0);
  }
};

TEST(Session, StatesCarryOverFromRunToRun) {
  Counter c;
  Session session(c.arena, c.plan);
  const std::vector<float> ones(4, 1.0F);
  for (int i = 1; i <= 3; ++i) {
    session.set_input("x", ones.data(), 16);
    session.run();
    EXPECT_EQ(session.output("y").as<float>()[0], 2.0F * static_cast<float>(i));
  }
  EXPECT_EQ(c.arena->get_state("s").as<float>()[3], 4.0F);
}

TEST(Session, WrongNamesAndSizesAreErrorsThatSayWhatIsThere) {
  Counter c;
  Session session(c.arena, c.plan);
  const float value = 0;
  try {
    session.set_input("x", &value, 4);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'x' is f32[4] (16 bytes), given 4 bytes"));
  }
  EXPECT_THROW(session.set_input("z", &value, 4), Error);
  EXPECT_THROW(session.output("z"), Error);
  EXPECT_THROW(c.arena->get_state("t"), Error);
  EXPECT_THROW(c.arena->set_state("s", Tensor::scalar_f32(1)), Error);
}

TEST(Session, APlanOfAnotherArenaIsRefused) {
  Counter a, b;
  EXPECT_THROW(Session(a.arena, b.plan), Error);
}

TEST(Arena, InitialValuesDependOnSeedAndNameAlone) {
  const auto draw = [](std::uint64_t seed, bool other_first) {
    Graph g;
    if (other_first) g.parameter("other", {DType::f32, {7}}, {Init::Kind::normal, 1.0});
    g.parameter("w", {DType::f32, {100}}, {Init::Kind::normal, 1.0});
    StateLayout states(64);
    states.add(g);
    Arena arena(open_device("cpu", {1, {}}), states, {});
    arena.initialize(seed);
    return arena.get_state("w").data;
  };
  EXPECT_EQ(draw(1, false), draw(1, true));
  EXPECT_NE(draw(1, false), draw(2, false));
}

TEST(Arena, NormalAndUniformDrawsHaveTheirMoments) {
  Graph g;
  g.parameter("n", {DType::f32, {100000}}, {Init::Kind::normal, 0.5});
  g.parameter("u", {DType::f32, {100000}}, {Init::Kind::uniform, 0.5});
  StateLayout states(64);
  states.add(g);
  Arena arena(open_device("cpu", {1, {}}), states, {});
  arena.initialize(3);
  const auto moments = [&](const char* name) {
    const Tensor t = arena.get_state(name);
    double sum = 0, squares = 0;
    for (const float v : t.as<float>()) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    return std::pair(sum / 1e5, std::sqrt(squares / 1e5));
  };
  EXPECT_NEAR(moments("n").first, 0.0, 0.01);
  EXPECT_NEAR(moments("n").second, 0.5, 0.01);
  EXPECT_NEAR(moments("u").first, 0.0, 0.01);
  EXPECT_NEAR(moments("u").second, 0.5 / std::sqrt(3.0), 0.01);
}

TEST(Arena, ConstantsOfEveryPlanAreThere) {
  const auto device = open_device("cpu", {1, {}});
  StateLayout states(64);
  std::vector<std::shared_ptr<const Plan>> plans;
  for (int i = 0; i < 3; ++i) {
    Graph g;
    const ValueId x = g.input("x", {DType::f32, {}});
    g.set_output("y", apply(g, "add", {x, g.constant(Tensor::scalar_f32(static_cast<float>(i)))}));
    plans.push_back(compile(g, states, *device));
  }
  const auto arena = std::make_shared<Arena>(device, states, plans);
  for (int i = 0; i < 3; ++i) {
    Session session(arena, plans[static_cast<std::size_t>(i)]);
    const float x = 10;
    session.set_input("x", &x, 4);
    session.run();
    EXPECT_EQ(session.scalar("y"), 10.0F + static_cast<float>(i));
  }
}

TEST(OpenDevice, SaysWhyADeviceCannotBeUsed) {
  EXPECT_THROW(open_device("tpu"), Error);
  EXPECT_THROW(open_device("cpu", {1, "avx9"}), Error);
  EXPECT_EQ(open_device("cpu", {3, "baseline"})->description(), "cpu baseline, 3 threads");
}

TEST(Device, RefusesMoreMemoryThanTheMachineHas) {
  try {
    open_device("cpu")->allocate(std::size_t{1} << 60);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::memory);
  }
}

TEST(Evaluate, NamesTheInputThatIsNotBound) {
  Graph g;
  g.set_output("y", apply(g, "exp", {g.input("x", {DType::f32, {2}})}));
  try {
    evaluate(g, {}, kernels::cpu::best_isa());
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'x'"));
  }
}

}  // namespace
}  // namespace trivet
