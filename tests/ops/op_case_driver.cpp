#include "tests/ops/op_case_driver.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <numbers>

#include "kernels/math/philox.h"
#include "kernels/math/small_float.h"
#include "trivet/base/error.h"
#include "trivet/exec/evaluate.h"
#include "trivet/ops/registry.h"

namespace trivet::testing {
namespace {

using kernels::KernelArgs;
using kernels::KernelEntry;
using kernels::KernelSpec;
using kernels::TensorDesc;
using kernels::View;

constexpr std::size_t kAlign = 64;
constexpr std::size_t kGuardBytes = 128;
constexpr unsigned char kGuard = 0xC3;
constexpr unsigned char kPoison = 0xFF;  // NaN for floats, -1 for integers

std::uint64_t text_key(std::string_view text) {
  std::uint64_t key = 0;
  for (const char c : text) key = math::mix_key(key, static_cast<unsigned char>(c));
  return key;
}

// Uniform in (0, 1).
double uniform_draw(std::uint64_t key, std::uint64_t i) {
  const math::Philox4 r = math::philox(key, 0, i);
  return (static_cast<double>(r.v[0]) + 0.5) * 0x1p-32;
}

double normal_draw(std::uint64_t key, std::uint64_t i) {
  const double radius = std::sqrt(-2 * std::log(uniform_draw(key, 2 * i)));
  return radius * std::cos(2 * std::numbers::pi * uniform_draw(key, 2 * i + 1));
}

double draw(const Fill& fill, std::uint64_t key, std::uint64_t i) {
  switch (fill.kind) {
    case Fill::Kind::normal:
      return fill.a + fill.b * normal_draw(key, i);
    case Fill::Kind::uniform:
      return fill.a + (fill.b - fill.a) * uniform_draw(key, i);
    case Fill::Kind::index:
      return fill.a + std::floor((fill.b - fill.a) * uniform_draw(key, i));
    case Fill::Kind::values:
      return fill.values[i % fill.values.size()];
  }
  return 0;
}

template <class T>
void store_as(Tensor& t, std::size_t i, double v) {
  if constexpr (std::is_integral_v<T>) {
    // The largest i64 is not a double; half of it will do.
    const double high = sizeof(T) == 8 ? 0x1p62 : static_cast<double>(std::numeric_limits<T>::max());
    v = std::clamp(v, static_cast<double>(std::numeric_limits<T>::lowest()), high);
  }
  t.as<T>()[i] = static_cast<T>(v);
}

void store(Tensor& t, std::size_t i, double v) {
  switch (t.type.dtype) {
    case DType::f32:
      return store_as<float>(t, i, v);
    case DType::f64:
      return store_as<double>(t, i, v);
    case DType::i32:
      return store_as<std::int32_t>(t, i, v);
    case DType::i64:
      return store_as<std::int64_t>(t, i, v);
    case DType::u8:
      return store_as<std::uint8_t>(t, i, v);
    case DType::boolean:
      return store_as<std::uint8_t>(t, i, v != 0 ? 1 : 0);
    case DType::bf16:
      t.as<kernels::BFloat16>()[i] = kernels::from_f32<kernels::BFloat16>(static_cast<float>(v));
      return;
    case DType::f16:
      t.as<kernels::Float16>()[i] = kernels::from_f32<kernels::Float16>(static_cast<float>(v));
      return;
    case DType::i8:
      return store_as<std::int8_t>(t, i, v);
  }
}

double load(const Tensor& t, std::size_t i) {
  switch (t.type.dtype) {
    case DType::f32:
      return static_cast<double>(t.as<float>()[i]);
    case DType::f64:
      return t.as<double>()[i];
    case DType::i32:
      return t.as<std::int32_t>()[i];
    case DType::i64:
      return static_cast<double>(t.as<std::int64_t>()[i]);
    case DType::u8:
    case DType::boolean:
      return t.as<std::uint8_t>()[i];
    case DType::bf16:
      return static_cast<double>(kernels::to_f32(t.as<kernels::BFloat16>()[i]));
    case DType::f16:
      return static_cast<double>(kernels::to_f32(t.as<kernels::Float16>()[i]));
    case DType::i8:
      return t.as<std::int8_t>()[i];
  }
  return 0;
}

// Memory with a guard behind it.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t bytes) : bytes_(bytes) {
    const std::size_t room = (bytes + kGuardBytes + kAlign - 1) / kAlign * kAlign;
    memory_.reset(static_cast<unsigned char*>(std::aligned_alloc(kAlign, room)));
    std::memset(memory_.get(), kPoison, bytes);
    std::memset(memory_.get() + bytes, kGuard, kGuardBytes);
  }
  explicit GuardedBuffer(const Tensor& t) : GuardedBuffer(t.data.size()) {
    if (bytes_ > 0) std::memcpy(memory_.get(), t.data.data(), bytes_);
  }
  void* data() const { return memory_.get(); }
  bool guard_intact() const {
    const unsigned char* guard = memory_.get() + bytes_;
    return std::all_of(guard, guard + kGuardBytes, [](unsigned char c) { return c == kGuard; });
  }

