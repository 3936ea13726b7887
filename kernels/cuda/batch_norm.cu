// Batch normalization: inference, training, backward.
#include "kernels/cuda/batch_norm.cuh"
#include "kernels/cuda/families.h"
#include "trivet/kernels/attrs_normalization.h"

namespace trivet::kernels::cuda {
namespace {

std::int64_t columns_of(const TensorDesc& t) { return t.dim(-1); }
std::int64_t rows_of(const TensorDesc& t) { return columns_of(t) == 0 ? 0 : t.elements() / columns_of(t); }

// Vectors of channels begin at multiples of 16 bytes.
std::int64_t padded(std::int64_t columns) { return (columns + 3) / 4 * 4; }

// Calls run(pack size) for packs of 16 bytes if rows allow it, for single elements otherwise.
template <class T, class F>
void with_pack(std::int64_t columns, bool aligned, const F& run) {
  aligned&& columns % kPack<T> == 0 ? run(Size<kPack<T>>()) : run(Size<1>());
}

ChannelVectors vectors_of(void* workspace, std::int64_t columns) {
  float* const first = static_cast<float*>(workspace);
  return {first, first + padded(columns), first + 2 * padded(columns)};
}

void normalize(const KernelArgs& args, Activation activation, const ChannelVectors& vectors) {
  const std::int64_t columns = columns_of(args.in[0]);
  const std::int64_t n = args.in[0].elements();
  if (n == 0) return;
  const bool relu = activation == Activation::relu;
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    const T* const residual = optional_input<T>(args, 5);
    T* const y = args.out[0].as<T>();
    with_pack<T>(columns, is_aligned(x) && is_aligned(residual) && is_aligned(y), [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      TRIVET_LAUNCH((normalize_channels_kernel<kN, T>), dim3(blocks_for(n / kN)), dim3(kBlock), 0, args.stream, x,
                    residual, y, n / kN, columns, vectors, relu);
    });
  });
}

// ---- inference ----

__global__ void __launch_bounds__(kBlock, 2)
    inference_vectors_kernel(const float* gamma, const float* beta, const float* mean, const float* var, float epsilon,
                             std::int64_t columns, ChannelVectors vectors) {
  const std::int64_t c = global_thread();
  if (c >= columns) return;
  vectors.center[c] = mean[c];
  vectors.scale[c] = gamma[c] / sqrtf(var[c] + epsilon);
  vectors.shift[c] = beta[c];
}

void run_batch_norm(const KernelArgs& args) {
  const auto& attrs = args.attributes<BatchNormAttrs>();
  const std::int64_t columns = columns_of(args.in[0]);
  if (columns == 0) return;
  const ChannelVectors vectors = vectors_of(args.workspace, columns);
  TRIVET_LAUNCH(inference_vectors_kernel, dim3(blocks_for(columns)), dim3(kBlock), 0, args.stream,
                args.in[1].as<const float>(), args.in[2].as<const float>(), args.in[3].as<const float>(),
                args.in[4].as<const float>(), static_cast<float>(attrs.epsilon), columns, vectors);
  normalize(args, attrs.activation, vectors);
}

// ---- training ----

