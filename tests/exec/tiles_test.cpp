#include "trivet/exec/tiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

constexpr std::int64_t kWidth = 24;

// Two layers; the weights of the first are scaled in the graph, which depends on states alone.
Graph two_layers(std::int64_t samples) {
  Graph g("two_layers");
  const ValueId x = g.input("x", {DType::f32, {samples, kWidth}});
  const ValueId w = g.parameter("w", {DType::f32, {kWidth, kWidth}}, {Init::Kind::normal, 0.3});
  const ValueId v = g.parameter("v", {DType::f32, {3, kWidth}}, {Init::Kind::normal, 0.3});
  const ValueId scaled = apply(g, "tanh", {w});
  const ValueId hidden = apply(g, "relu", {apply(g, "linear", {x, scaled})});
  g.set_output("y", apply(g, "linear", {hidden, v}));
  return g;
}

struct Tiled {
  std::shared_ptr<const Device> device;
  StateLayout states{64};
  TilePlans plans;
  std::shared_ptr<Arena> arena;

  Tiled(int threads, const std::set<std::int64_t>& batches) : device(open_device("cpu", {threads, {}})) {
    plans = compile_tiles(two_layers, batches, states, *device);
    arena = std::make_shared<Arena>(device, states, plans.all());
    arena->initialize(5);
  }
};

std::vector<float> samples_of(std::int64_t count) {
  std::vector<float> x(static_cast<std::size_t>(count * kWidth));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  return x;
}

std::vector<float> predict(TiledSession& session, std::int64_t samples) {
  const std::vector<float> x = samples_of(samples);
  std::vector<float> y(static_cast<std::size_t>(samples * 3), std::numeric_limits<float>::quiet_NaN());
  const TiledSession::Input in[] = {{"x", x.data(), x.size() * sizeof(float)}};
  const TiledSession::Output out[] = {{"y", y.data(), y.size() * sizeof(float)}};
  session.run(samples, in, out);
  return y;
}

void expect_values(Tiled& tiled, std::int64_t samples, const std::vector<float>& y) {
  const Tensor w = tiled.arena->get_state("w"), v = tiled.arena->get_state("v");
  Tensor x({DType::f32, {samples, kWidth}});
  const std::vector<float> values = samples_of(samples);
  std::copy(values.begin(), values.end(), x.as<float>().begin());
  const Tensor expected = evaluate(two_layers(samples), {{"x", x}, {"w", w}, {"v", v}}, kernels::cpu::best_isa())[0];
  ASSERT_EQ(expected.as<float>().size(), y.size());
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected.as<float>()[i], 1e-5) << i;
}

TEST(Tiles, GiveEachSampleItsValuesOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3}) {
    Tiled tiled(threads, {83, 30, 1});
    TiledSession session(tiled.arena, tiled.plans);
    for (const std::int64_t samples : {83, 1, 30, 83}) expect_values(tiled, samples, predict(session, samples));
  }
}

TEST(Tiles, GiveTheSameBitsOnAnyNumberOfThreads) {
  const auto on = [](int threads, std::int64_t samples) {
    Tiled tiled(threads, {samples});
    TiledSession session(tiled.arena, tiled.plans);
    return predict(session, samples);
  };
  for (const std::int64_t samples : {1, 7, 8, 20, 83}) {
    const std::vector<float> alone = on(1, samples);
    for (const int threads : {2, 3, 5}) EXPECT_EQ(on(threads, samples), alone) << samples << ", " << threads;
  }
}

TEST(Tiles, FollowStatesThatAreSetBetweenRuns) {
  Tiled tiled(2, {64});
  TiledSession session(tiled.arena, tiled.plans);
  const std::vector<float> before = predict(session, 64);
  expect_values(tiled, 64, before);
  tiled.arena->initialize(6);
  const std::vector<float> after = predict(session, 64);
  EXPECT_NE(before, after);
  expect_values(tiled, 64, after);
}

TEST(Tiles, AreForEachThreadAndSmallBatchesStayWhole) {
  EXPECT_THAT(Tiled(2, {64}).plans.plans, UnorderedElementsAre(Key(32)));
  EXPECT_EQ(Tiled(2, {64}).plans.plans.at(32).size(), 2u);
  EXPECT_THAT(Tiled(2, {64, 40}).plans.plans, UnorderedElementsAre(Key(32), Key(8)));
  EXPECT_THAT(Tiled(2, {8}).plans.plans, UnorderedElementsAre(Key(4)));
  EXPECT_THAT(Tiled(2, {3}).plans.plans, UnorderedElementsAre(Key(3)));
}

TEST(Tiles, TwinsShareWhatIsKeptOfTheStates) {
  Tiled one(1, {64}), two(2, {64});
  std::size_t constants = 0;
  for (const auto& plan : two.plans.all()) constants += plan->twin_of ? 0 : plan->constant_bytes;
  EXPECT_EQ(constants, one.plans.all()[0]->constant_bytes);
  EXPECT_EQ(two.arena->bytes(), Arena::planned_bytes(two.states, two.plans.all()));
}

TEST(Tiles, RefuseABatchThatWasNotPlanned) {
  Tiled tiled(2, {64});
  TiledSession session(tiled.arena, tiled.plans);
  try {
    predict(session, 70);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("6 samples"));
  }
}

}  // namespace
}  // namespace trivet
