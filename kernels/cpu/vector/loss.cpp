// Losses of classification, one row of logits at a time so that a row is read from memory once.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/vector_math.h"
#include "trivet/kernels/attrs_loss.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

struct Labels {
  const void* data;
  bool wide;

  explicit Labels(const View& v) : data(v.data), wide(v.dtype == DType::i64) {}
  std::int64_t operator[](std::int64_t i) const {
    return wide ? static_cast<const std::int64_t*>(data)[i] : static_cast<const std::int32_t*>(data)[i];
  }
};

std::int64_t row_grain(std::int64_t columns) { return columns >= 4096 ? 1 : 4096 / columns; }

// Rows of few classes are padded to this length with -inf, whose exponential is 0: loops of a fixed length have no
// tails, which would take most of the time.
constexpr std::int64_t kShortRow = 16;

struct ShortRow {
  float v[kShortRow];

  ShortRow(const float* z, std::int64_t classes) {
    for (std::int64_t c = 0; c < kShortRow; ++c) v[c] = c < classes ? z[c] : -detail::kInfinity;
  }
};

// The largest logit of a row, and the sum of exponentials relative to it.
struct Softmax {
  float max;
  float sum;
};

[[gnu::always_inline]] inline Softmax softmax_sum(const float* z, std::int64_t n) {
  const float max = row_max(z, n);
  return {max, row_costly_sum(n, [=](std::int64_t c) { return exp_f32(z[c] - max); })};
}

// Also writes the exponentials to e, which may be z.
[[gnu::always_inline]] inline Softmax softmax_terms(const float* z, float* e, std::int64_t n) {
  const float max = row_max(z, n);
  return {max, row_costly_sum(n, [=](std::int64_t c) { return e[c] = exp_f32(z[c] - max); })};
}

[[gnu::always_inline]] inline void scale_and_shift(const float* e, float* d, std::int64_t n, float scale, float shift) {
#pragma omp simd
  for (std::int64_t c = 0; c < n; ++c) d[c] = e[c] * scale + shift;
}

struct CrossEntropy {
  std::int64_t classes;
  std::int64_t ignore_index;
  float smoothing;

  CrossEntropy(const View& logits, const CrossEntropyAttrs& attrs)
      : classes(logits.shape[1]),
        ignore_index(attrs.ignore_index),
        smoothing(static_cast<float>(attrs.label_smoothing)) {}

  bool valid(std::int64_t label) const { return label >= 0 && label < classes; }

  // Sum over c of target[c] * z[c].
  float expected_logit(const float* z, std::int64_t label) const {
    const float own = z[label];
    if (smoothing == 0) return own;  // keeps 0 * -inf out
    const float rest = row_sum(classes, [=](std::int64_t c) { return z[c] - own; });
    return own + smoothing * (rest / static_cast<float>(classes));
  }

  float loss(const float* z, std::int64_t label) const {
    if (label == ignore_index) return 0;
    if (!valid(label)) return detail::kNan;
    const Softmax s = classes <= kShortRow ? softmax_sum(ShortRow(z, classes).v, kShortRow) : softmax_sum(z, classes);
    return log_f32(s.sum) - (expected_logit(z, label) - s.max);
  }

  // Writes (softmax(z) - target) * dloss to d, which may be z. Also gives the loss if `loss` is not null.
  void gradient(const float* z, std::int64_t label, float dloss, float* d, float* loss) const {
    if (label == ignore_index || !valid(label)) {
      const float fill = label == ignore_index ? 0.0f : detail::kNan;
      for (std::int64_t c = 0; c < classes; ++c) d[c] = fill;
      if (loss != nullptr) *loss = fill;
      return;
    }
    const float expected = loss != nullptr ? expected_logit(z, label) : 0.0f;
    const float shift = -dloss * (smoothing / static_cast<float>(classes));
    Softmax s;
    if (classes <= kShortRow) {
      ShortRow row(z, classes);
      s = softmax_terms(row.v, row.v, kShortRow);
      scale_and_shift(row.v, row.v, kShortRow, dloss / s.sum, shift);
      for (std::int64_t c = 0; c < classes; ++c) d[c] = row.v[c];
    } else {
      s = softmax_terms(z, d, classes);
      scale_and_shift(d, d, classes, dloss / s.sum, shift);
    }
    d[label] -= (1.0f - smoothing) * dloss;
    if (loss != nullptr) *loss = log_f32(s.sum) - (expected - s.max);
  }
};

