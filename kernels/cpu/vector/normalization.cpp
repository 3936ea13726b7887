// Batch, group and instance normalization. Variances are taken around a nearby value, never as E[x^2] - mean^2, which
// cancels where the mean is large.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/channels.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

float* data_of(const View& v) { return static_cast<float*>(v.data); }

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};

// Calls f with both flags as types.
template <class F>
void with_flags(bool first, bool second, const F& f) {
  if (first) {
    second ? f(Flag<true>(), Flag<true>()) : f(Flag<true>(), Flag<false>());
  } else {
    second ? f(Flag<false>(), Flag<true>()) : f(Flag<false>(), Flag<false>());
  }
}

// ---- batch normalization ----

// y of (x, .., residual?).
void normalize_batch(const KernelArgs& args, const Channels& m, Activation activation, const ChannelVectors& vectors) {
  const void* residual = args.in.size() > 5 ? args.in[5].data : nullptr;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    with_flags(activation == Activation::relu, residual != nullptr, [&](auto relu, auto added) {
      normalize_channels<T, decltype(relu)::value, decltype(added)::value>(
          m, args.in[0].as<const T>(), static_cast<const T*>(residual), args.out[0], vectors, args.threads);
    });
  });
}

void batch_norm(const KernelArgs& args) {
  const Channels m(args.in[0], 1);
  const auto& attrs = args.attributes<BatchNormAttrs>();
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  const float* mean = data_of(args.in[3]);
  const float* var = data_of(args.in[4]);
  const ChannelVectors vectors{static_cast<float*>(args.workspace), m.width, 0};
  float* center = vectors.of(0, 0);
  float* scale = vectors.of(0, 1);
  float* shift = vectors.of(0, 2);
  const auto epsilon = static_cast<float>(attrs.epsilon);
  for (std::int64_t c = 0; c < m.columns; ++c) {
    center[c] = mean[c];
    scale[c] = gamma[c] / __builtin_sqrtf(var[c] + epsilon);
    shift[c] = beta[c];
  }
  for (int k = 0; k < 3; ++k) m.spread(vectors.of(0, k));
  normalize_batch(args, m, attrs.activation, vectors);
}

// Statistics of the batch and the running ones, and the vectors that normalize by them, for a block of channels.
void finish_statistics(const KernelArgs& args, const Channels& m, const float* partial, const ChannelVectors& vectors,
                       std::int64_t first, std::int64_t width) {
  const auto& attrs = args.attributes<BatchNormTrainAttrs>();
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  const float* running_mean = data_of(args.in[3]);
  const float* running_var = data_of(args.in[4]);
  float* mean = data_of(args.out[1]);
  float* rstd = data_of(args.out[2]);
  float* new_mean = data_of(args.out[3]);
  float* new_var = data_of(args.out[4]);
  float* center = vectors.of(0, 0);
  float* scale = vectors.of(0, 1);
  float* shift = vectors.of(0, 2);
  const double epsilon = attrs.epsilon;
  const double momentum = attrs.momentum;
  const double biased = 1 / static_cast<double>(m.rows);
  const double unbiased = 1 / static_cast<double>(m.rows - 1);
  Moments all;
  combine_moments(partial, m, first, width, all);
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) {
    const std::int64_t c = first + j;
    const double precise_rstd = 1 / __builtin_sqrt(all.squares[j] * biased + epsilon);
    const double factor = precise_rstd * static_cast<double>(gamma[c]);
    const float rounded_mean = static_cast<float>(all.mean[j]);
    // What rounding took from the mean goes into the shift: at a mean of 1e4 it is half a thousandth.
    const double rest = all.mean[j] - static_cast<double>(rounded_mean);
    center[c] = rounded_mean;
    scale[c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(static_cast<double>(beta[c]) - rest * factor);
    const double old_mean = static_cast<double>(running_mean[c]);
    const double old_var = static_cast<double>(running_var[c]);
    mean[c] = rounded_mean;
    rstd[c] = static_cast<float>(precise_rstd);
    new_mean[c] = static_cast<float>(old_mean + momentum * (all.mean[j] - old_mean));
    new_var[c] = static_cast<float>(old_var + momentum * (all.squares[j] * unbiased - old_var));
  }
}