// Joins the pieces' moments in a fixed order and in double: 8 threads for each channel, then one.
__global__ void __launch_bounds__(kBlock, 2)
    finish_statistics_kernel(const float* partial, ColumnLayout layout, BatchStatistics s, ChannelVectors vectors) {
  TRIVET_SHARED(Gathered<double>, scratch, kBlock);
  constexpr int kStrands = kBlock / kJoined;
  const int me = static_cast<int>(threadIdx.x);
  const std::int64_t c = std::int64_t{blockIdx.x} * kJoined + me % kJoined;
  const bool inside = c < layout.columns;
  Gathered<double> all{0, 0, 0};
  for (std::int64_t p = me / kJoined; inside && p < layout.pieces; p += kStrands) {
    const float* const piece = partial + p * 3 * layout.columns + c;
    const std::int64_t left = layout.rows - p * layout.rows_of_piece;
    const double n = static_cast<double>(left < layout.rows_of_piece ? left : layout.rows_of_piece);
    const double sum = static_cast<double>(piece[0]) * n + static_cast<double>(piece[layout.columns]);
    all.join({n, sum, static_cast<double>(piece[2 * layout.columns])});
  }
  scratch[me] = all;
  __syncthreads();
  if (!inside || me >= kJoined) return;
  for (int strand = 1; strand < kStrands; ++strand) {
    all.join(scratch[strand * kJoined + me]);
  }
  const double mean = all.sum / all.count;
  const double rows = static_cast<double>(layout.rows);
  const double squares = all.squares;
  const double rstd = 1 / sqrt(squares / rows + s.epsilon);
  const double factor = rstd * static_cast<double>(s.gamma[c]);
  const float rounded = static_cast<float>(mean);
  // What rounding took from the mean goes into the shift: at a mean of 1e4 it is half a thousandth.
  vectors.center[c] = rounded;
  vectors.scale[c] = static_cast<float>(factor);
  vectors.shift[c] =
      static_cast<float>(static_cast<double>(s.beta[c]) - (mean - static_cast<double>(rounded)) * factor);
  s.mean[c] = rounded;
  s.rstd[c] = static_cast<float>(rstd);
  const double old_mean = static_cast<double>(s.running_mean[c]);
  const double old_var = static_cast<double>(s.running_var[c]);
  s.new_mean[c] = static_cast<float>(old_mean + s.momentum * (mean - old_mean));
  s.new_var[c] = static_cast<float>(old_var + s.momentum * (squares / (rows - 1) - old_var));
}

void run_batch_norm_train(const KernelArgs& args) {
  const auto& attrs = args.attributes<BatchNormTrainAttrs>();
  const std::int64_t columns = columns_of(args.in[0]);
  if (columns == 0) return;
  const ChannelVectors vectors = vectors_of(args.workspace, columns);
  float* const partial = vectors.shift + padded(columns);
  const BatchStatistics statistics{args.in[1].as<const float>(),
                                   args.in[2].as<const float>(),
                                   args.in[3].as<const float>(),
                                   args.in[4].as<const float>(),
                                   args.out[1].as<float>(),
                                   args.out[2].as<float>(),
                                   args.out[3].as<float>(),
                                   args.out[4].as<float>(),
                                   attrs.epsilon,
                                   attrs.momentum};
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    const T* const x = args.in[0].as<const T>();
    with_pack<T>(columns, is_aligned(x), [&](auto pack) {
      constexpr int kN = decltype(pack)::value;
      const ColumnLayout layout(rows_of(args.in[0]), columns, kN);
      if (layout.pieces > 0) {
        const dim3 grid(static_cast<unsigned>(layout.tiles), static_cast<unsigned>(layout.pieces));
        TRIVET_LAUNCH((moments_kernel<kN, T>), grid, dim3(kBlock), 0, args.stream, x, partial, layout);
      }
      TRIVET_LAUNCH(finish_statistics_kernel, dim3(blocks_for(columns, kJoined)), dim3(kBlock), 0, args.stream, partial,
                    layout, statistics, vectors);
    });
  });
  normalize(args, attrs.activation, vectors);
}

// ---- backward ----

struct BackwardVectors {
  const float* gamma;
  const float* rstd;
  float* dgamma;
  float* dbeta;
};

// dgamma and dbeta, and the vectors of dx = gamma rstd (dy - dbeta / n - (x - mean) rstd dgamma / n).
__global__ void __launch_bounds__(kBlock, 2)
    finish_gradients_kernel(const float* partial, ColumnLayout layout, BackwardVectors b, GradientVectors vectors) {
  TRIVET_SHARED(double, scratch, kBlock);
  const std::int64_t columns = layout.columns;
  const std::int64_t c = std::int64_t{blockIdx.x} * kJoined + threadIdx.x % kJoined;
  const bool inside = c < columns;
  const double products = join_pieces(partial + c, layout.pieces, 2 * columns, inside, scratch);
  const double sums = join_pieces(partial + columns + c, layout.pieces, 2 * columns, inside, scratch);
  if (!inside || threadIdx.x >= kJoined) return;
  const float rstd = b.rstd[c];
  const float dgamma = static_cast<float>(products) * rstd;
  const float dbeta = static_cast<float>(sums);
  const float inverse = 1.0f / static_cast<float>(layout.rows);
  const float of_dy = b.gamma[c] * rstd;
  b.dgamma[c] = dgamma;
  b.dbeta[c] = dbeta;
  vectors.of_dy[c] = of_dy;
  vectors.of_x[c] = -of_dy * rstd * (dgamma * inverse);
  vectors.shift[c] = -of_dy * (dbeta * inverse);
}

