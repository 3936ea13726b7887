// Losses of classification, one row of logits at a time so that a row is read from memory once.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/parallel.h"
#include "kernels/cpu/vector/rows.h"
#include "kernels/cpu/vector/softmax_rows.h"
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

// The largest logit of a row, and the sum of exponentials relative to it.
struct Softmax {
  float max;
  float sum;

  float log_sum() const { return max + log_f32(sum); }
};

// `ahead`: as for exponential_sum().
template <class T>
[[gnu::always_inline]] inline Softmax softmax_sum(const T* z, std::int64_t n, std::int64_t ahead) {
  const float max = largest(z, n);
  return {max, exponential_sum(z, n, ahead, [=](std::int64_t c) { return exp_nonpositive(to_f32(z[c]) - max); })};
}

// ---- labels ----

struct CrossEntropy {
  std::int64_t classes;
  std::int64_t ignore_index;
  float smoothing;       // what each label gives away
  float share;           // what each class gets of it
  const float* weights;  // null: all 1
  float total_weight;
  std::int64_t ahead;  // bytes to the next row of logits, which is read while exponentials are computed; or 0

  CrossEntropy(const View& logits, const CrossEntropyAttrs& attrs, const float* class_weights)
      : classes(logits.shape[1]),
        ignore_index(attrs.ignore_index),
        smoothing(static_cast<float>(attrs.label_smoothing)),
        share(smoothing / static_cast<float>(classes)),
        weights(class_weights),
        ahead(next_row_ahead(logits, classes * static_cast<std::int64_t>(dtype_size(logits.dtype)))) {
    double total = weights == nullptr ? static_cast<double>(classes) : 0;
    for (std::int64_t c = 0; weights != nullptr && c < classes; ++c) total += static_cast<double>(weights[c]);
    total_weight = static_cast<float>(total);
  }

  bool valid(std::int64_t label) const { return label >= 0 && label < classes; }
  float weight(std::int64_t c) const { return weights == nullptr ? 1.0f : weights[c]; }
  // The sum of weight * target over the classes.
  float mass(std::int64_t label) const { return (1.0f - smoothing) * weight(label) + share * total_weight; }

  // The sum of weight * target * (z - own) over the classes. Not of target * z: without smoothing 0 * -inf stays out.
  template <class T>
  float spread_logits(const T* z, float own) const {
    if (smoothing == 0) return 0;
    const float* w = weights;
    return share * (w == nullptr ? row_sum(classes, [=](std::int64_t c) { return to_f32(z[c]) - own; })
                                 : row_sum(classes, [=](std::int64_t c) { return (to_f32(z[c]) - own) * w[c]; }));
  }

  // The loss of a row of which these are known.
  float loss(const Softmax& s, std::int64_t label, float own, float spread) const {
    return mass(label) * (log_f32(s.sum) - (own - s.max)) - spread;
  }

  template <int kLength, class T>
  float row_loss(const T* z, std::int64_t label) const {
    if (label == ignore_index) return 0;
    if (!valid(label)) return detail::kNan;
    const float own = to_f32(z[label]);
    Softmax s;
    if constexpr (kLength == 0) {
      s = softmax_sum(z, classes, ahead);
    } else {
      PaddedRow<kLength> row(z, classes, -detail::kInfinity);
      const float max = row.max();
      s = {max, row.map([=](float v) { return exp_nonpositive(v - max); })};
    }
    return loss(s, label, own, spread_logits(z, own));
  }

  // Writes (softmax(z) * mass - weight * target) * dloss to d, which may be z. Gives the loss if it is wanted.
  template <int kLength, bool kLoss, class T>
  float row_gradient(const T* z, std::int64_t label, float dloss, T* d) const {
    if (label == ignore_index || !valid(label)) {
      const float fill = label == ignore_index ? 0.0f : detail::kNan;
      for (std::int64_t c = 0; c < classes; ++c) d[c] = from_f32<T>(fill);
      return fill;
    }
    const float own = to_f32(z[label]);
    const float spread = kLoss ? spread_logits(z, own) : 0.0f;
    const float of_softmax = dloss * mass(label);
    const float of_class = dloss * share;
    const float of_label = dloss * (1.0f - smoothing) * weight(label);
    Softmax s;
    if constexpr (kLength == 0) {
      s = long_gradient(z, d, of_softmax, of_class);
      const float e = exp_nonpositive(own - s.max) * (of_softmax / s.sum);
      d[label] = from_f32<T>((e - of_class * weight(label)) - of_label);
    } else {
      PaddedRow<kLength> row(z, classes, -detail::kInfinity);
      const float max = row.max();
      s = {max, row.map([=](float v) { return exp_nonpositive(v - max); })};
      const float scale = of_softmax / s.sum;
      row.map([=](float v) { return v * scale; });
      for (std::int64_t c = 0; smoothing != 0 && c < classes; ++c) row.v[c] -= of_class * weight(c);
      row.v[label] -= of_label;
      row.store(d, classes);
    }
    return kLoss ? loss(s, label, own, spread) : 0.0f;
  }

