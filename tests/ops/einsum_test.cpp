#include "trivet/ops/einsum.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/math/philox.h"
#include "tests/ops/op_case_driver.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/passes/gradients.h"

namespace trivet::testing {
namespace {

// An equation, and the same one with a letter for every dimension, for the reference.
struct Example {
  std::string equation;
  std::vector<std::string> terms;
  std::string result;
  std::vector<Shape> shapes;
};

std::vector<Example> examples() {
  return {
      {"ij->ij", {"ij"}, "ij", {{3, 5}}},
      {"ij->ji", {"ij"}, "ji", {{3, 5}}},
      {"ij->", {"ij"}, "", {{3, 5}}},
      {"ij->j", {"ij"}, "j", {{3, 5}}},
      {"ii", {"ii"}, "", {{4, 4}}},
      {"ii->i", {"ii"}, "i", {{4, 4}}},
      {"iij->ji", {"iij"}, "ji", {{3, 3, 2}}},
      {"ijji->j", {"ijji"}, "j", {{2, 3, 3, 2}}},
      {"iii->i", {"iii"}, "i", {{3, 3, 3}}},
      {"ii,ij->j", {"ii", "ij"}, "j", {{3, 3}, {3, 2}}},
      {"ba", {"ba"}, "ab", {{2, 3}}},
      {"bA", {"bA"}, "Ab", {{2, 3}}},
      {"ij,jk", {"ij", "jk"}, "ik", {{3, 5}, {5, 4}}},
      {" i j , j k -> i k ", {"ij", "jk"}, "ik", {{3, 5}, {5, 4}}},
      {"ji,kj->ki", {"ji", "kj"}, "ki", {{5, 3}, {4, 5}}},
      {"i,j->ij", {"i", "j"}, "ij", {{3}, {5}}},
      {"i,i->", {"i", "i"}, "", {{7}, {7}}},
      {"bi,bi->b", {"bi", "bi"}, "b", {{3, 5}, {3, 5}}},
      {"bi,bi->bi", {"bi", "bi"}, "bi", {{3, 5}, {3, 5}}},
      {"bij,bjk->bik", {"bij", "bjk"}, "bik", {{2, 3, 4}, {2, 4, 5}}},
      {"bhid,bhjd->bhij", {"bhid", "bhjd"}, "bhij", {{2, 3, 4, 5}, {2, 3, 6, 5}}},
      {"bhij,bhjd->bihd", {"bhij", "bhjd"}, "bihd", {{2, 3, 4, 5}, {2, 3, 5, 2}}},
      {"ijkl,lkm->mij", {"ijkl", "lkm"}, "mij", {{2, 3, 4, 5}, {5, 4, 2}}},
      {"ij,kl->", {"ij", "kl"}, "", {{2, 3}, {4, 5}}},
      {"ijm,jk->ik", {"ijm", "jk"}, "ik", {{2, 3, 4}, {3, 5}}},
      {"i,ij,j->", {"i", "ij", "j"}, "", {{3}, {3, 4}, {4}}},
      {"ab,bc,cd->ad", {"ab", "bc", "cd"}, "ad", {{2, 3}, {3, 4}, {4, 5}}},
      {"ab,ac,ad->bcd", {"ab", "ac", "ad"}, "bcd", {{2, 3}, {2, 4}, {2, 5}}},
      {",ij->ij", {"", "ij"}, "ij", {{}, {2, 3}}},
      {"ij,ij->ij", {"ij", "ij"}, "ij", {{1, 5}, {3, 1}}},
      {"ij,jk->ik", {"ij", "jk"}, "ik", {{3, 1}, {4, 2}}},
      {"...ij,...jk->...ik", {"abij", "abjk"}, "abik", {{2, 3, 4, 5}, {2, 3, 5, 2}}},
      {"...ij,...jk", {"abij", "bjk"}, "abik", {{2, 3, 4, 5}, {1, 5, 2}}},
      {"i...,i...->...", {"iab", "iab"}, "ab", {{4, 2, 3}, {4, 1, 3}}},
      {"...,...", {"ab", "b"}, "ab", {{2, 3}, {3}}},
      {"i...j->j...", {"iabj"}, "jab", {{2, 3, 4, 5}}},
      {"...i->...", {"i"}, "", {{6}}},
      {"...i,ij->j...", {"abi", "ij"}, "jab", {{2, 3, 4}, {4, 5}}},
  };
}

Tensor drawn(const Shape& shape, std::uint64_t key) {
  Tensor t({DType::f32, shape});
  for (std::size_t i = 0; i < t.as<float>().size(); ++i) {
    t.as<float>()[i] = static_cast<float>(math::philox(key, 0, i).v[0]) * 0x1p-31F - 1.0F;
  }
  return t;
}

std::vector<Tensor> operands_of(const Example& e) {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < e.shapes.size(); ++i) tensors.push_back(drawn(e.shapes[i], 100 + i));
  return tensors;
}

// The definition: for all values of all letters, the product of the operands is added to the result.
Ref reference(const Example& e, const std::vector<Ref>& in) {
  std::map<char, std::int64_t> size, at;
  for (std::size_t k = 0; k < e.terms.size(); ++k) {
    for (std::size_t d = 0; d < e.terms[k].size(); ++d) {
      std::int64_t& n = size.emplace(e.terms[k][d], 1).first->second;
      n = std::max(n, e.shapes[k][d]);
    }
  }
  std::int64_t combinations = 1;
  for (const auto& [letter, n] : size) combinations *= n;
  Shape shape;
  for (const char letter : e.result) shape.push_back(size[letter]);
  Ref y = Ref::zeros(shape);
  for (std::int64_t c = 0; c < combinations; ++c) {
    std::int64_t rest = c;
    for (const auto& [letter, n] : size) {
      at[letter] = rest % n;
      rest /= n;
    }
    double product = 1;
    for (std::size_t k = 0; k < e.terms.size(); ++k) {
      std::int64_t position = 0;
      for (std::size_t d = 0; d < e.terms[k].size(); ++d) {
        position = position * e.shapes[k][d] + (e.shapes[k][d] == 1 ? 0 : at[e.terms[k][d]]);
      }
      product *= in[k][position];
    }
    std::int64_t position = 0;
    for (const char letter : e.result) position = position * size[letter] + at[letter];
    y[position] += product;
  }
  return y;
}

struct Built {
  Graph graph;
  std::vector<ValueId> operands;
  ValueId result;
};

Built build(const Example& e) {
  Built b;
  for (std::size_t i = 0; i < e.shapes.size(); ++i) {
    b.operands.push_back(b.graph.input(fmt::format("in{}", i), {DType::f32, e.shapes[i]}));
  }
  b.result = einsum(b.graph, e.equation, b.operands);
  return b;
}

TEST(Einsum, MatchesItsDefinitionInPlainLoops) {
  for (const Example& e : examples()) {
    const std::vector<Tensor> in = operands_of(e);
    const Ref expected = reference(e, to_refs(in));
    Built b = build(e);
    b.graph.set_output("y", b.result);
    for (const Isa isa : isas()) {
      const std::vector<Tensor> found = evaluate(b.graph, bind_inputs(in), isa);
      EXPECT_TRUE(close_to(found[0], expected, 1e-5, e.equation));
    }
  }
}

TEST(Einsum, HasTheGradientOfItsDefinition) {
  for (const Example& e : examples()) {
    const std::vector<Tensor> in = operands_of(e);
    Built b = build(e);
    if (std::find(b.operands.begin(), b.operands.end(), b.result) != b.operands.end()) continue;  // no node at all
    const Tensor cotangent = drawn(b.graph.type(b.result).shape, 7);
    const ValueId seed = b.graph.input("seed", cotangent.type);
    const std::vector<ValueId> found = gradients(b.graph, b.result, seed, b.operands);
    for (std::size_t k = 0; k < found.size(); ++k) {
      ASSERT_NE(found[k], kNoValue) << e.equation;
      b.graph.set_output(fmt::format("grad{}", k), found[k]);
    }
    auto bindings = bind_inputs(in);
    bindings["seed"] = cotangent;
    const std::vector<Tensor> gradient = evaluate(b.graph, bindings, Isa::baseline);

    // The result is linear in each operand, so a difference over any distance is exact.
    const Ref weights = to_ref(cotangent);
    std::vector<Ref> inputs = to_refs(in);
    const auto loss = [&] {
      const Ref y = reference(e, inputs);
      double sum = 0;
      for (std::int64_t i = 0; i < y.size(); ++i) sum += weights[i] * y[i];
      return sum;
    };
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      Ref expected = inputs[k];
      for (std::int64_t i = 0; i < inputs[k].size(); ++i) {
        const double middle = inputs[k][i];
        inputs[k][i] = middle + 0.5;
        const double above = loss();
        inputs[k][i] = middle - 0.5;
        expected[i] = above - loss();
        inputs[k][i] = middle;
      }
      EXPECT_TRUE(close_to(gradient[k], expected, 1e-5, fmt::format("{}, operand {}", e.equation, k)));
    }
  }
}

