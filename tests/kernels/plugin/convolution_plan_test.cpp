// Convolutions as cuDNN's graphs, and its engines for an H100 that is described to it. Nothing is run: no GPU is
// needed.
#include "kernels/cuda/plugin/convolution_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "tests/kernels/plugin/described_h100.h"
#include "tests/ops/op_case_driver.h"

namespace trivet::kernels::cuda {
namespace {

using ::testing::HasSubstr;
using trivet::testing::AppliedOp;
using trivet::testing::CaseVariant;
using trivet::testing::OpCase;

class ConvolutionPlans : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      cudnn();
    } catch (const std::exception& e) {
      GTEST_SKIP() << e.what();
    }
    device_ = std::make_unique<Descriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    const auto size = static_cast<std::int64_t>(std::strlen(trivet::testing::kDescribedH100)) + 1;
    device_->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size, trivet::testing::kDescribedH100);
    device_->finalize("the described device");
  }

  ConvGraph graph(const ConvShape& shape) const { return ConvGraph(shape, {nullptr, device_.get()}); }

  // The workspaces of up to `most` engines of which plans can be made.
  std::vector<std::size_t> workspaces(const ConvShape& shape, std::size_t most) const {
    const ConvGraph g = graph(shape);
    std::vector<std::size_t> result;
    for (const ConvEngine& engine : g.engines(16)) {
      if (result.size() == most) break;
      try {
        result.push_back(g.plan(engine).workspace());
      } catch (const CudnnError&) {
        // Offered for the graph, but not for these sizes.
      }
    }
    return result;
  }

  std::unique_ptr<Descriptor> device_;
};

// An op case's variant, as the kernel of the op sees it.
struct AsKernelSeesIt {
  AppliedOp applied;
  std::vector<TensorDesc> in, out;

  explicit AsKernelSeesIt(const CaseVariant& v) : applied(apply_variant(v)) {
    for (std::size_t i = 0; i < applied.inputs.size(); ++i) {
      const trivet::testing::CaseInput& input = v.variant->inputs[i];
      in.push_back(input.absent ? TensorDesc{} : input.type.desc());
    }
    for (const ValueId value : applied.outputs) out.push_back(applied.graph.type(value).desc());
  }
  KernelSpec spec() const { return {in, out, applied.graph.nodes().back().packed.data()}; }
};

ConvTask task_of(const std::string& op, const KernelSpec& spec) {
  if (op == "conv_transpose") return input_gradient_task(spec, spec.attributes<ConvTransposeAttrs>());
  if (op.ends_with("_backward_data")) return input_gradient_task(spec, spec.attributes<ConvBackwardDataAttrs>());
  return op.ends_with("_backward_weights") ? weight_gradient_task(spec) : forward_task(spec);
}

std::vector<const OpCase*> convolution_cases() {
  return trivet::testing::cases_of(
      [](const OpDef& op) { return op.name.starts_with("conv") && op.name.find("int8") == std::string::npos; });
}

// 3x3 over 64 channels, as in a residual network; a batch of 32.
ConvShape residual_block(DType type) {
  ConvShape shape;
  shape.type = shape.result = type;
  shape.x = shape.y = {32, 56, 56, 64};
  shape.w = {64, 3, 3, 64};
  shape.strides = shape.dilations = shape.pads = {1, 1};
  return shape;
}

TEST_F(ConvolutionPlans, EveryOpCaseHasAnEngineWhosePlanFitsTheWorkspace) {
  int variants = 0;
  for (const OpCase* const op_case : convolution_cases()) {
    for (const trivet::testing::Variant& variant : op_case->variants) {
      const CaseVariant v{op_case, &variant};
      const AsKernelSeesIt seen(v);
      ConvShape shape = task_of(op_case->op, seen.spec()).shape;
      // Sums of bf16 products that become f32: as the kernel does where there is no engine for that.
      if (shape.result != shape.type && graph(shape).engines(1).empty()) shape.result = shape.type;
      const std::vector<std::size_t> found = workspaces(shape, 1);
      ASSERT_EQ(found.size(), 1U) << v.name() << ": " << shape.text();
      EXPECT_LE(found[0], most_workspace(shape)) << v.name();
      ++variants;
    }
  }
  EXPECT_GT(variants, 300);
}

TEST_F(ConvolutionPlans, AllTypesAndProductsOfAResidualBlockHaveEngines) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto product : {ConvProduct::forward, ConvProduct::backward_data, ConvProduct::backward_weights}) {
      ConvShape shape = residual_block(type);
      shape.product = product;
      const std::vector<std::size_t> found = workspaces(shape, 16);
      EXPECT_GE(found.size(), 4U) << shape.text();
      for (const std::size_t workspace : found) EXPECT_LE(workspace, most_workspace(shape)) << shape.text();
    }
    ConvShape shape = residual_block(type);
    shape.bias = type;
    EXPECT_GE(workspaces(shape, 16).size(), 4U) << "with bias: " << shape.text();
    shape.relu = true;
    EXPECT_GE(workspaces(shape, 16).size(), 4U) << "with bias and relu: " << shape.text();
  }
}