 private:
  // d = softmax(z) * of_softmax - weight * of_class. Exponentials wait in d for their sum unless it would round them.
  template <class T>
  Softmax long_gradient(const T* z, T* d, float of_softmax, float of_class) const {
    constexpr bool kKeepsTerms = sizeof(T) == sizeof(float);
    Softmax s;
    if constexpr (kKeepsTerms) {
      const float max = largest(z, classes);
      s = {max, exponential_sum(z, classes, ahead, [=](std::int64_t c) { return d[c] = exp_nonpositive(z[c] - max); })};
    } else {
      s = softmax_sum(z, classes, ahead);
    }
    const float scale = of_softmax / s.sum;
    const float max = s.max;
    const float* w = weights;
    const auto term = [=](std::int64_t c) {
      if constexpr (kKeepsTerms) return d[c] * scale;
      return exp_nonpositive(to_f32(z[c]) - max) * scale;
    };
    if (w == nullptr || of_class == 0) {
#pragma omp simd
      for (std::int64_t c = 0; c < classes; ++c) d[c] = from_f32<T>(term(c) - of_class);
    } else {
#pragma omp simd
      for (std::int64_t c = 0; c < classes; ++c) d[c] = from_f32<T>(term(c) - of_class * w[c]);
    }
    return s;
  }
};

const float* weights_of(const KernelArgs& args, std::size_t input) {
  return args.in.size() > input ? args.in[input].as<const float>() : nullptr;
}

void cross_entropy(const KernelArgs& args) {
  const View& logits = args.in[0];
  const CrossEntropy rule(logits, args.attributes<CrossEntropyAttrs>(), weights_of(args, 2));
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t n = rule.classes;
  float* loss = args.out[0].as<float>();
  with_compute_type(logits.dtype, [&](auto element) {
    using T = decltype(element);
    const T* z = logits.as<const T>();
    parallel_pieces(rows, softmax_row_grain(n), rows * n, args.threads, [&](std::int64_t begin, std::int64_t end) {
      with_row_length(n, [&](auto length) {
        for (std::int64_t r = begin; r < end; ++r) {
          loss[r] = rule.row_loss<decltype(length)::value>(z + r * n, labels[r]);
        }
      });
    });
  });
}

template <bool kLoss>
void write_gradients(const KernelArgs& args, const float* weights, float* loss, const View& gradient) {
  const View& logits = args.in[0];
  const CrossEntropy rule(logits, args.attributes<CrossEntropyAttrs>(), weights);
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t n = rule.classes;
  const float* dloss = args.in[2].as<const float>();
  with_compute_type(logits.dtype, [&](auto element) {
    using T = decltype(element);
    const T* z = logits.as<const T>();
    T* d = gradient.as<T>();
    parallel_pieces(rows, softmax_row_grain(n), rows * n, args.threads, [&](std::int64_t begin, std::int64_t end) {
      with_row_length(n, [&](auto length) {
        for (std::int64_t r = begin; r < end; ++r) {
          const float value =
              rule.row_gradient<decltype(length)::value, kLoss>(z + r * n, labels[r], dloss[r], d + r * n);
          if constexpr (kLoss) loss[r] = value;
        }
      });
    });
  });
}

void cross_entropy_backward(const KernelArgs& args) { write_gradients<false>(args, nullptr, nullptr, args.out[0]); }

void softmax_cross_entropy(const KernelArgs& args) {
  write_gradients<true>(args, weights_of(args, 3), args.out[0].as<float>(), args.out[1]);
}

// ---- target probabilities ----

template <class T>
float soft_row_loss(const T* z, const float* t, std::int64_t n) {
  const Softmax s = softmax_sum(z, n, 0);
  const float max = s.max;
  const TwoSums sums = row_sums(n, [=](std::int64_t c) {
    const float product = t[c] * (to_f32(z[c]) - max);
    return TwoSums{t[c], t[c] == 0.0f ? 0.0f : product};
  });
  return sums.first * log_f32(s.sum) - sums.second;
}

// d may be z or t.
template <class T>
void soft_row_gradient(const T* z, const float* t, std::int64_t n, float dloss, T* d) {
  const Softmax s = softmax_sum(z, n, 0);
  const float max = s.max;
  const float mass = row_sum(n, [=](std::int64_t c) { return t[c]; });
  const float scale = mass * dloss / s.sum;
#pragma omp simd
  for (std::int64_t c = 0; c < n; ++c) {
    d[c] = from_f32<T>(exp_nonpositive(to_f32(z[c]) - max) * scale - t[c] * dloss);
  }
}

