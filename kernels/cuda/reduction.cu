// Reductions over any set of axes.
#include "kernels/cuda/families.h"
#include "kernels/cuda/reduction.cuh"
#include "trivet/kernels/attrs_reduction.h"

namespace trivet::kernels::cuda {
namespace {

constexpr std::int64_t kPieceElements = 16384;  // of a block; of a warp an eighth
constexpr std::int64_t kMostPieces = 1024;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// What is kept and what is reduced, with the strides of x.
struct Split {
  Loop<1> kept;
  Loop<1> reduced;
  bool innermost = false;  // the innermost dimension is reduced

  Split(const TensorDesc& x, const ReduceAttrs& attrs) {
    bool is_reduced[kMaxRank];
    reduced_dimensions(attrs, x.rank, is_reduced);
    std::int64_t strides[kMaxRank];
    dense_strides(x, strides);
    for (int d = 0; d < x.rank; ++d) (is_reduced[d] ? reduced : kept).add(x.shape[d], {strides[d]});
    innermost = kept.rank == 0 || (reduced.rank > 0 && reduced.inner_stride(0) == 1);
  }
};

// `group` threads with `pack` elements at a time for each run.
Runs runs_of(const Split& split, int group, int pack) {
  Runs runs;
  runs.outputs = split.kept.elements;
  runs.run = split.reduced.row();
  runs.per_run = ceil_div(runs.run, pack);
  runs.steps = runs.run == 0 ? 0 : split.reduced.elements / runs.run * runs.per_run;
  runs.per_piece = kPieceElements / (kBlock / group) / pack;
  const std::int64_t share = ceil_div(runs.steps, kMostPieces);
  if (runs.per_piece < share) runs.per_piece = share;
  runs.pieces = runs.steps == 0 ? 1 : ceil_div(runs.steps, runs.per_piece);
  return runs;
}

// Elements that threads may read at once.
template <class T>
int pack_of(const Split& split, const void* x) {
  const Loop<1>& other = split.innermost ? split.kept : split.reduced;
  const Loop<1>& inner = split.innermost ? split.reduced : split.kept;
  bool fits = is_aligned(x);
  for (int d = 0; d < other.rank; ++d) fits = fits && other.stride[0][d] % kPack<T> == 0;
  for (int d = 0; d + 1 < inner.rank; ++d) fits = fits && inner.stride[0][d] % kPack<T> == 0;
  if (!split.innermost) fits = fits && inner.row() % kPack<T> == 0;
  return fits ? kPack<T> : 1;
}

// A warp takes what packs cannot, and runs of less than a block's worth.
template <class T>
bool by_warps(const Split& split, int pack) {
  return pack == 1 || split.reduced.elements < 4 * kBlock;
}

// A warp for each output joins its pieces in double, in a fixed order.
__global__ void __launch_bounds__(kBlock, 2) join_pieces_kernel(Results results, std::int64_t outputs, Reduce op) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t o = first_row<kWarp>(); o < outputs; o += row_step<kWarp>()) {
    double total = static_cast<double>(reduce_start(op));
    const JoinBy join{op};
    for (std::int64_t p = lane; p < results.pieces; p += kWarp) {
      total = join(total, static_cast<double>(results.partial[o * results.pieces + p]));
    }
    total = join_warp(total, join);
    if (lane == 0) results.store(o, total);
  }
}

struct Request {
  Reduce op;
  Finish finish = Finish::none;
  double scale = 1;
  const float* shift = nullptr;
};

template <class T>
void reduce_innermost(const View& x, const Split& split, Results& results, const Request& request, void* workspace,
                      void* stream) {
  const T* const data = x.as<const T>();
  const int pack = pack_of<T>(split, data);
  const auto launch = [&](auto group, auto size) {
    constexpr int kGroup = decltype(group)::value;
    constexpr int kN = decltype(size)::value;
    const Runs runs = runs_of(split, kGroup, kN);
    results.pieces = runs.pieces;
    results.partial = runs.pieces > 1 ? static_cast<float*>(workspace) : nullptr;
    const Loop<1> kept = split.kept;
    const Loop<1> reduced = split.reduced;
    const Results to = results;
    const Reduce op = request.op;
    TRIVET_LAUNCH((reduce_runs_kernel<kGroup, kN, T>), dim3(row_blocks<kGroup>(runs.outputs * runs.pieces)),
                  dim3(kBlock), 0, stream, data, kept, reduced, runs, to, op);
  };
  by_warps<T>(split, pack) ? launch(Size<kWarp>(), Size<1>()) : launch(Size<kBlock>(), Size<kPack<T>>());
}

