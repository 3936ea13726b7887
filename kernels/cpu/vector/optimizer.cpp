// Optimizer steps: one pass over the parameters. Outputs may be written over their inputs.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "trivet/kernels/attrs_optimizer.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

constexpr std::int64_t kGrain = 16 * 1024;

std::int64_t count(const TensorDesc& t) {
  std::int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.shape[i];
  return n;
}

float* data_of(const View& v) { return static_cast<float*>(v.data); }

// The optional factor of the gradient.
float scale_of(const KernelArgs& args, std::size_t input) {
  if (input >= args.in.size() || args.in[input].data == nullptr) return 1.0f;
  return *data_of(args.in[input]);
}

void sgd_step(const KernelArgs& args) {
  const View& param = args.in[0];
  const auto& attrs = args.attributes<SgdAttrs>();
  const float* p = data_of(param);
  const float* grad = data_of(args.in[1]);
  const float* buffer = data_of(args.in[2]);
  const float lr = *data_of(args.in[3]);
  const float scale = scale_of(args, 4);
  float* new_p = data_of(args.out[0]);
  float* new_buffer = data_of(args.out[1]);
  const float momentum = static_cast<float>(attrs.momentum);
  const float decay = static_cast<float>(attrs.weight_decay);
  const bool nesterov = attrs.nesterov;
  const std::int64_t n = count(param);
  parallel_pieces(n, kGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = grad[i] * scale + decay * p[i];
      const float b = momentum * buffer[i] + g;
      new_p[i] = p[i] - lr * (nesterov ? g + momentum * b : b);
      new_buffer[i] = b;
    }
  });
}

void adamw_step(const KernelArgs& args) {
  const View& param = args.in[0];
  const auto& attrs = args.attributes<AdamWAttrs>();
  const float* p = data_of(param);
  const float* grad = data_of(args.in[1]);
  const float* m = data_of(args.in[2]);
  const float* v = data_of(args.in[3]);
  const double lr = static_cast<double>(*data_of(args.in[4]));
  const double step = static_cast<double>(*static_cast<const std::int64_t*>(args.in[5].data));
  const float scale = scale_of(args, 6);
  float* new_p = data_of(args.out[0]);
  float* new_m = data_of(args.out[1]);
  float* new_v = data_of(args.out[2]);
  // The factors in double: at the first steps 1 - beta2^step is as small as 0.001.
  const float beta1 = static_cast<float>(attrs.beta1);
  const float beta2 = static_cast<float>(attrs.beta2);
  const float rest1 = static_cast<float>(1 - attrs.beta1);
  const float rest2 = static_cast<float>(1 - attrs.beta2);
  const float keep = static_cast<float>(1 - lr * attrs.weight_decay);
  const float rate = static_cast<float>(lr / (1 - __builtin_pow(attrs.beta1, step)));
  const float root_scale = static_cast<float>(1 / __builtin_sqrt(1 - __builtin_pow(attrs.beta2, step)));
  const float epsilon = static_cast<float>(attrs.epsilon);
  const std::int64_t n = count(param);
  parallel_pieces(n, kGrain, n, args.threads, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = grad[i] * scale;
      const float first = beta1 * m[i] + rest1 * g;
      const float second = beta2 * v[i] + rest2 * (g * g);
      new_p[i] = keep * p[i] - rate * first / (__builtin_sqrtf(second) * root_scale + epsilon);
      new_m[i] = first;
      new_v[i] = second;
    }
  });
}

void clip_scale(const KernelArgs& args) {
  double sum = 0;
  for (std::size_t i = 0; i < args.in.size(); ++i) sum += static_cast<double>(*data_of(args.in[i]));
  const double norm = __builtin_sqrt(sum);
  const double ratio = args.attributes<ClipScaleAttrs>().max_norm / (norm + 1e-6);
  *data_of(args.out[0]) = static_cast<float>(ratio >= 1 ? 1 : ratio);
  *data_of(args.out[1]) = static_cast<float>(norm);
}

void zero(const KernelArgs& args) {
  const View& out = args.out[0];
  char* bytes = static_cast<char*>(out.data);
  constexpr std::int64_t kElementBytes[] = {4, 8, 4, 8, 1, 1};  // in the order of DType
  const std::int64_t n = count(out) * kElementBytes[static_cast<int>(out.dtype)];
  parallel_pieces(n, 256 * 1024, n / 4, args.threads, [=](std::int64_t begin, std::int64_t end) {
    __builtin_memset(bytes + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

bool is_f32(const KernelSpec& spec) { return spec.in[0].dtype == DType::f32; }

bool any_dtype(const KernelSpec&) { return true; }

constexpr KernelEntry kKernels[] = {
    {"sgd_step", is_f32, sgd_step},
    {"adamw_step", is_f32, adamw_step},
    {"clip_scale", is_f32, clip_scale},
    {"zero", any_dtype, zero},
};

}  // namespace

std::span<const KernelEntry> optimizer_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