// Calls f(z, t, first row, last row) for pieces of rows.
template <class F>
void for_each_soft_row(const KernelArgs& args, const F& f) {
  const View& logits = args.in[0];
  const std::int64_t n = logits.shape[1];
  const float* t = args.in[1].as<const float>();
  with_compute_type(logits.dtype, [&](auto element) {
    const auto* z = logits.as<const decltype(element)>();
    parallel_pieces(logits.shape[0], softmax_row_grain(n), logits.shape[0] * n, args.threads,
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t r = begin; r < end; ++r) f(z + r * n, t + r * n, r, n, element);
                    });
  });
}

void soft_cross_entropy(const KernelArgs& args) {
  float* loss = args.out[0].as<float>();
  for_each_soft_row(args, [=](const auto* z, const float* t, std::int64_t r, std::int64_t n, auto) {
    loss[r] = soft_row_loss(z, t, n);
  });
}

void soft_cross_entropy_backward(const KernelArgs& args) {
  const float* dloss = args.in[2].as<const float>();
  for_each_soft_row(args, [&](const auto* z, const float* t, std::int64_t r, std::int64_t n, auto element) {
    soft_row_gradient(z, t, n, dloss[r], args.out[0].as<decltype(element)>() + r * n);
  });
}

// ---- counting correct rows ----

template <class T>
bool among_top_k(const T* z, std::int64_t classes, std::int64_t label, std::int64_t k) {
  if (label < 0 || label >= classes) return false;
  const float own = to_f32(z[label]);
  std::int32_t before = 0;
  std::int32_t nans = 0;
#pragma omp simd reduction(+ : before, nans)
  for (std::int64_t c = 0; c < label; ++c) {
    const float v = to_f32(z[c]);
    before += v >= own ? 1 : 0;
    nans += v != v ? 1 : 0;
  }
#pragma omp simd reduction(+ : before, nans)
  for (std::int64_t c = label; c < classes; ++c) {
    const float v = to_f32(z[c]);
    before += v > own ? 1 : 0;
    nans += v != v ? 1 : 0;
  }
  return nans == 0 && before < k;
}

void top_k_correct(const KernelArgs& args) {
  const View& logits = args.in[0];
  const Labels labels(args.in[1]);
  const std::int64_t rows = logits.shape[0];
  const std::int64_t classes = logits.shape[1];
  const std::int64_t k = args.attributes<TopKCorrectAttrs>().k;
  std::int64_t* counts = static_cast<std::int64_t*>(args.workspace);
  const std::int64_t grain = softmax_row_grain(classes);
  with_compute_type(logits.dtype, [&](auto element) {
    const auto* z = logits.as<const decltype(element)>();
    parallel_pieces(rows, grain, rows * classes, args.threads, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t count = 0;
      for (std::int64_t r = begin; r < end; ++r) count += among_top_k(z + r * classes, classes, labels[r], k) ? 1 : 0;
      counts[begin / grain] = count;
    });
  });
  std::int64_t total = 0;
  for (std::int64_t p = 0; p * grain < rows; ++p) total += counts[p];
  *args.out[0].as<float>() = static_cast<float>(total);
}

std::size_t top_k_workspace(const KernelSpec& spec, const Prepared*) {
  const TensorDesc& logits = spec.in[0];
  return static_cast<std::size_t>(logits.shape[0] / softmax_row_grain(logits.shape[1]) + 1) * sizeof(std::int64_t);
}

// ---- table ----

bool takes_labels(const KernelSpec& spec) {
  const DType labels = spec.in[1].dtype;
  return is_compute_type(spec.in[0].dtype) && (labels == DType::i32 || labels == DType::i64);
}

bool takes_targets(const KernelSpec& spec) {
  return is_compute_type(spec.in[0].dtype) && spec.in[1].dtype == DType::f32;
}

constexpr KernelEntry kKernels[] = {
    {"cross_entropy", takes_labels, cross_entropy},
    {"cross_entropy_backward", takes_labels, cross_entropy_backward},
    {"softmax_cross_entropy", takes_labels, softmax_cross_entropy},
    {"soft_cross_entropy", takes_targets, soft_cross_entropy},
    {"soft_cross_entropy_backward", takes_targets, soft_cross_entropy_backward},
    {"top_k_correct", takes_labels, top_k_correct, nullptr, top_k_workspace},
};

}  // namespace

std::span<const KernelEntry> loss_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