 private:
  struct FreeDeleter {
    void operator()(void* p) const { std::free(p); }
  };
  std::size_t bytes_;
  std::unique_ptr<unsigned char, FreeDeleter> memory_;
};

View view_of(const TensorType& type, void* data) {
  View view;
  static_cast<TensorDesc&>(view) = type.desc();
  view.data = data;
  return view;
}

// The pair that shares memory with this output, or null.
const std::pair<int, int>* shared_with(std::span<const std::pair<int, int>> in_place, int output) {
  for (const auto& pair : in_place) {
    if (pair.first == output) return &pair;
  }
  return nullptr;
}

bool overwritten(std::span<const std::pair<int, int>> in_place, std::size_t input) {
  return std::any_of(in_place.begin(), in_place.end(),
                     [&](const auto& p) { return static_cast<std::size_t>(p.second) == input; });
}

double largest_finite(const Ref& ref) {
  double largest = 0;
  for (const double v : ref.data) {
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  }
  return largest;
}

// What rounding a result to the dtype may add to the relative error: half of the last bit's weight.
double rounding(DType dtype) {
  if (dtype == DType::bf16) return 0x1p-8;
  return dtype == DType::f16 ? 0x1p-11 : 0;
}

double largest_number(DType dtype) {
  if (dtype == DType::f64) return std::numeric_limits<double>::max();
  return dtype == DType::f16 ? 65504 : std::numeric_limits<float>::max();  // bf16's is a little smaller than f32's
}

bool element_close(double found, double expected, DType dtype, double tolerance, double scale) {
  if (!is_float(dtype)) return found == expected;
  if (std::abs(expected) > largest_number(dtype)) expected = std::copysign(INFINITY, expected);
  tolerance += rounding(dtype);
  if (std::isnan(expected)) return std::isnan(found);
  if (std::isinf(expected)) return found == expected;
  return std::abs(found - expected) <= tolerance * (scale + std::abs(expected));
}

// Gradients of other dtypes than f32 are made by the same rules.
void add_bf16_variants(OpCase& op_case) {
  const std::size_t count = op_case.bf16_inputs.empty() ? 0 : op_case.variants.size();
  for (std::size_t i = 0; i < count; ++i) {
    Variant variant = op_case.variants[i];
    variant.name += "_bf16";
    variant.gradient = false;
    bool changed = false;
    for (const int input : op_case.bf16_inputs) {
      if (static_cast<std::size_t>(input) >= variant.inputs.size()) continue;
      DType& dtype = variant.inputs[static_cast<std::size_t>(input)].type.dtype;
      if (dtype != DType::f32) continue;
      dtype = DType::bf16;
      changed = true;
    }
    if (changed) op_case.variants.push_back(std::move(variant));
  }
}

}  // namespace

const OpDef& CaseVariant::op() const { return require_op(op_case->op); }

std::string CaseVariant::name() const { return fmt::format("{}/{}", op_case->op, variant->name); }

const std::vector<OpCase>& cases() {
  static const std::vector<OpCase> all = [] {
    std::vector<OpCase> with_bf16 = all_cases();
    for (OpCase& op_case : with_bf16) add_bf16_variants(op_case);
    return with_bf16;
  }();
  return all;
}

void OpTest::for_each_variant(const std::function<void(const CaseVariant&)>& check) {
  const OpCase& op_case = *GetParam();
  for (const Variant& variant : op_case.variants) {
    const CaseVariant v{&op_case, &variant};
    try {
      check(v);
    } catch (const std::exception& e) {
      ADD_FAILURE() << v.name() << ": " << e.what();
    }
  }
}