void batch_norm_train(const KernelArgs& args) {
  const Channels m(args.in[0], 1);
  const ChannelVectors vectors{static_cast<float*>(args.workspace), m.width, 0};
  float* partial = vectors.of(0, 3);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    piece_moments(args.in[0].as<const decltype(element)>(), m, partial, args.threads);
  });
  const std::int64_t blocks = (m.columns + kChannelBlock - 1) / kChannelBlock;
  parallel_pieces(blocks, 1, m.pieces * m.columns, args.threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = b * kChannelBlock;
      const std::int64_t left = m.columns - first;
      finish_statistics(args, m, partial, vectors, first, left < kChannelBlock ? left : kChannelBlock);
    }
  });
  for (int k = 0; k < 3; ++k) m.spread(vectors.of(0, k));
  normalize_batch(args, m, args.attributes<BatchNormTrainAttrs>().activation, vectors);
}

// Writes (pieces, 2, columns): the sums of g * (x - mean) and of g, g being dy where y is positive. If there is a
// residual, g is its gradient and is written too.
template <class T, bool kRelu, bool kResidual>
void gradient_sums(const Channels& m, const T* dy, const T* x, const T* y, const ChannelVectors& vectors, T* masked,
                   float* partial, int threads) {
  m.for_each_piece(threads, [&](std::int64_t image, std::int64_t piece, std::int64_t first, std::int64_t count) {
    const T* gradient = dy + first;
    const T* in = x + first;
    const T* result = kRelu ? y + first : nullptr;
    T* out = kResidual ? masked + first : nullptr;
    const float* __restrict mean = vectors.of(image, 0);
    float* sums = partial + piece * 2 * m.columns;
    m.piece_sums(count, sums, sums + m.columns, [=](std::int64_t i, std::int64_t j) {
      float g = to_f32(gradient[i]);
      if constexpr (kRelu) g = to_f32(result[i]) <= 0.0f ? 0.0f : g;
      if constexpr (kResidual) out[i] = from_f32<T>(g);
      return TwoSums{g * (to_f32(in[i]) - mean[j]), g};
    });
  });
}

template <class T>
void batch_norm_backward_of(const KernelArgs& args, const Channels& m, const ChannelVectors& vectors, float* partial) {
  const auto& attrs = args.attributes<BatchNormBackwardAttrs>();
  const bool active = attrs.activation == Activation::relu;
  const T* dy = args.in[0].as<const T>();
  const T* x = args.in[1].as<const T>();
  const T* y = active ? args.in[5].as<const T>() : nullptr;
  const float* gamma = data_of(args.in[2]);
  const float* mean = data_of(args.in[3]);
  const float* rstd = data_of(args.in[4]);
  const View& dx = args.out[0];
  float* dgamma = data_of(args.out[1]);
  float* dbeta = data_of(args.out[2]);
  T* masked = attrs.residual ? args.out[3].as<T>() : nullptr;
  float* center = vectors.of(0, 0);
  float* of_dy = vectors.of(0, 1);
  float* of_x = vectors.of(0, 2);
  float* shift = vectors.of(0, 3);

  for (std::int64_t c = 0; c < m.columns; ++c) center[c] = mean[c];
  m.spread(center);
  with_flags(active, attrs.residual, [&](auto relu, auto residual) {
    gradient_sums<T, decltype(relu)::value, decltype(residual)::value>(m, dy, x, y, vectors, masked, partial,
                                                                       args.threads);
  });
  combine_pairs(partial, m.pieces, m.columns, dgamma, dbeta);

  // dx = gamma rstd (dy - dbeta / n - (x - mean) rstd dgamma / n)
  const float inverse = 1.0f / static_cast<float>(m.rows);
  for (std::int64_t c = 0; c < m.columns; ++c) {
    dgamma[c] *= rstd[c];
    of_dy[c] = gamma[c] * rstd[c];
    of_x[c] = -of_dy[c] * rstd[c] * (dgamma[c] * inverse);
    shift[c] = -of_dy[c] * (dbeta[c] * inverse);
  }
  for (int k = 1; k < 4; ++k) m.spread(vectors.of(0, k));
  if (active && masked == nullptr) {
    channel_gradients<T, true>(m, dy, x, y, dx, vectors, args.threads);
  } else {
    channel_gradients<T, false>(m, masked != nullptr ? masked : dy, x, y, dx, vectors, args.threads);
  }
}