template <class T>
void reduce_outer(const View& x, const Split& split, Results& results, const Request& request, void* workspace,
                  void* stream) {
  const T* const data = x.as<const T>();
  const auto launch = [&](auto size) {
    constexpr int kN = decltype(size)::value;
    const std::int64_t columns = split.kept.row();
    const ColumnLayout layout(split.reduced.elements, columns, kN);
    results.pieces = layout.pieces;
    results.partial = layout.pieces > 1 ? static_cast<float*>(workspace) : nullptr;
    const std::int64_t outer = split.kept.elements / columns;
    const dim3 grid(static_cast<unsigned>(layout.tiles), static_cast<unsigned>(layout.pieces),
                    static_cast<unsigned>(outer < 65535 ? outer : 65535));
    const Loop<1> kept = split.kept;
    const Loop<1> reduced = split.reduced;
    const Results to = results;
    const Reduce op = request.op;
    TRIVET_LAUNCH((reduce_columns_kernel<kN, T>), grid, dim3(kBlock), 0, stream, data, kept, reduced, layout, to, op);
  };
  pack_of<T>(split, data) > 1 ? launch(Size<kPack<T>>()) : launch(Size<1>());
}

void reduce(const View& x, const ReduceAttrs& attrs, const View& y, const Request& request, void* workspace,
            void* stream) {
  const Split split(x, attrs);
  const std::int64_t outputs = split.kept.elements;
  if (outputs == 0) return;
  Results results{y.data, y.dtype, request.scale, request.finish, request.shift, nullptr, 1};
  with_compute_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    // Of nothing, runs give the start of the sum.
    if (split.innermost || split.reduced.elements == 0) {
      reduce_innermost<T>(x, split, results, request, workspace, stream);
    } else {
      reduce_outer<T>(x, split, results, request, workspace, stream);
    }
  });
  if (results.partial == nullptr) return;
  const Reduce op = request.op;
  TRIVET_LAUNCH(join_pieces_kernel, dim3(row_blocks<kWarp>(outputs)), dim3(kBlock), 0, stream, results, outputs, op);
}

// Room for the pieces of whatever packs the memory's alignment will allow.
std::size_t partial_bytes(const TensorDesc& x, const ReduceAttrs& attrs) {
  const Split split(x, attrs);
  if (split.kept.elements == 0 || split.reduced.elements == 0) return 0;
  std::int64_t most = 1;
  for (const int pack : {1, 4, 8}) {
    const std::int64_t pieces = split.innermost ? runs_of(split, pack == 1 ? kWarp : kBlock, pack).pieces
                                                : ColumnLayout(split.reduced.elements, split.kept.row(), pack).pieces;
    most = pieces > most ? pieces : most;
  }
  return most > 1 ? static_cast<std::size_t>(most * split.kept.elements) * sizeof(float) : 0;
}

// ---- ops ----

template <class T>
void reduce_plain(const KernelArgs& args, PlainReduce op) {
  const Split split(args.in[0], args.attributes<ReduceAttrs>());
  if (split.kept.elements == 0) return;
  const T* const x = args.in[0].as<const T>();
  T* const y = args.out[0].as<T>();
  const Loop<1> kept = split.kept;
  const Loop<1> reduced = split.reduced;
  TRIVET_LAUNCH((reduce_plain_kernel<T>), dim3(row_blocks<kWarp>(kept.elements)), dim3(kBlock), 0, args.stream, x, y,
                kept, reduced, op);
}

void reduce_integers(const KernelArgs& args, PlainReduce op) {
  with_integer_type(args.in[0].dtype, [&](auto element) { reduce_plain<decltype(element)>(args, op); });
}

template <Reduce kOp, PlainReduce kPlain, Finish kFinish = Finish::none>
void run_reduce(const KernelArgs& args) {
  if (is_integer_type(args.in[0].dtype)) return reduce_integers(args, kPlain);
  reduce(args.in[0], args.attributes<ReduceAttrs>(), args.out[0], {kOp, kFinish}, args.workspace, args.stream);
}