std::vector<const OpCase*> cases_of(const std::function<bool(const OpDef&)>& wanted) {
  std::vector<const OpCase*> result;
  for (const OpCase& op_case : cases()) {
    const OpDef* op = find_op(op_case.op);  // OpCases.NameOpsOfTheRegistryOnceEach reports unknown ones
    if (op && wanted(*op)) result.push_back(&op_case);
  }
  return result;
}

std::string op_name(const ::testing::TestParamInfo<const OpCase*>& parameter) { return parameter.param->op; }

std::vector<Isa> isas() {
  std::vector<Isa> result;
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa <= kernels::cpu::best_isa()) result.push_back(isa);
  }
  return result;
}

std::vector<Tensor> draw_inputs(const CaseVariant& v) {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < v.variant->inputs.size(); ++i) {
    const CaseInput& input = v.variant->inputs[i];
    if (input.absent) {
      tensors.emplace_back();
      continue;
    }
    Tensor t(input.type);
    const std::uint64_t key = math::mix_key(text_key(v.name()), i);
    const auto count = static_cast<std::size_t>(input.type.elements());
    for (std::size_t k = 0; k < count; ++k) store(t, k, draw(input.fill, key, k));
    tensors.push_back(std::move(t));
  }
  return tensors;
}

Tensor draw_cotangent(const CaseVariant& v, const TensorType& type, int output) {
  Tensor t(type);
  const std::uint64_t key = math::mix_key(text_key(v.name() + "/cotangent"), static_cast<std::uint64_t>(output));
  const auto count = static_cast<std::size_t>(type.elements());
  for (std::size_t k = 0; k < count; ++k) store(t, k, normal_draw(key, k));
  return t;
}

Ref to_ref(const Tensor& tensor) {
  if (tensor.data.empty()) {  // absent, or without elements
    Ref none;
    none.shape = tensor.type.shape;
    return none;
  }
  Ref ref = Ref::zeros(tensor.type.shape);
  for (std::size_t i = 0; i < ref.data.size(); ++i) ref.data[i] = load(tensor, i);
  return ref;
}

std::vector<Ref> to_refs(std::span<const Tensor> tensors) {
  std::vector<Ref> refs;
  for (const Tensor& t : tensors) refs.push_back(to_ref(t));
  return refs;
}

AppliedOp apply_variant(const CaseVariant& v) {
  AppliedOp applied;
  for (std::size_t i = 0; i < v.variant->inputs.size(); ++i) {
    const CaseInput& input = v.variant->inputs[i];
    applied.inputs.push_back(input.absent ? kNoValue : applied.graph.input(fmt::format("in{}", i), input.type));
  }
  applied.outputs = applied.graph.add(v.op(), applied.inputs, v.variant->attrs, "the_node");
  return applied;
}

std::map<std::string, Tensor> bind_inputs(std::span<const Tensor> inputs) {
  std::map<std::string, Tensor> bindings;
  for (std::size_t i = 0; i < inputs.size(); ++i) bindings[fmt::format("in{}", i)] = inputs[i];
  return bindings;
}

std::vector<Tensor> evaluate_variant(const CaseVariant& v, std::span<const Tensor> inputs, Isa isa, int threads) {
  AppliedOp applied = apply_variant(v);
  for (std::size_t o = 0; o < applied.outputs.size(); ++o) {
    applied.graph.set_output(fmt::format("out{}", o), applied.outputs[o]);
  }
  return evaluate(applied.graph, bind_inputs(inputs), isa, threads);
}