void batch_norm_backward(const KernelArgs& args) {
  const Channels m(args.in[0], 1);
  const ChannelVectors vectors{static_cast<float*>(args.workspace), m.width, 0};
  with_compute_type(args.in[0].dtype, [&](auto element) {
    batch_norm_backward_of<decltype(element)>(args, m, vectors, vectors.of(0, 4));
  });
}

// ---- group and instance normalization ----

// Means and sums of squared distances of several groups of numbers, joined one after the other.
struct Joined {
  double count = 0;
  double mean = 0;
  double squares = 0;

  void add(double n, double other_mean, double other_squares) {
    const double delta = other_mean - mean;
    count += n;
    mean += delta * (n / count);
    squares += other_squares + delta * delta * (n * (count - n) / count);
  }
};

// Statistics of each group of one image, and the vectors that normalize by them. `partial` is the image's part.
void finish_groups(const KernelArgs& args, const Channels& m, std::int64_t groups, double epsilon, std::int64_t image,
                   const float* partial, const ChannelVectors& vectors) {
  const float* gamma = data_of(args.in[1]);
  const float* beta = data_of(args.in[2]);
  float* mean = data_of(args.out[1]) + image * groups;
  float* rstd = data_of(args.out[2]) + image * groups;
  float* center = vectors.of(image, 0);
  float* scale = vectors.of(image, 1);
  float* shift = vectors.of(image, 2);
  const std::int64_t size = m.columns / groups;
  const auto finish_group = [&](std::int64_t group, const Joined& joined) {
    const double precise_rstd = 1 / __builtin_sqrt(joined.squares / joined.count + epsilon);
    mean[group] = static_cast<float>(joined.mean);
    rstd[group] = static_cast<float>(precise_rstd);
    const double rest = joined.mean - static_cast<double>(mean[group]);
    for (std::int64_t c = group * size; c < (group + 1) * size; ++c) {
      const double factor = precise_rstd * static_cast<double>(gamma[c]);
      center[c] = mean[group];
      scale[c] = static_cast<float>(factor);
      shift[c] = static_cast<float>(static_cast<double>(beta[c]) - rest * factor);
    }
  };
  Joined joined;
  for_each_channel_block(m.columns, [&](std::int64_t first, std::int64_t width) {
    Moments all;
    combine_moments(partial, m, first, width, all);
    for (std::int64_t j = 0; j < width; ++j) {
      joined.add(static_cast<double>(m.rows), all.mean[j], all.squares[j]);
      if ((first + j + 1) % size != 0) continue;
      finish_group((first + j) / size, joined);
      joined = Joined();
    }
  });
  for (int k = 0; k < 3; ++k) m.spread(vectors.of(image, k));
}

void normalize_groups(const KernelArgs& args, std::int64_t groups, double epsilon) {
  const Channels m(args.in[0], args.in[0].shape[0]);
  const ChannelVectors vectors{static_cast<float*>(args.workspace), m.width, 3 * m.width};
  float* partial = vectors.of(m.images, 0);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    piece_moments(args.in[0].as<const T>(), m, partial, args.threads);
    parallel_pieces(m.images, 1, m.all_pieces() * m.columns, args.threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t image = begin; image < end; ++image) {
        finish_groups(args, m, groups, epsilon, image, partial + image * m.pieces * 3 * m.columns, vectors);
      }
    });
    normalize_channels<T, false, false>(m, args.in[0].as<const T>(), nullptr, args.out[0], vectors, args.threads);
  });
}

void group_norm(const KernelArgs& args) {
  const auto& attrs = args.attributes<GroupNormAttrs>();
  normalize_groups(args, attrs.num_groups, attrs.epsilon);
}

void instance_norm(const KernelArgs& args) {
  normalize_groups(args, args.in[0].shape[args.in[0].rank - 1], args.attributes<InstanceNormAttrs>().epsilon);
}

