// Kernels that keep weights in a form of their own give what they give without.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "tests/kernels/operand.h"
#include "trivet/kernels/attrs_convolution.h"
#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {
namespace {

using testing::allocate;
using testing::Memory;
using testing::Operand;

struct Result {
  std::vector<float> values;
  std::size_t packed_bytes = 0;
};

// The second of two runs, so that what was packed must have stayed.
Result run(const char* op, std::vector<View> in, const TensorDesc& out, const void* attrs, int threads, bool fixed,
           bool tile = false) {
  const KernelEntry* kernel = find(op, best_isa());
  const std::vector<TensorDesc> in_desc(in.begin(), in.end());
  const KernelSpec spec{in_desc, {&out, 1}, attrs, threads, fixed, tile};
  set_threads(threads);
  const auto prepared = kernel->prepare(spec);
  const Memory workspace = allocate(kernel->workspace(spec, prepared.get()));
  Result result;
  result.packed_bytes = kernel->packed(spec, prepared.get());
  const Memory packed = allocate(result.packed_bytes);
  Operand y(out.dtype, {out.elements()}, 1);
  View view = y.view;
  static_cast<TensorDesc&>(view) = out;
  KernelArgs args{in, {&view, 1}, workspace.get(), attrs, prepared.get(), threads, nullptr, packed.get()};
  if (result.packed_bytes > 0) {
    kernel->pack(args);
    in[kernel->weights] = View{};
  }
  for (int i = 0; i < 2; ++i) {
    std::memset(workspace.get(), 0xFF, kernel->workspace(spec, prepared.get()));
    std::memset(view.data, 0xFF, view.bytes());
    kernel->run(args);
  }
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    const bool bytes = out.dtype == DType::u8;
    result.values.push_back(bytes ? static_cast<float>(view.as<std::uint8_t>()[i]) : y.get(i));
  }
  return result;
}

// `tolerance`: of the largest value.
void expect_agreement(const char* op, const std::vector<View>& in, const TensorDesc& out, const void* attrs,
                      double tolerance) {
  const Result changing = run(op, in, out, attrs, 2, false);
  EXPECT_EQ(changing.packed_bytes, 0u);
  const Result alone = run(op, in, out, attrs, 1, true);
  double largest = 0;
  for (const float v : changing.values) largest = std::max(largest, std::abs(static_cast<double>(v)));
  for (std::size_t i = 0; i < alone.values.size(); ++i) {
    ASSERT_NEAR(alone.values[i], changing.values[i], tolerance * largest) << op << ", element " << i;
  }
  for (const int threads : {2, 3}) {
    const Result together = run(op, in, out, attrs, threads, true);
    ASSERT_EQ(std::memcmp(together.values.data(), alone.values.data(), alone.values.size() * sizeof(float)), 0)
        << op << ", " << threads << " threads";
  }
  set_threads(1);
}

TensorDesc shaped(DType type, std::initializer_list<std::int64_t> shape) {
  TensorDesc desc;
  desc.dtype = type;
  for (const std::int64_t size : shape) desc.shape[desc.rank++] = size;
  return desc;
}

TEST(FixedWeights, GiveTheProductsOfWeightsThatChange) {
  LinearAttrs relu;
  relu.activation = Activation::relu;
  const MatmulAttrs plain, transposed = {false, true};
  for (const DType type : {DType::f32, DType::bf16}) {
    const double tolerance = type == DType::f32 ? 2e-6 : 1e-2;
    for (const std::int64_t rows : {1, 3, 17, 130}) {
      const Operand x(type, {rows, 259}, 2), w(type, {37, 259}, 3), bias(type, {37}, 4), t(type, {259, 37}, 5);
      const TensorDesc y = shaped(type, {rows, 37});
      expect_agreement("linear", {x.view, w.view, bias.view}, y, &relu, tolerance);
      expect_agreement("matmul", {x.view, w.view}, y, &transposed, tolerance);
      expect_agreement("matmul", {x.view, t.view}, y, &plain, tolerance);
    }
  }
}

// x of `type` with all of its values, scales and a zero point, weights, bias; and a scale and zero point of the result
// if it has 8 bits.
struct Int8Operands {
  Int8Operands(DType type, std::initializer_list<std::int64_t> x_shape, std::initializer_list<std::int64_t> w_shape,
               float x_zero_point, DType result)
      : x(type, x_shape),
        w(DType::i8, w_shape),
        zero(type, {}),
        w_scale(DType::f32, {*w_shape.begin()}, 4),
        bias(DType::f32, {*w_shape.begin()}, 5) {
    for (std::int64_t i = 0; i < x.view.elements(); ++i) x.set(i, static_cast<float>(i * 37 % 256 - 128));
    for (std::int64_t i = 0; i < w.view.elements(); ++i) w.set(i, static_cast<float>(i * 101 % 255 - 127));
    zero.set(0, x_zero_point);
    x_scale.set(0, 0.02F);
    y_scale.set(0, 1.5F);
    y_zero.set(0, 17);
    views = {x.view, x_scale.view, zero.view, w.view, w_scale.view, bias.view};
    if (result != DType::f32) views.insert(views.end(), {y_scale.view, y_zero.view});
  }