std::vector<Tensor> call_kernel(const CaseVariant& v, std::span<const Tensor> inputs, Isa isa,
                                std::span<const std::pair<int, int>> in_place) {
  const std::string where = fmt::format("{} on {}", v.name(), kernels::cpu::isa_name(isa));
  const AppliedOp applied = apply_variant(v);
  const Node& node = applied.graph.nodes().front();
  const KernelEntry* kernel = kernels::cpu::find(node.op->name, isa);
  if (!kernel) throw Error(ErrorCode::graph, fmt::format("{}: there is no kernel", where));

  std::vector<GuardedBuffer> in_buffers, out_buffers;
  std::vector<View> in, out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    in_buffers.emplace_back(inputs[i]);
    in.push_back(v.variant->inputs[i].absent ? View{} : view_of(inputs[i].type, in_buffers.back().data()));
  }
  for (std::size_t o = 0; o < applied.outputs.size(); ++o) {
    const TensorType& type = applied.graph.type(applied.outputs[o]);
    const auto* pair = shared_with(in_place, static_cast<int>(o));
    out_buffers.emplace_back(type.bytes());
    out.push_back(
        view_of(type, pair ? in_buffers[static_cast<std::size_t>(pair->second)].data() : out_buffers.back().data()));
  }
  const std::vector<TensorDesc> in_desc(in.begin(), in.end()), out_desc(out.begin(), out.end());
  const KernelSpec spec{in_desc, out_desc, node.packed.data(), 1};
  if (!kernel->supports(spec))
    throw Error(ErrorCode::graph, fmt::format("{}: the kernel does not support these types", where));
  kernels::cpu::set_threads(1);
  const auto prepared = kernel->prepare ? kernel->prepare(spec) : nullptr;
  const GuardedBuffer workspace(kernel->workspace ? kernel->workspace(spec, prepared.get()) : 0);
  kernel->run(KernelArgs{in, out, workspace.data(), node.packed.data(), prepared.get(), 1});

  std::vector<Tensor> outputs;
  for (std::size_t o = 0; o < out.size(); ++o) {
    outputs.emplace_back(applied.graph.type(applied.outputs[o]));
    const std::size_t bytes = outputs.back().data.size();
    if (bytes > 0) std::memcpy(outputs.back().data.data(), out[o].data, bytes);
    EXPECT_TRUE(out_buffers[o].guard_intact()) << where << ": the kernel wrote behind output " << o;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_TRUE(in_buffers[i].guard_intact()) << where << ": the kernel wrote behind input " << i;
    if (overwritten(in_place, i) || inputs[i].data.empty()) continue;
    EXPECT_EQ(std::memcmp(in_buffers[i].data(), inputs[i].data.data(), inputs[i].data.size()), 0)
        << where << ": the kernel wrote to input " << i;
  }
  EXPECT_TRUE(workspace.guard_intact()) << where << ": the kernel wrote behind its workspace";
  return outputs;
}

double error_scale(double largest) {
  constexpr double kZero = 1e-6;
  constexpr double kSmallest = 1e-2;
  return largest < kZero ? 1.0 : std::clamp(largest, kSmallest, 1.0);
}

::testing::AssertionResult close_to(const Tensor& found, const Ref& expected, double tolerance,
                                    const std::string& where) {
  if (found.type.shape != expected.shape) {
    return ::testing::AssertionFailure() << where << ": shape " << to_string(found.type.shape) << ", the reference has "
                                         << to_string(expected.shape);
  }
  const double scale = error_scale(largest_finite(expected));
  std::int64_t wrong = 0;
  std::string first;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    const double value = load(found, static_cast<std::size_t>(i));
    if (element_close(value, expected[i], found.type.dtype, tolerance, scale)) continue;
    if (wrong++ == 0)
      first = fmt::format("element {} is {:.9g}, expected {:.9g} (difference {:.2g}, tolerance {:.2g})", i, value,
                          expected[i], value - expected[i], tolerance * (scale + std::abs(expected[i])));
  }
  if (wrong == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << where << ": " << first << "; " << wrong << " of " << expected.size()
                                       << " elements are wrong";
}

::testing::AssertionResult same_bits(const Tensor& found, const Tensor& expected, const std::string& where) {
  if (found.type != expected.type) {
    return ::testing::AssertionFailure() << where << ": type " << to_string(found.type) << ", expected "
                                         << to_string(expected.type);
  }
  const std::size_t size = dtype_size(found.type.dtype);
  for (std::size_t i = 0; i * size < found.data.size(); ++i) {
    if (std::memcmp(found.data.data() + i * size, expected.data.data() + i * size, size) == 0) continue;
    return ::testing::AssertionFailure() << where << ": element " << i << " is "
                                         << fmt::format("{:.9g}, expected {:.9g}, bit for bit", load(found, i),
                                                        load(expected, i));
  }
  return ::testing::AssertionSuccess();
}

}  // namespace trivet::testing