// From the sums of each channel of an image, those of dy * (x - mean) and of dy, the vectors of
// dx = rstd (gamma dy - average(gamma dy) - (x - mean) rstd average(gamma dy (x - mean) rstd)), averages over a group.
// Scales the first sums to those of dy * (x - mean) * rstd, which are the image's share of dgamma.
void finish_group_gradients(const KernelArgs& args, const Channels& m, std::int64_t groups, std::int64_t image,
                            float* products, const float* sums, const ChannelVectors& vectors) {
  const float* gamma = data_of(args.in[2]);
  const float* rstd = data_of(args.in[4]) + image * groups;
  const std::int64_t size = m.columns / groups;
  const double inverse = 1 / (static_cast<double>(size) * static_cast<double>(m.rows));
  for (std::int64_t group = 0; group < groups; ++group) {
    const double r = static_cast<double>(rstd[group]);
    double average = 0;
    double slope = 0;
    for (std::int64_t c = group * size; c < (group + 1) * size; ++c) {
      products[c] *= rstd[group];
      average += static_cast<double>(gamma[c]) * static_cast<double>(sums[c]);
      slope += static_cast<double>(gamma[c]) * static_cast<double>(products[c]);
    }
    for (std::int64_t c = group * size; c < (group + 1) * size; ++c) {
      vectors.of(image, 1)[c] = gamma[c] * rstd[group];
      vectors.of(image, 2)[c] = static_cast<float>(-slope * inverse * r * r);
      vectors.of(image, 3)[c] = static_cast<float>(-average * inverse * r);
    }
  }
  for (int k = 1; k < 4; ++k) m.spread(vectors.of(image, k));
}

void group_norm_backward(const KernelArgs& args) {
  const Channels m(args.in[0], args.in[0].shape[0]);
  const std::int64_t groups = args.attributes<GroupNormBackwardAttrs>().num_groups;
  const std::int64_t size = m.columns / groups;
  const float* mean = data_of(args.in[3]);
  const ChannelVectors vectors{static_cast<float*>(args.workspace), m.width, 4 * m.width};
  float* partial = vectors.of(m.images, 0);
  float* of_images = partial + m.all_pieces() * 2 * m.columns;  // (images, 2, columns)
  for (std::int64_t image = 0; image < m.images; ++image) {
    float* center = vectors.of(image, 0);
    for (std::int64_t c = 0; c < m.columns; ++c) center[c] = mean[image * groups + c / size];
    m.spread(center);
  }
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* dy = args.in[0].as<const T>();
    const T* x = args.in[1].as<const T>();
    gradient_sums<T, false, false>(m, dy, x, nullptr, vectors, nullptr, partial, args.threads);
    parallel_pieces(m.images, 1, m.all_pieces() * m.columns, args.threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t image = begin; image < end; ++image) {
        float* products = of_images + image * 2 * m.columns;
        combine_pairs(partial + image * m.pieces * 2 * m.columns, m.pieces, m.columns, products, products + m.columns);
        finish_group_gradients(args, m, groups, image, products, products + m.columns, vectors);
      }
    });
    combine_pairs(of_images, m.images, m.columns, data_of(args.out[1]), data_of(args.out[2]));
    channel_gradients<T, false>(m, dy, x, nullptr, args.out[0], vectors, args.threads);
  });
}

// ---- table ----

// Inputs that are as large as input 0 have its type, f32 or bf16; the others are f32.
bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

std::size_t bytes(std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

// `kVectors` vectors for each channel, and `kSums` sums for each piece.
template <int kVectors, int kSums>
std::size_t batch_workspace(const KernelSpec& spec, const Prepared*) {
  const Channels m(spec.in[0], 1);
  return bytes(kVectors * m.width + kSums * m.pieces * m.columns);
}

std::size_t group_workspace(const KernelSpec& spec, const Prepared*) {
  const Channels m(spec.in[0], spec.in[0].shape[0]);
  return bytes(m.images * 3 * m.width + m.all_pieces() * 3 * m.columns);
}

std::size_t group_backward_workspace(const KernelSpec& spec, const Prepared*) {
  const Channels m(spec.in[0], spec.in[0].shape[0]);
  return bytes(m.images * 4 * m.width + (m.all_pieces() + m.images) * 2 * m.columns);
}

constexpr KernelEntry kKernels[] = {
    {"batch_norm", is_supported, batch_norm, nullptr, batch_workspace<3, 0>},
    {"batch_norm_train", is_supported, batch_norm_train, nullptr, batch_workspace<3, 3>},
    {"batch_norm_backward", is_supported, batch_norm_backward, nullptr, batch_workspace<4, 2>},
    {"group_norm", is_supported, group_norm, nullptr, group_workspace},
    {"instance_norm", is_supported, instance_norm, nullptr, group_workspace},
    {"group_norm_backward", is_supported, group_norm_backward, nullptr, group_backward_workspace},
};

}  // namespace

std::span<const KernelEntry> normalization_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