  Operand x, w, zero, w_scale, bias;
  Operand x_scale{DType::f32, {}}, y_scale{DType::f32, {}}, y_zero{DType::u8, {}};
  std::vector<View> views;
};

// Sums are exact, so all results are equal.
TEST(FixedWeights, GiveTheProductsOfBytesToTheLastBit) {
  LinearAttrs linear;
  linear.activation = Activation::relu;
  ConvAttrs conv;
  conv.pads = {4, {1, 1, 1, 1}};
  for (const DType type : {DType::u8, DType::i8}) {
    for (const float zero_point : {0.0F, 5.0F}) {
      for (const DType result : {DType::f32, DType::u8}) {
        for (const std::int64_t rows : {1, 3, 70}) {
          const Int8Operands in(type, {rows, 259}, {37, 259}, zero_point, result);
          expect_agreement("linear_int8", in.views, shaped(result, {rows, 37}), &linear, 0);
        }
        for (const std::int64_t images : {1, 7}) {
          const Int8Operands in(type, {images, 9, 11, 19}, {21, 3, 3, 19}, zero_point, result);
          expect_agreement("conv2d_int8", in.views, shaped(result, {images, 9, 11, 21}), &conv, 0);
        }
      }
    }
  }
}

// So that a sample's result does not depend on the tile that it falls into.
TEST(FixedWeights, GiveARowTheSameBitsWhateverIsBesideIt) {
  const LinearAttrs attrs;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t depth : {10, 259, 3136}) {
      for (const std::int64_t columns : {10, 128, 300}) {
        Operand x(type, {130, depth}, 2), w(type, {columns, depth}, 3), bias(type, {columns}, 4);
        const auto rows = [&](std::int64_t count) {
          x.view.shape[0] = count;
          return run("linear", {x.view, w.view, bias.view}, shaped(type, {count, columns}), &attrs, 1, true, true);
        };
        const Result all = rows(130);
        for (const std::int64_t count : {1, 2, 7, 8, 9, 16, 21, 32, 64}) {
          const Result some = rows(count);
          ASSERT_EQ(std::memcmp(some.values.data(), all.values.data(), some.values.size() * sizeof(float)), 0)
              << depth << " x " << columns << ", " << count << " rows, " << dtype_size(type) << " bytes each";
        }
      }
    }
  }
}

TEST(FixedWeights, GiveTheConvolutionsOfWeightsThatChange) {
  ConvAttrs attrs;
  attrs.pads = {4, {1, 1, 1, 1}};
  attrs.activation = Activation::relu;
  for (const DType type : {DType::f32, DType::bf16}) {
    const Operand x(type, {3, 9, 11, 19}, 2), w(type, {21, 3, 3, 19}, 3), bias(type, {21}, 4);
    expect_agreement("conv2d", {x.view, w.view, bias.view}, shaped(type, {3, 9, 11, 21}), &attrs,
                     type == DType::f32 ? 2e-6 : 1e-2);
  }
}

// 3 x 3 with many channels in a tile, where another algorithm has its chance, with larger rounding errors.
TEST(FixedWeights, GiveTheConvolutionsOfManyChannels) {
  ConvAttrs attrs;
  attrs.pads = {4, {1, 1, 1, 1}};
  for (const bool relu : {false, true}) {
    attrs.activation = relu ? Activation::relu : Activation::none;
    for (const std::int64_t size : {5, 8, 14}) {
      Operand x(DType::f32, {7, size, size, 64}, 2), w(DType::f32, {48, 3, 3, 64}, 3), bias(DType::f32, {48}, 4);
      const TensorDesc y = shaped(DType::f32, {7, size, size, 48});
      const Result fixed = run("conv2d", {x.view, w.view, bias.view}, y, &attrs, 1, true, true);
      const Result changing = run("conv2d", {x.view, w.view, bias.view}, y, &attrs, 1, false);
      for (std::size_t i = 0; i < fixed.values.size(); ++i) {
        ASSERT_NEAR(fixed.values[i], changing.values[i], 2e-4) << "element " << i;  // of sums up to 35
      }
      // An image's bits do not depend on how many there are beside it.
      x.view.shape[0] = 2;
      const TensorDesc few = shaped(DType::f32, {2, size, size, 48});
      const Result two = run("conv2d", {x.view, w.view, bias.view}, few, &attrs, 1, true, true);
      ASSERT_EQ(std::memcmp(two.values.data(), fixed.values.data(), two.values.size() * sizeof(float)), 0);
    }
  }
}

TEST(FixedWeights, KeepNaNWhereItIs) {
  ConvAttrs attrs;
  attrs.pads = {4, {1, 1, 1, 1}};
  attrs.activation = Activation::relu;
  Operand x(DType::f32, {1, 16, 16, 64}, 2), w(DType::f32, {64, 3, 3, 64}, 3);
  x.set(64 * (16 * 8 + 8), std::numeric_limits<float>::quiet_NaN());
  const Result y = run("conv2d", {x.view, w.view}, shaped(DType::f32, {1, 16, 16, 64}), &attrs, 1, true, true);
  EXPECT_TRUE(std::isnan(y.values[64 * (16 * 8 + 8)]));
  EXPECT_TRUE(std::isfinite(y.values[0]));
}

}  // namespace
}  // namespace trivet::kernels::cpu
