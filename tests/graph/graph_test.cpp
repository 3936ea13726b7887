#include "trivet/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

using ::testing::HasSubstr;

TensorType f32(Shape shape) { return {DType::f32, std::move(shape)}; }

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

Graph small() {
  Graph g("small");
  const ValueId x = g.input("x", f32({2, 3}));
  const ValueId w = g.parameter("w", f32({4, 3}), {Init::Kind::normal, 0.1});
  const ValueId y = apply(g, "linear", {x, w}, {}, "dense");
  g.set_output("y", apply(g, "relu", {y}, {}, "act"));
  return g;
}

TEST(Graph, InfersTypesAsNodesAreAdded) {
  const Graph g = small();
  EXPECT_EQ(g.type(g.outputs()[0].value), f32({2, 4}));
}

TEST(Graph, AShapeErrorNamesTheNodeTheOpAndBothShapes) {
  Graph g;
  const ValueId a = g.input("a", f32({2, 3}));
  const ValueId b = g.input("b", f32({4, 5}));
  const std::string text = message_of([&] { apply(g, "add", {a, b}, {}, "sum"); });
  EXPECT_THAT(text, HasSubstr("sum"));
  EXPECT_THAT(text, HasSubstr("add(f32[2,3], f32[4,5])"));
}

TEST(Graph, AnUnknownOpOrAttributeNamesTheNearest) {
  Graph g;
  const ValueId a = g.input("a", f32({2, 3}));
  EXPECT_THAT(message_of([&] { apply(g, "relv", {a}); }), HasSubstr("relu"));
  EXPECT_THAT(message_of([&] { apply(g, "softmax", {a}, {{"axs", std::int64_t{1}}}); }), HasSubstr("'axis'"));
  EXPECT_THAT(message_of([&] {
                apply(g, "softmax", {a}, {{"axis", std::string("one")}});
              }),
              HasSubstr("expected an integer"));
}

TEST(Graph, RefusesASecondValueOfTheSameName) {
  Graph g;
  g.input("x", f32({1}));
  EXPECT_THAT(message_of([&] { g.parameter("x", f32({1}), {}); }), HasSubstr("two values named 'x'"));
}

TEST(Graph, RefusesAnUpdateOfAnotherTypeAndASecondUpdate) {
  Graph g;
  const ValueId s = g.state("s", f32({2}), MemoryClass::optimizer);
  const ValueId other = g.input("other", f32({3}));
  EXPECT_THAT(message_of([&] { g.set_update(s, other); }), HasSubstr("f32[2]"));
  const ValueId next = apply(g, "zero", {s});
  g.set_update(s, next);
  EXPECT_THAT(message_of([&] { g.set_update(s, next); }), HasSubstr("twice"));
}

TEST(Graph, RefusesShapesWhoseSizeOverflows) {
  Graph g;
  EXPECT_THAT(message_of([&] {
                g.input("x", f32({std::int64_t{1} << 40, std::int64_t{1} << 40}));
              }),
              HasSubstr("too many elements"));
  EXPECT_THAT(message_of([&] { g.input("x", f32({-1})); }), HasSubstr("negative"));
}

TEST(Graph, DumpAndHashAreStableAndTellGraphsApart) {
  EXPECT_EQ(small().dump(), small().dump());
  EXPECT_EQ(small().hash(), small().hash());
  Graph other = small();
  other.set_output("again", other.outputs()[0].value);
  EXPECT_NE(small().hash(), other.hash());
}

TEST(Graph, HashDependsOnTheContentOfConstants) {
  const auto with = [](float value) {
    Graph g;
    const ValueId x = g.input("x", f32({}));
    g.set_output("y", apply(g, "add", {x, g.constant(Tensor::scalar_f32(value))}));
    return g.hash();
  };
  EXPECT_EQ(with(1.0F), with(1.0F));
  EXPECT_NE(with(1.0F), with(1.0000001F));
}

TEST(Graph, DumpNamesEveryPart) {
  const std::string text = small().dump();
  EXPECT_EQ(text,
            "graph small\n"
            "%0 = input \"x\" : f32[2,3]\n"
            "%1 = state \"w\" : f32[4,3] parameters init=normal(0.1) trainable\n"
            "%2 = linear(%0, %1) {activation=none} : f32[2,4]  # dense\n"
            "%3 = relu(%2) : f32[2,4]  # act\n"
            "output \"y\" = %3\n");
}

TEST(GraphCopier, CopiesEverything) {
  const Graph from = small();
  Graph to(from.name());
  GraphCopier copier(from, to);
  for (const Node& node : from.nodes()) copier.copy(node);
  copier.finish();
  EXPECT_EQ(from.dump(), to.dump());
}

}  // namespace
}  // namespace trivet