void cross_entropy(const KernelArgs& args) {
  const View& logits = args.in[0];
  const CrossEntropy rule(logits, args.attributes<CrossEntropyAttrs>());
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t classes = rule.classes;
  const float* z = static_cast<const float*>(logits.data);
  float* loss = static_cast<float*>(args.out[0].data);
  parallel_pieces(rows, row_grain(classes), rows * classes, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) loss[r] = rule.loss(z + r * classes, labels[r]);
  });
}

void write_gradients(const KernelArgs& args, const View& loss_out, const View& gradient_out) {
  const View& logits = args.in[0];
  const CrossEntropy rule(logits, args.attributes<CrossEntropyAttrs>());
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t classes = rule.classes;
  const float* z = static_cast<const float*>(logits.data);
  const float* dloss = static_cast<const float*>(args.in[2].data);
  float* loss = static_cast<float*>(loss_out.data);
  float* d = static_cast<float*>(gradient_out.data);
  parallel_pieces(rows, row_grain(classes), rows * classes, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      rule.gradient(z + r * classes, labels[r], dloss[r], d + r * classes, loss != nullptr ? loss + r : nullptr);
    }
  });
}

void cross_entropy_backward(const KernelArgs& args) { write_gradients(args, View(), args.out[0]); }

void softmax_cross_entropy(const KernelArgs& args) { write_gradients(args, args.out[0], args.out[1]); }

bool among_top_k(const float* z, std::int64_t classes, std::int64_t label, std::int64_t k) {
  if (label < 0 || label >= classes) return false;
  const float own = z[label];
  std::int32_t before = 0;
  std::int32_t nans = 0;
#pragma omp simd reduction(+ : before, nans)
  for (std::int64_t c = 0; c < label; ++c) {
    before += z[c] >= own ? 1 : 0;
    nans += z[c] != z[c] ? 1 : 0;
  }
#pragma omp simd reduction(+ : before, nans)
  for (std::int64_t c = label; c < classes; ++c) {
    before += z[c] > own ? 1 : 0;
    nans += z[c] != z[c] ? 1 : 0;
  }
  return nans == 0 && before < k;
}

void top_k_correct(const KernelArgs& args) {
  const View& logits = args.in[0];
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t classes = logits.shape[1];
  const std::int64_t k = args.attributes<TopKAttrs>().k;
  const float* z = static_cast<const float*>(logits.data);
  std::int64_t* counts = static_cast<std::int64_t*>(args.workspace);
  const std::int64_t grain = row_grain(classes);
  parallel_pieces(rows, grain, rows * classes, args.threads, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t count = 0;
    for (std::int64_t r = begin; r < end; ++r) count += among_top_k(z + r * classes, classes, labels[r], k) ? 1 : 0;
    counts[begin / grain] = count;
  });
  std::int64_t total = 0;
  for (std::int64_t p = 0; p * grain < rows; ++p) total += counts[p];
  *static_cast<float*>(args.out[0].data) = static_cast<float>(total);
}

std::size_t top_k_workspace(const KernelSpec& spec, const Prepared*) {
  const TensorDesc& logits = spec.in[0];
  return static_cast<std::size_t>(logits.shape[0] / row_grain(logits.shape[1]) + 1) * sizeof(std::int64_t);
}

bool is_supported(const KernelSpec& spec) {
  const DType labels = spec.in[1].dtype;
  return spec.in[0].dtype == DType::f32 && (labels == DType::i32 || labels == DType::i64);
}

constexpr KernelEntry kKernels[] = {
    {"cross_entropy", is_supported, cross_entropy},
    {"cross_entropy_backward", is_supported, cross_entropy_backward},
    {"softmax_cross_entropy", is_supported, softmax_cross_entropy},
    {"top_k_correct", is_supported, top_k_correct, nullptr, top_k_workspace},
};

}  // namespace

std::span<const KernelEntry> loss_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
