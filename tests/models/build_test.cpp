#include "trivet/models/build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/exec/initialize.h"
#include "trivet/nn/builder.h"

namespace trivet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Built {
  Graph graph;
  ValueId logits = kNoValue;
};

Built build(const ModelConfig& config, bool training, Shape input = {4, 12, 12, 1}) {
  Built built;
  const ValueId x = built.graph.input("x", {DType::f32, std::move(input)});
  built.logits = build_model(built.graph, config, x, training, 7);
  return built;
}

std::vector<std::string> state_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId id : graph.states()) names.push_back(graph.value(id).name);
  return names;
}

std::vector<std::string> op_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes()) names.push_back(node.op->name);
  return names;
}

ModelConfig named(const std::string& name) {
  ModelConfig config;
  config.name = name;
  config.classes = 10;
  return config;
}

LayerConfig layer(const std::string& type) {
  LayerConfig config;
  config.type = type;
  return config;
}

ModelConfig layers_model(std::vector<LayerConfig> layers) {
  ModelConfig config = named("layers");
  config.layers = std::move(layers);
  return config;
}

LayerConfig dense(std::int64_t units) {
  LayerConfig config = layer("dense");
  config.units = units;
  return config;
}

std::string message_of(const ModelConfig& config, Shape input = {4, 12, 12, 1}) {
  try {
    build(config, true, std::move(input));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::graph);
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(BuildModel, MakesAnMlpFromItsHiddenSizes) {
  ModelConfig config = named("mlp");
  config.hidden = {32, 16};
  config.activation = "gelu";
  const Built built = build(config, false);
  EXPECT_THAT(op_names(built.graph), ElementsAre("reshape", "linear", "gelu", "linear", "gelu", "linear"));
  EXPECT_THAT(state_names(built.graph), ElementsAre("dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias",
                                                    "dense3.weight", "dense3.bias"));
  EXPECT_EQ(to_string(built.graph.type(built.logits)), "f32[4,10]");
}

TEST(BuildModel, UsesTheDocumentedDefaults) {
  const Built mlp = build(named("mlp"), false);
  EXPECT_EQ(to_string(mlp.graph.type(*mlp.graph.find("dense1.weight"))), "f32[256,144]");
  const Built cnn = build(named("cnn"), false);
  EXPECT_THAT(op_names(cnn.graph), ElementsAre("conv2d", "relu", "max_pool", "conv2d", "relu", "max_pool", "reshape",
                                               "linear", "relu", "linear"));
  EXPECT_EQ(to_string(cnn.graph.type(*cnn.graph.find("conv1.weight"))), "f32[32,3,3,1]");
  EXPECT_EQ(to_string(cnn.graph.type(*cnn.graph.find("conv2.weight"))), "f32[64,3,3,32]");
  EXPECT_EQ(to_string(cnn.graph.type(*cnn.graph.find("dense1.weight"))), "f32[128,576]");
}

TEST(BuildModel, GivesTrainingAndInferenceTheSameStatesInTheSameOrder) {
  ModelConfig config = named("cnn");
  config.batch_norm = true;
  config.dropout = 0.5;
  const Built training = build(config, true);
  const Built inference = build(config, false);
  EXPECT_EQ(state_names(training.graph), state_names(inference.graph));
  EXPECT_THAT(op_names(training.graph), ::testing::Contains("batch_norm_train"));
  EXPECT_THAT(op_names(training.graph), ::testing::Contains("dropout"));
  EXPECT_THAT(op_names(inference.graph), ::testing::Contains("batch_norm"));
  EXPECT_THAT(op_names(inference.graph), ::testing::Not(::testing::Contains("dropout")));
  EXPECT_FALSE(inference.graph.find("step") || inference.graph.find("sample"));
  EXPECT_TRUE(inference.graph.updates().empty());
}

TEST(BuildModel, UpdatesTheRunningStatisticsInTrainingOnly) {
  ModelConfig config = named("cnn");
  config.batch_norm = true;
  const Built built = build(config, true);
  ASSERT_EQ(built.graph.updates().size(), 4U);
  for (const Update& update : built.graph.updates()) {
    const Value& state = built.graph.value(update.state);
    EXPECT_THAT(state.name, HasSubstr("running_"));
    EXPECT_FALSE(state.trainable);
    EXPECT_EQ(state.memory, MemoryClass::parameters);
  }
  EXPECT_FALSE(built.graph.find("conv1.bias")) << "batch norm's own bias takes its place";
}

TEST(BuildModel, NumbersDropoutLayersSoThatTheirMasksDiffer) {
  LayerConfig dropout = layer("dropout");
  dropout.rate = 0.5;
  const Built built = build(layers_model({layer("flatten"), dropout, dropout, dense(10)}), true);
  std::vector<AttrValue> numbers;
  for (const Node& node : built.graph.nodes()) {
    for (const auto& [name, value] : node.attrs) {
      if (node.op->name == "dropout" && name == "op") numbers.push_back(value);
    }
  }
  ASSERT_EQ(numbers.size(), 2U);
  EXPECT_NE(numbers[0], numbers[1]);
  EXPECT_EQ(to_string(built.graph.type(*built.graph.find("step"))), "i64[]");
  EXPECT_EQ(to_string(built.graph.type(*built.graph.find("sample"))), "i64[4]");
}

TEST(BuildModel, PadsSoThatSameKeepsTheSizeDividedByTheStride) {
  for (const std::int64_t kernel : {1, 2, 3, 5}) {
    for (const std::int64_t stride : {1, 2, 3}) {
      LayerConfig conv = layer("conv");
      conv.filters = 2;
      conv.kernel = kernel;
      conv.stride = stride;
      const Built built = build(layers_model({conv, layer("flatten"), dense(10)}), false, {1, 7, 10, 3});
      const Shape expected = {1, (7 + stride - 1) / stride, (10 + stride - 1) / stride, 2};
      EXPECT_EQ(built.graph.type(built.graph.nodes()[0].outputs[0]).shape, expected) << kernel << ", " << stride;
    }
  }
}

TEST(BuildModel, AcceptsEveryLayerType) {
  LayerConfig conv = layer("conv");
  conv.filters = 3;
  conv.padding = "valid";
  LayerConfig tanh = layer("activation");
  tanh.activation = "tanh";
  LayerConfig pool = layer("average_pool");
  pool.size = 3;
  pool.stride = 2;
  const Built built = build(layers_model({conv, layer("batch_norm"), tanh, layer("max_pool"), pool, layer("flatten"),
                                          layer("layer_norm"), dense(10)}),
                            false);
  EXPECT_EQ(to_string(built.graph.type(*built.graph.find("dense1.weight"))), "f32[10,12]");
}

TEST(BuildModel, RunsFromItsInitialWeights) {
  Built built = build(named("cnn"), false);
  built.graph.set_output("logits", built.logits);
  Tensor x({DType::f32, {4, 12, 12, 1}});
  for (std::size_t i = 0; i < x.as<float>().size(); ++i) x.as<float>()[i] = static_cast<float>(i % 7) / 7.0F;
  const Tensor logits = evaluate(built.graph, {{"x", x}}, kernels::cpu::best_isa())[0];
  for (const float v : logits.as<float>()) {
    EXPECT_TRUE(std::isfinite(v));
    EXPECT_LT(std::abs(v), 100.0F);
  }
}

TEST(BuildModel, NamesTheLayerThatDoesNotFit) {
  EXPECT_THAT(message_of(layers_model({layer("flatten"), dense(10), layer("conv")})),
              StartsWith("layer 3 (conv): needs an image (N,H,W,C), got f32[4,10]"));
  EXPECT_THAT(message_of(layers_model({dense(10)})),
              StartsWith("layer 1 (dense): needs rows (N,F), got f32[4,12,12,1]"));
  EXPECT_THAT(message_of(named("cnn"), {4, 3, 3, 1}),
              StartsWith("layer 4 (max_pool): a window of 2x2 is larger than the image f32[4,1,1,64]"));
  EXPECT_THAT(message_of(layers_model({layer("flatten"), layer("dense")})), StartsWith("layer 2 (dense): units is 0"));
}

TEST(BuildModel, RefusesAnOutputThatIsNotOneLogitForEachClass) {
  const std::string message = message_of(layers_model({layer("flatten"), dense(7)}));
  EXPECT_THAT(message, HasSubstr("f32[4,7]"));
  EXPECT_THAT(message, HasSubstr("f32[4,10]"));
}

TEST(BuildModel, RefusesUnknownNamesAndListsTheKnownOnes) {
  EXPECT_THAT(message_of(named("resnext")), ::testing::AllOf(HasSubstr("'resnext'"), HasSubstr("mlp, cnn, resnet")));
  EXPECT_THAT(message_of(layers_model({layer("pool")})), ::testing::AllOf(HasSubstr("'pool'"), HasSubstr("max_pool")));
  LayerConfig odd = dense(10);
  odd.activation = "relo";
  EXPECT_THAT(message_of(layers_model({layer("flatten"), odd})),
              ::testing::AllOf(HasSubstr("'relo'"), HasSubstr("layer 2")));
  LayerConfig conv = layer("conv");
  conv.filters = 1;
  conv.padding = "full";
  EXPECT_THAT(message_of(layers_model({conv})), ::testing::AllOf(HasSubstr("'full'"), HasSubstr("layer 1")));
}

TEST(WeightInit, HasHesVarianceBeforeRectifiersAndGlorotsOtherwise) {
  for (const nn::Activation next : {nn::Activation::relu, nn::Activation::gelu, nn::Activation::silu}) {
    const Init init = nn::weight_init(50, 10, next);
    EXPECT_EQ(init.kind, Init::Kind::normal);
    EXPECT_DOUBLE_EQ(init.a, 0.2);
  }
  for (const nn::Activation next : {nn::Activation::none, nn::Activation::tanh, nn::Activation::sigmoid}) {
    const Init init = nn::weight_init(50, 100, next);
    EXPECT_EQ(init.kind, Init::Kind::uniform);
    EXPECT_DOUBLE_EQ(init.a, 0.2);
  }
}

// The measured spread of the drawn weights, with fans counted by hand: 3 x 3 x 32 inputs of each of conv2's outputs.
TEST(WeightInit, ReachesTheDrawnWeights) {
  ModelConfig config = named("cnn");
  config.batch_norm = true;  // the activation stands two layers behind the convolution
  const Built built = build(config, true);
  const auto spread = [&](const std::string& name) {
    const Value& value = built.graph.value(*built.graph.find(name));
    Tensor t(value.type);
    fill_initial(value, 3, t.data);
    double squares = 0;
    for (const float v : t.as<float>()) squares += static_cast<double>(v) * static_cast<double>(v);
    return std::sqrt(squares / static_cast<double>(t.as<float>().size()));
  };
  EXPECT_NEAR(spread("conv2.weight"), std::sqrt(2.0 / 288), 0.02 * std::sqrt(2.0 / 288));  // 18,432 draws
  EXPECT_NEAR(spread("dense2.weight"), std::sqrt(2.0 / 138), 0.1 * std::sqrt(2.0 / 138));  // 1,280 draws
  EXPECT_EQ(spread("dense1.bias"), 0.0);
  EXPECT_EQ(spread("batch_norm1.weight"), 1.0);
}

}  // namespace
}  // namespace trivet