int count(const Graph& graph, std::string_view op) {
  return static_cast<int>(
      std::count_if(graph.nodes().begin(), graph.nodes().end(), [&](const Node& node) { return node.op->name == op; }));
}

TEST(Einsum, OfAttentionScoresIsOneMatrixProductWithoutATranspose) {
  const Built b = build({"bhid,bhjd->bhij", {}, "", {{2, 3, 4, 5}, {2, 3, 6, 5}}});
  EXPECT_EQ(count(b.graph, "matmul"), 1);
  EXPECT_EQ(count(b.graph, "transpose"), 0);
}

TEST(Einsum, NamesItsNodesAsAsked) {
  Graph graph;
  const ValueId x = graph.input("x", {DType::f32, {2, 3}});
  einsum(graph, "ij->ji", {x}, "scores");
  EXPECT_EQ(graph.nodes().back().name, "scores_transpose_0");
}

struct Refused {
  std::string equation;
  std::vector<Shape> shapes;
  std::string message;
};

TEST(Einsum, RefusesABadEquationNamingThePlace) {
  const std::vector<Refused> all = {
      {"i1->i", {{2}}, "character 2"},
      {"ij,jk=>ik", {{2, 2}, {2, 2}}, "character 6"},
      {"ij->ik", {{2, 2}}, "which no operand has"},
      {"ij->ii", {{2, 2}}, "'i' twice"},
      {"....->", {{2, 2}}, "character 4"},
      {"...i...->i", {{2, 2}}, "character 5: '...' is given twice"},
      {"ij,jk->ik", {{2, 3}, {4, 5}}, "character 4: 'j' of operand 2 has size 4, but 3 elsewhere"},
      {"ijk->i", {{2, 3}}, "3 letters for operand 1, which is f32[2,3]"},
      {"i->i", {{2, 3}}, "1 letters for operand 1"},
      {"ij...->i", {{2}}, "2 letters for operand 1"},
      {"ij", {{2, 3}, {3, 2}}, "names 1 operands, there are 2"},
      {"ij,jk->ik", {{2, 3}}, "names 2 operands, there are 1"},
      {"ii->i", {{1, 3}}, "sizes 1 and 3"},
      {"abcde,fghij->abcdefghij", {Shape(5, 2), Shape(5, 2)}, "rank 10"},
      {std::string(2000, 'a'), {{2}}, "at most 1000"},
      {"...,...", {{2, 3}, {2, 4}}, "a dimension of '...' of operand 2 has size 4, but 3 elsewhere"},
  };
  for (const Refused& r : all) {
    try {
      build({r.equation, {}, "", r.shapes});
      ADD_FAILURE() << r.equation << " is accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::graph) << r.equation;
      EXPECT_THAT(e.message(), ::testing::HasSubstr(r.message)) << r.equation;
    }
  }
}

}  // namespace
}  // namespace trivet::testing