template <int N, class T>
void backward(const KernelArgs& args) {
  const auto& attrs = args.attributes<BatchNormBackwardAttrs>();
  const T* const dy = args.in[0].as<const T>();
  const T* const x = args.in[1].as<const T>();
  const T* const y = attrs.activation == Activation::relu ? args.in[5].as<const T>() : nullptr;
  const float* const mean = args.in[3].as<const float>();
  T* const dx = args.out[0].as<T>();
  T* const masked = attrs.residual ? args.out[3].as<T>() : nullptr;
  const std::int64_t columns = columns_of(args.in[0]);
  const ColumnLayout layout(rows_of(args.in[0]), columns, N);
  const ChannelVectors space = vectors_of(args.workspace, columns);
  const GradientVectors vectors{mean, space.center, space.scale, space.shift};
  float* const partial = space.shift + padded(columns);
  const BackwardVectors gradients{args.in[2].as<const float>(), args.in[4].as<const float>(), args.out[1].as<float>(),
                                  args.out[2].as<float>()};
  if (layout.pieces > 0) {
    const dim3 grid(static_cast<unsigned>(layout.tiles), static_cast<unsigned>(layout.pieces));
    TRIVET_LAUNCH((gradient_sums_kernel<N, T>), grid, dim3(kBlock), 0, args.stream, dy, x, y, masked, mean, partial,
                  layout);
  }
  TRIVET_LAUNCH(finish_gradients_kernel, dim3(blocks_for(columns, kJoined)), dim3(kBlock), 0, args.stream, partial,
                layout, gradients, vectors);
  const std::int64_t packs = args.in[0].elements() / N;
  if (packs == 0) return;
  const T* const gradient = masked != nullptr ? masked : dy;
  const T* const mask = masked != nullptr ? nullptr : y;
  TRIVET_LAUNCH((channel_gradients_kernel<N, T>), dim3(blocks_for(packs)), dim3(kBlock), 0, args.stream, gradient, x,
                mask, dx, packs, columns, vectors);
}

void run_batch_norm_backward(const KernelArgs& args) {
  if (columns_of(args.in[0]) == 0) return;
  bool aligned = is_aligned(args.out[0].data);
  for (const View& v : args.in) aligned = aligned && is_aligned(v.data);
  if (args.attributes<BatchNormBackwardAttrs>().residual) aligned = aligned && is_aligned(args.out[3].data);
  with_compute_type(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    with_pack<T>(columns_of(args.in[0]), aligned, [&](auto pack) { backward<decltype(pack)::value, T>(args); });
  });
}

// Inputs that are as large as input 0 have its type; the others are f32.
bool is_supported(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }

// Three vectors, and kSums sums for each piece, whose number depends on the packs.
template <int kSums>
std::size_t workspace(const KernelSpec& spec, const Prepared*) {
  const std::int64_t columns = columns_of(spec.in[0]);
  std::int64_t pieces = 0;
  for (const int pack : {1, 4, 8}) {
    const std::int64_t found = ColumnLayout(rows_of(spec.in[0]), columns, pack).pieces;
    pieces = found > pieces ? found : pieces;
  }
  return static_cast<std::size_t>(3 * padded(columns) + kSums * pieces * columns) * sizeof(float);
}

constexpr KernelEntry kTable[] = {
    {"batch_norm", is_supported, run_batch_norm, nullptr, workspace<0>},
    {"batch_norm_train", is_supported, run_batch_norm_train, nullptr, workspace<3>},
    {"batch_norm_backward", is_supported, run_batch_norm_backward, nullptr, workspace<2>},
};

}  // namespace

std::span<const KernelEntry> batch_norm_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
