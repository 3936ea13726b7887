// What products of all types promise: bits that do not depend on the number of threads, however long the sums, and
// the same results on processors without the instructions for their type.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "tests/kernels/operand.h"
#include "trivet/kernels/attrs_convolution.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {
namespace {

using testing::allocate;
using testing::Memory;
using testing::Numbers;
using testing::Operand;

void run(const char* op, std::vector<View> in, const View& out, const void* attrs, int threads) {
  const KernelEntry* kernel = find(op, best_isa());
  const std::vector<TensorDesc> in_desc(in.begin(), in.end());
  const TensorDesc out_desc = out;
  const KernelSpec spec{in_desc, {&out_desc, 1}, attrs, threads};
  ASSERT_TRUE(kernel->supports(spec));
  set_threads(threads);
  const auto prepared = kernel->prepare(spec);
  const Memory workspace = allocate(kernel->workspace(spec, prepared.get()));
  kernel->run(KernelArgs{in, {&out, 1}, workspace.get(), attrs, prepared.get(), threads});
}

void expect_same_bits_on_any_threads(DType type, std::int64_t m, std::int64_t n, std::int64_t k, bool ta, bool tb) {
  const Operand a = ta ? Operand(type, {k, m}) : Operand(type, {m, k});
  const Operand b = tb ? Operand(type, {n, k}) : Operand(type, {k, n});
  const Operand alone(type, {m, n}), together(type, {m, n});
  const MatmulAttrs attrs = {ta, tb};
  run("matmul", {a.view, b.view}, alone.view, &attrs, 1);
  for (const int threads : {2, 3, 8}) {
    run("matmul", {a.view, b.view}, together.view, &attrs, threads);
    EXPECT_EQ(std::memcmp(alone.view.data, together.view.data, alone.view.bytes()), 0)
        << m << " x " << n << " x " << k << ", transposed: " << ta << " " << tb << ", " << threads << " threads";
  }
}

TEST(Products, HaveTheSameBitsOnAnyNumberOfThreadsHoweverLongTheSums) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        expect_same_bits_on_any_threads(type, 5, 24, 3001, ta, tb);
        expect_same_bits_on_any_threads(type, 48, 5, 2048, ta, tb);
        expect_same_bits_on_any_threads(type, 96, 192, 4096, ta, tb);
        expect_same_bits_on_any_threads(type, 1, 40, 2048, ta, tb);
      }
    }
  }
  set_threads(1);
}

// Integers are exact in bf16 and their sums in f32, so that all types must agree.
bool bf16_agrees_with_f32(const char* op, std::initializer_list<std::int64_t> x, std::initializer_list<std::int64_t> w,
                          std::initializer_list<std::int64_t> y, const void* attrs) {
  const Operand x32(DType::f32, x, 0, Numbers::integers), w32(DType::f32, w, 0, Numbers::integers), y32(DType::f32, y);
  const Operand x16(DType::bf16, x, 0, Numbers::integers), w16(DType::bf16, w, 0, Numbers::integers),
      y16(DType::bf16, y), mixed(DType::bf16, y);
  run(op, {x32.view, w32.view}, y32.view, attrs, 2);
  run(op, {x16.view, w16.view}, y16.view, attrs, 2);
  run(op, {x16.view, w32.view}, mixed.view, attrs, 2);
  for (std::int64_t i = 0; i < y32.view.elements(); ++i) {
    const float rounded = to_f32(from_f32<BFloat16>(y32.get(i)));
    if (y16.get(i) != rounded || mixed.get(i) != rounded) return false;
  }
  return true;
}

// Products of 127 * 127 and -128 * 127 in pairs do not fit in 16 bits.
bool int8_is_exact() {
  Operand x(DType::i8, {4, 33}), w(DType::i8, {5, 33}), one(DType::f32, {}), zero(DType::i8, {}), y(DType::f32, {4, 5});
  for (std::int64_t i = 0; i < x.view.elements(); ++i) x.set(i, i % 3 == 0 ? -128.0F : 127.0F);
  for (std::int64_t i = 0; i < w.view.elements(); ++i) w.set(i, i % 5 == 0 ? -128.0F : 127.0F);
  one.set(0, 1);
  zero.set(0, 3);
  const LinearAttrs attrs;
  run("linear_int8", {x.view, one.view, zero.view, w.view, one.view}, y.view, &attrs, 2);
  for (std::int64_t r = 0; r < 4; ++r) {
    for (std::int64_t c = 0; c < 5; ++c) {
      int sum = 0;
      for (std::int64_t l = 0; l < 33; ++l) {
        sum += (x.view.as<std::int8_t>()[r * 33 + l] - 3) * w.view.as<std::int8_t>()[c * 33 + l];
      }
      if (y.get(r * 5 + c) != static_cast<float>(sum)) return false;
    }
  }
  return true;
}

bool all_types_agree() {
  const LinearAttrs linear;
  ConvAttrs conv;
  conv.pads = {4, {1, 1, 1, 1}};
  return bf16_agrees_with_f32("linear", {17, 33}, {9, 33}, {17, 9}, &linear) &&
         bf16_agrees_with_f32("linear_backward_data", {17, 9}, {9, 33}, {17, 33}, nullptr) &&
         bf16_agrees_with_f32("conv2d", {3, 7, 9, 5}, {11, 3, 3, 5}, {3, 7, 9, 11}, &conv) && int8_is_exact();
}

TEST(Products, OfAllTypesAgree) { EXPECT_TRUE(all_types_agree()); }

// oneDNN reads the variable when it is first used, so this takes a process of its own.
TEST(ProductsDeathTest, OfAllTypesAgreeOnAProcessorWithoutInstructionsForThem) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
        std::exit(all_types_agree() ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace trivet::kernels::cpu