void run_mean(const KernelArgs& args) {
  const std::int64_t outputs = args.out[0].elements();
  if (outputs == 0) return;
  const double count = static_cast<double>(args.in[0].elements() / outputs);
  reduce(args.in[0], args.attributes<ReduceAttrs>(), args.out[0], {Reduce::sum, Finish::none, 1.0 / count},
         args.workspace, args.stream);
}

void run_product(const KernelArgs& args) {
  if (is_integer_type(args.in[0].dtype)) return reduce_integers(args, PlainReduce::product);
  with_compute_type(args.in[0].dtype,
                    [&](auto element) { reduce_plain<decltype(element)>(args, PlainReduce::product); });
}

std::size_t aligned_floats(std::int64_t n) { return (static_cast<std::size_t>(n) * sizeof(float) + 63) / 64 * 64; }

// max + log(sum(e^(x - max))). The workspace begins with the outputs' largest elements.
void run_log_sum_exp(const KernelArgs& args) {
  const auto& attrs = args.attributes<ReduceAttrs>();
  View largest = args.out[0];
  largest.dtype = DType::f32;
  largest.data = args.workspace;
  void* const rest = static_cast<char*>(args.workspace) + aligned_floats(args.out[0].elements());
  reduce(args.in[0], attrs, largest, {Reduce::largest}, rest, args.stream);
  reduce(args.in[0], attrs, args.out[0],
         {Reduce::exponentials, Finish::logarithm, 1, static_cast<const float*>(args.workspace)}, rest, args.stream);
}

void run_squared_norm(const KernelArgs& args) {
  reduce(args.in[0], {}, args.out[0], {Reduce::squares}, args.workspace, args.stream);
}

std::size_t reduce_workspace(const KernelSpec& spec, const Prepared*) {
  return partial_bytes(spec.in[0], spec.attributes<ReduceAttrs>());
}
std::size_t log_sum_exp_workspace(const KernelSpec& spec, const Prepared*) {
  return aligned_floats(spec.out[0].elements()) + partial_bytes(spec.in[0], spec.attributes<ReduceAttrs>());
}
std::size_t squared_norm_workspace(const KernelSpec& spec, const Prepared*) { return partial_bytes(spec.in[0], {}); }

bool floats(const KernelSpec& spec) { return is_compute_type(spec.in[0].dtype); }
bool numbers(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return is_compute_type(type) || type == DType::i32 || type == DType::i64;
}
bool bytes_too(const KernelSpec& spec) { return floats(spec) || is_integer_type(spec.in[0].dtype); }

constexpr KernelEntry kTable[] = {
    {"reduce_sum", numbers, run_reduce<Reduce::sum, PlainReduce::sum>, nullptr, reduce_workspace},
    {"reduce_mean", floats, run_mean, nullptr, reduce_workspace},
    {"reduce_max", bytes_too, run_reduce<Reduce::largest, PlainReduce::largest>, nullptr, reduce_workspace},
    {"reduce_min", bytes_too, run_reduce<Reduce::smallest, PlainReduce::smallest>, nullptr, reduce_workspace},
    {"reduce_prod", numbers, run_product},
    {"reduce_l1", numbers, run_reduce<Reduce::magnitudes, PlainReduce::magnitudes>, nullptr, reduce_workspace},
    {"reduce_l2", floats, run_reduce<Reduce::squares, PlainReduce::squares, Finish::root>, nullptr, reduce_workspace},
    {"reduce_sum_square", numbers, run_reduce<Reduce::squares, PlainReduce::squares>, nullptr, reduce_workspace},
    {"reduce_log_sum", floats, run_reduce<Reduce::sum, PlainReduce::sum, Finish::logarithm>, nullptr, reduce_workspace},
    {"reduce_log_sum_exp", floats, run_log_sum_exp, nullptr, log_sum_exp_workspace},
    {"squared_norm", floats, run_squared_norm, nullptr, squared_norm_workspace},
};

}  // namespace

std::span<const KernelEntry> reduction_kernels() { return kTable; }

}  // namespace trivet::kernels::cuda
