// Dropout and random tensors.
#include "kernels/cuda/families.h"
#include "kernels/cuda/random.cuh"
#include "trivet/kernels/attrs_random.h"

namespace trivet::kernels::cuda {
namespace {

Draws draws_of(const TensorDesc& t, std::int64_t seed, std::int64_t op, const View& step, const std::int64_t* samples) {
  Draws draws{};
  draws.layer = math::mix_key(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(op));
  draws.step = step.as<const std::int64_t>();
  draws.samples = samples;
  draws.batch = t.shape[0];
  draws.size = draws.batch == 0 ? 0 : t.elements() / draws.batch;
  draws.parts = (draws.size + kDrawn - 1) / kDrawn;
  return draws;
}

// The gradient has the same mask and scale as the value.
void run_dropout(const KernelArgs& args) {
  const auto& attrs = args.attributes<DropoutAttrs>();
  const Draws draws = draws_of(args.in[0], attrs.seed, attrs.op, args.in[1], args.in[2].as<const std::int64_t>());
  if (draws.batch * draws.parts == 0) return;
  const auto threshold = static_cast<std::int64_t>((1 - attrs.rate) * 0x1p32 + 0.5);
  const std::uint32_t last_kept = threshold < 1 ? 0 : static_cast<std::uint32_t>(threshold - 1);
  const auto scale = static_cast<float>(1 / (1 - attrs.rate));
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    T* const y = args.out[0].as<T>();
    const bool packed = draws.size % kDrawn == 0 && is_aligned(x) && is_aligned(y);
    TRIVET_LAUNCH((dropout_kernel<T>), dim3(blocks_for(draws.batch * draws.parts)), dim3(kBlock), 0, args.stream, x, y,
                  draws, last_kept, scale, packed);
  });
}

void run_draw(const KernelArgs& args, const DrawAttrs& attrs, double a, double b, bool normal) {
  const Draws draws = draws_of(args.out[0], attrs.seed, attrs.op, args.in[0], optional_input<std::int64_t>(args, 1));
  if (draws.batch * draws.parts == 0) return;
  const auto first = static_cast<float>(a);
  const auto second = static_cast<float>(b);
  with_compute_type(args.out[0].dtype, [&](auto element) {
    using T = decltype(element);
    T* const y = args.out[0].as<T>();
    const bool packed = draws.size % kDrawn == 0 && is_aligned(y);
    TRIVET_LAUNCH((draw_kernel<T>), dim3(blocks_for(draws.batch * draws.parts)), dim3(kBlock), 0, args.stream, y, draws,
                  first, second, normal, packed);
  });
}

void run_random_uniform(const KernelArgs& args) {
  const auto& attrs = args.attributes<RandomUniformAttrs>();
  run_draw(args, attrs, attrs.low, attrs.high - attrs.low, false);
}
void run_random_normal(const KernelArgs& args) {
  const auto& attrs = args.attributes<RandomNormalAttrs>();
  run_draw(args, attrs, attrs.mean, attrs.scale, true);
}

bool dropout_types(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.out[0].dtype == spec.in[0].dtype && spec.in[1].dtype == DType::i64 &&
         spec.in[2].dtype == DType::i64;
}
bool draw_types(const KernelSpec& spec) { return is_compute_type(spec.out[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"dropout", dropout_types, run_dropout},
    {"dropout_backward", dropout_types, run_dropout},
    {"random_uniform", draw_types, run_random_uniform},
    {"random_normal", draw_types, run_random_normal},
};

}  // namespace

std::span<const KernelEntry> random_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