std::vector<cudnnBackendNumericalNote_t> notes(const Descriptor& engine) {
  std::vector<cudnnBackendNumericalNote_t> result(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  const std::int64_t count = engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                        CUDNN_NUMERICAL_NOTE_TYPE_COUNT, result.data());
  result.resize(static_cast<std::size_t>(count));
  return result;
}

TEST_F(ConvolutionPlans, EnginesAreRepeatableAndThoseOfF32UseNoTensorCores) {
  using ::testing::Contains;
  using ::testing::Not;
  for (const DType type : {DType::f32, DType::bf16}) {
    bool tensor_cores = false;
    for (const auto product : {ConvProduct::forward, ConvProduct::backward_data, ConvProduct::backward_weights}) {
      ConvShape shape = residual_block(type);
      shape.product = product;
      const ConvGraph g = graph(shape);
      for (const ConvEngine& engine : g.engines(64)) {
        const auto found = notes(engine.parts.back());
        EXPECT_THAT(found, Not(Contains(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC))) << engine.text;
        EXPECT_THAT(found, Not(Contains(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS))) << engine.text;
        EXPECT_THAT(found, Not(Contains(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION))) << engine.text;
        for (const auto note : found) tensor_cores = tensor_cores || note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
      }
    }
    EXPECT_EQ(tensor_cores, type == DType::bf16);
  }
}

TEST_F(ConvolutionPlans, AnEngineIsFoundAgainByItsText) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const ConvGraph g = graph(residual_block(type));
    const std::vector<ConvEngine> engines = g.engines(8);
    ASSERT_GE(engines.size(), 4U);
    for (const ConvEngine& engine : engines) {
      const std::optional<ConvEngine> again = g.engine(engine.text);
      ASSERT_TRUE(again.has_value()) << engine.text;
      EXPECT_EQ(g.plan(*again).workspace(), g.plan(engine).workspace()) << engine.text;
    }
  }
}

TEST_F(ConvolutionPlans, ADamagedTextIsNoEngine) {
  const ConvGraph g = graph(residual_block(DType::f32));
  const std::string good = g.engines(1).at(0).text;
  ASSERT_NE(good.find('='), std::string::npos) << good;
  for (const std::string& text :
       {std::string(), std::string("x"), std::string("99999:"), std::string("-1:"), good + "x", good + ",9999=1",
        good.substr(0, good.find('=')), good.substr(0, good.find('=') + 1), std::string(100'000, '1')}) {
    EXPECT_FALSE(g.engine(text).has_value()) << text.substr(0, 100);
  }
}

// A file that somebody has edited must not bring tf32 into a product of f32.
TEST_F(ConvolutionPlans, AnEngineThatIsNotAllowedIsNotFoundByItsText) {
  ConvShape narrow = residual_block(DType::bf16);
  const ConvGraph bf16 = graph(narrow), f32 = graph(residual_block(DType::f32));
  int refused = 0;
  for (int index = 0; index < 100; ++index) {
    const std::string text = std::to_string(index) + ":";
    const std::optional<ConvEngine> found = f32.engine(text);
    if (!found) {
      ++refused;
      continue;
    }
    for (const Descriptor& part : found->parts) {
      EXPECT_THAT(notes(part), ::testing::Not(::testing::Contains(CUDNN_NUMERICAL_NOTE_TENSOR_CORE))) << text;
    }
  }
  EXPECT_LT(refused, 100);
}

TEST_F(ConvolutionPlans, SizesThatDoNotFitEachOtherAreRefusedWithAReason) {
  ConvShape rows = residual_block(DType::f32);
  rows.y = {32, 55, 56, 64};
  ConvShape channels = residual_block(DType::f32);
  channels.w = {64, 3, 3, 63};
  ConvShape stride = residual_block(DType::f32);
  stride.strides = {0, 1};
  for (const ConvShape& shape : {rows, channels, stride}) {
    try {
      graph(shape);
      ADD_FAILURE() << "was accepted: " << shape.text();
    } catch (const CudnnError& e) {
      EXPECT_THAT(e.what(), HasSubstr("cuDNN does not accept the ")) << shape.text();
      EXPECT_THAT(e.what(), HasSubstr("CUDNN_STATUS_")) << shape.text();
    }
  }
}

TEST(ConvShape, ItsKeyDiffersWithEverythingThatMatters) {
  const ConvShape shape = residual_block(DType::f32);
  std::vector<ConvShape> others(8, shape);
  others[0].product = ConvProduct::backward_data;
  others[1].type = DType::bf16;
  others[2].result = DType::bf16;
  others[3].bias = DType::f32;
  others[4].relu = true;
  others[5].x[0] = 33;
  others[6].strides[1] = 2;
  others[7].pads[0] = 0;
  for (const ConvShape& other : others) EXPECT_NE(other.key(), shape.key()) << other.text();
  EXPECT_EQ(shape.key().find(' '), std::string::npos);
}

}  // namespace
}  // namespace trivet::kernels::cuda
