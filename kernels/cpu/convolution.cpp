// conv2d and its gradients through oneDNN: activations stay (N, H, W, C); weights are brought into the layout that the
// primitive wants in the workspace, which costs a few microseconds beside the product.
#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cpu/families.h"
#include "kernels/cpu/onednn.h"
#include "trivet/kernels/attrs_convolution.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;

// One convolution, as all three of its products see it. oneDNN names sizes in the order (N, C, H, W) and
// ([groups,] O, C, KH, KW) whatever the layout.
struct Problem {
  memory::desc x, w, y;  // as they lie in the plan's buffers
  memory::desc w_any;
  memory::dims strides, dilations, pads_before, pads_after;
  memory::dim depth = 0;     // input channels of one group
  memory::dim channels = 0;  // output channels of one group
  memory::dim taps = 0;
};

memory::desc nhwc(const TensorDesc& t) {
  const std::int64_t* s = t.shape;
  return onednn::strided({s[0], s[3], s[1], s[2]}, {s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]});
}

Problem problem_of(const TensorDesc& x, const TensorDesc& w, const TensorDesc& y, const Conv2dWindow& window) {
  Problem p;
  p.x = nhwc(x);
  p.y = nhwc(y);
  const std::int64_t rows = w.shape[1];
  const std::int64_t columns = w.shape[2];
  p.depth = w.shape[3];
  p.channels = w.shape[0] / window.groups;
  p.taps = rows * columns;
  memory::dims sizes = {p.channels, p.depth, rows, columns};
  memory::dims steps = {p.taps * p.depth, 1, columns * p.depth, p.depth};
  if (window.groups > 1) {
    sizes.insert(sizes.begin(), window.groups);
    steps.insert(steps.begin(), p.channels * p.taps * p.depth);
  }
  p.w = onednn::strided(sizes, steps);
  p.w_any = onednn::any_layout(sizes);
  p.strides = {window.strides.v[0], window.strides.v[1]};
  p.dilations = {window.dilations.v[0] - 1, window.dilations.v[1] - 1};  // oneDNN counts the skipped points
  p.pads_before = {window.pads.v[0], window.pads.v[1]};
  p.pads_after = {window.pads.v[2], window.pads.v[3]};
  return p;
}

dnnl::convolution_forward::primitive_desc forward_desc(const Problem& p, const memory::desc& bias) {
  const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
                                             p.x, p.w_any, bias, p.y, p.strides, p.dilations, p.pads_before,
                                             p.pads_after);
  dnnl::convolution_forward::primitive_desc chosen(desc, onednn::attributes(), onednn::engine());
  // The batch-reduced kernels that oneDNN prefers pay only for few output channels (measured: 108 against 77 GFLOP/s
  // at 16 -> 16, but 112 against 124 at 32 -> 64 and 63 against 80 at 1 -> 32).
  const bool batch_reduced_pays = p.taps == 1 || (p.channels <= 16 && p.depth >= 16);
  if (!batch_reduced_pays && std::string_view(chosen.impl_info_str()).starts_with("brgconv")) chosen.next_impl();
  return chosen;
}

// y = conv(x, w) or dx = conv^T(dy, w): the second input is w.
class PreparedWithWeights final : public Prepared {
 public:
  static std::unique_ptr<Prepared> forward(const KernelSpec& spec) {
    const onednn::ThreadScope scope(spec.threads);
    const Problem p = problem_of(spec.in[0], spec.in[1], spec.out[0], spec.attributes<Conv2dAttrs>());
    const bool has_bias = spec.in.size() > 2 && spec.in[2].rank == 1;
    const memory::desc bias = has_bias ? onednn::strided({spec.in[2].shape[0]}, {1}) : memory::desc();
    const auto desc = forward_desc(p, bias);
    auto prepared = std::make_unique<PreparedWithWeights>();
    prepared->launch_.set(dnnl::convolution_forward(desc));
    prepared->bind(DNNL_ARG_SRC, p.x, DNNL_ARG_DST, p.y);
    prepared->bind_weights(p.w, desc.weights_desc(), desc.scratchpad_desc());
    if (has_bias) prepared->bias_ = prepared->launch_.bind(DNNL_ARG_BIAS, bias);
    return prepared;
  }

  static std::unique_ptr<Prepared> backward_data(const KernelSpec& spec) {
    const onednn::ThreadScope scope(spec.threads);
    const Problem p = problem_of(spec.out[0], spec.in[1], spec.in[0], spec.attributes<Conv2dBackwardDataAttrs>());
    const dnnl::convolution_backward_data::desc wanted(dnnl::algorithm::convolution_direct, p.x, p.w_any, p.y,
                                                       p.strides, p.dilations, p.pads_before, p.pads_after);
    const dnnl::convolution_backward_data::primitive_desc desc(wanted, onednn::attributes(), onednn::engine(),
                                                               forward_desc(p, memory::desc()));
    auto prepared = std::make_unique<PreparedWithWeights>();
    prepared->launch_.set(dnnl::convolution_backward_data(desc));
    prepared->bind(DNNL_ARG_DIFF_DST, p.y, DNNL_ARG_DIFF_SRC, p.x);
    prepared->bind_weights(p.w, desc.weights_desc(), desc.scratchpad_desc());
    return prepared;
  }

  std::size_t workspace() const { return layout_.size(); }

  void run(const KernelArgs& args) const {
    const onednn::ThreadScope scope(args.threads);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    void* weights = args.in[1].data;
    if (packs_) {
      weights = workspace + packed_offset_;
      pack_.data(pack_from_, args.in[1].data);
      pack_.data(pack_to_, weights);
      pack_.data(pack_scratch_, workspace + pack_scratch_offset_);
      pack_.run();
    }
    launch_.data(in_, args.in[0].data);
    launch_.data(weights_, weights);
    launch_.data(out_, args.out[0].data);
    launch_.data(scratch_, workspace + scratch_offset_);
    if (args.in.size() > 2 && args.in[2].data != nullptr) launch_.data(bias_, args.in[2].data);
    launch_.run();
  }

 private:
  void bind(int in, const memory::desc& in_desc, int out, const memory::desc& out_desc) {
    in_ = launch_.bind(in, in_desc);
    out_ = launch_.bind(out, out_desc);
  }

  // Weights are packed in each run: in training they change from step to step.
  void bind_weights(const memory::desc& plain, const memory::desc& wanted, const memory::desc& scratch) {
    weights_ = launch_.bind(DNNL_ARG_WEIGHTS, wanted);
    scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, scratch);
    scratch_offset_ = layout_.add(scratch.get_size());
    packs_ = plain != wanted;
    if (!packs_) return;
    const dnnl::reorder::primitive_desc desc(onednn::engine(), plain, onednn::engine(), wanted, onednn::attributes());
    pack_.set(dnnl::reorder(desc));
    pack_from_ = pack_.bind(DNNL_ARG_FROM, plain);
    pack_to_ = pack_.bind(DNNL_ARG_TO, wanted);
    pack_scratch_ = pack_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
    pack_scratch_offset_ = layout_.add(desc.scratchpad_desc().get_size());
    packed_offset_ = layout_.add(wanted.get_size());
  }

  // Mutable: a run sets pointers in them, and a Prepared is never run by two threads at once.
  mutable onednn::Launch launch_;
  mutable onednn::Launch pack_;
  onednn::WorkspaceLayout layout_;
  std::size_t in_ = 0, weights_ = 0, bias_ = 0, out_ = 0, scratch_ = 0, scratch_offset_ = 0;
  bool packs_ = false;
  std::size_t pack_from_ = 0, pack_to_ = 0, pack_scratch_ = 0, pack_scratch_offset_ = 0, packed_offset_ = 0;
};

dnnl::convolution_backward_weights::primitive_desc weight_gradient_desc(const Problem& p) {
  const dnnl::convolution_backward_weights::desc wanted(dnnl::algorithm::convolution_direct, p.x, p.w_any, p.y,
                                                        p.strides, p.dilations, p.pads_before, p.pads_after);
  return {wanted, onednn::attributes(), onednn::engine(), forward_desc(p, memory::desc())};
}

// Equal shards of a batch, each with a weight gradient of its own in the layout that the primitive wants.
class WeightGradientShards {
 public:
  WeightGradientShards(const Problem& p, std::int64_t shards, int threads, onednn::WorkspaceLayout& layout)
      : shards_(shards), x_floats_(floats(p.x)), y_floats_(floats(p.y)), launches_(static_cast<std::size_t>(threads)) {
    const auto desc = weight_gradient_desc(p);
    packed_floats_ = floats(desc.diff_weights_desc());
    packed_offset_ = layout.add(static_cast<std::size_t>(shards * packed_floats_) * sizeof(float));
    for (Shard& shard : launches_) {
      shard.launch.set(dnnl::convolution_backward_weights(desc));
      shard.x = shard.launch.bind(DNNL_ARG_SRC, p.x);
      shard.y = shard.launch.bind(DNNL_ARG_DIFF_DST, p.y);
      shard.w = shard.launch.bind(DNNL_ARG_DIFF_WEIGHTS, desc.diff_weights_desc());
      shard.scratch = shard.launch.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
      shard.scratch_offset = layout.add(desc.scratchpad_desc().get_size());
    }
    const dnnl::reorder::primitive_desc unpack(onednn::engine(), desc.diff_weights_desc(), onednn::engine(), p.w,
                                               onednn::attributes());
    unpack_.set(dnnl::reorder(unpack));
    from_ = unpack_.bind(DNNL_ARG_FROM, desc.diff_weights_desc());
    to_ = unpack_.bind(DNNL_ARG_TO, p.w);
    unpack_scratch_ = unpack_.bind(DNNL_ARG_SCRATCHPAD, unpack.scratchpad_desc());
    unpack_offset_ = layout.add(unpack.scratchpad_desc().get_size());
  }

  // The gradient of one shard, by the given thread.
  void run(std::byte* workspace, float* x, float* y, std::int64_t shard, int thread) {
    Shard& s = launches_[static_cast<std::size_t>(thread)];
    s.launch.data(s.x, x + shard * x_floats_);
    s.launch.data(s.y, y + shard * y_floats_);
    s.launch.data(s.w, packed(workspace) + shard * packed_floats_);
    s.launch.data(s.scratch, workspace + s.scratch_offset);
    s.launch.run();
  }

  // The sum of all shards, in their order, as (O, KH, KW, C / groups).
  void sum(std::byte* workspace, float* result, int threads) {
    float* packed_sum = packed(workspace);
    const std::int64_t n = packed_floats_;
    for (std::int64_t shard = 1; shard < shards_; ++shard) onednn::add(packed_sum, packed_sum + shard * n, n, threads);
    unpack_.data(from_, packed_sum);
    unpack_.data(to_, result);
    unpack_.data(unpack_scratch_, workspace + unpack_offset_);
    unpack_.run();
  }

 private:
  struct Shard {
    onednn::Launch launch;
    std::size_t x = 0, y = 0, w = 0, scratch = 0, scratch_offset = 0;
  };

  static std::int64_t floats(const memory::desc& desc) {
    return static_cast<std::int64_t>(desc.get_size() / sizeof(float));
  }
  float* packed(std::byte* workspace) const { return reinterpret_cast<float*>(workspace + packed_offset_); }

  std::int64_t shards_ = 0;
  std::int64_t x_floats_ = 0, y_floats_ = 0, packed_floats_ = 0;  // of one shard
  std::size_t packed_offset_ = 0;
  std::vector<Shard> launches_;  // one for each thread
  onednn::Launch unpack_;
  std::size_t from_ = 0, to_ = 0, unpack_scratch_ = 0, unpack_offset_ = 0;
};

// dw from x and dy. oneDNN would share the batch among the threads and so sum in another order for each number of
// threads. Here the batch is cut into shards by its size alone, each is one thread's work, and the sum has one order.
class PreparedWeightGradient final : public Prepared {
 public:
  static std::unique_ptr<Prepared> make(const KernelSpec& spec) {
    return std::make_unique<PreparedWeightGradient>(spec);
  }

  explicit PreparedWeightGradient(const KernelSpec& spec) {
    const onednn::ThreadScope scope(1);
    const std::int64_t images = spec.in[0].shape[0];
    const std::int64_t images_of_shard = shard_size(spec.in[1], spec.out[0]);
    whole_ = images / images_of_shard;
    TensorDesc x = spec.in[0];
    TensorDesc y = spec.in[1];
    const auto add_shards = [&](std::int64_t images_each, std::int64_t shards, int threads) {
      x.shape[0] = y.shape[0] = images_each;
      const Problem p = problem_of(x, spec.out[0], y, spec.attributes<Conv2dBackwardWeightsAttrs>());
      return std::make_unique<WeightGradientShards>(p, shards, threads, layout_);
    };
    shards_ = add_shards(images_of_shard, whole_, spec.threads);
    rest_x_ = whole_ * x.elements();
    rest_y_ = whole_ * y.elements();
    if (const std::int64_t rest = images - whole_ * images_of_shard; rest > 0) {
      rest_ = add_shards(rest, 1, 1);
      rest_offset_ = layout_.add(spec.out[0].bytes());
    }
  }

  std::size_t workspace() const { return layout_.size(); }

  void run(const KernelArgs& args) const {
    const onednn::ThreadScope scope(1);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    auto* x = args.in[0].as<float>();
    auto* y = args.in[1].as<float>();
    auto* result = args.out[0].as<float>();
    onednn::parallel_tasks(whole_ + (rest_ ? 1 : 0), args.threads, [&](std::int64_t shard, int thread) {
      if (shard < whole_) {
        shards_->run(workspace, x, y, shard, thread);
      } else {
        rest_->run(workspace, x + rest_x_, y + rest_y_, 0, 0);
      }
    });
    shards_->sum(workspace, result, args.threads);
    if (rest_) {
      auto* rest_result = reinterpret_cast<float*>(workspace + rest_offset_);
      rest_->sum(workspace, rest_result, args.threads);
      onednn::add(result, rest_result, args.out[0].elements(), args.threads);
    }
  }

 private:
  // Images of one shard. More shards keep more cores busy, but each costs starting a primitive and writing and adding a
  // gradient; with these bounds that is about one part in a hundred. A power of two shares out evenly.
  static std::int64_t shard_size(const TensorDesc& y, const TensorDesc& w) {
    constexpr std::int64_t kMostShards = 64;
    constexpr std::int64_t kLeastPixels = 1024;        // of y in one shard
    constexpr double kLeastFlops = 1e7;                // of one shard
    constexpr std::int64_t kMostGradients = 16 << 20;  // elements of all shards' gradients: 64 MiB
    const std::int64_t images = y.shape[0];
    const std::int64_t pixels = y.elements() / y.shape[3];
    const double flops = 2.0 * static_cast<double>(y.elements()) * static_cast<double>(w.elements() / w.shape[0]);
    const std::int64_t limit =
        std::min({kMostShards, images, pixels / kLeastPixels, static_cast<std::int64_t>(flops / kLeastFlops),
                  std::max<std::int64_t>(kMostGradients / w.elements(), 8)});
    std::int64_t shards = 1;
    while (2 * shards <= limit) shards *= 2;
    return (images + shards - 1) / shards;
  }

  onednn::WorkspaceLayout layout_;
  std::int64_t whole_ = 0;                        // shards of equal size
  std::unique_ptr<WeightGradientShards> shards_;  // those
  std::unique_ptr<WeightGradientShards> rest_;    // the smaller last one, if any
  std::int64_t rest_x_ = 0, rest_y_ = 0;          // where its images begin
  std::size_t rest_offset_ = 0;
};

template <class P>
void run(const KernelArgs& args) {
  static_cast<const P*>(args.prepared)->run(args);
}

void run_forward(const KernelArgs& args) {
  run<PreparedWithWeights>(args);
  if (args.attributes<Conv2dAttrs>().activation == Activation::relu) {
    onednn::relu(args.out[0].as<float>(), args.out[0].elements(), args.threads);
  }
}

template <class P>
std::size_t workspace(const KernelSpec&, const Prepared* prepared) {
  return static_cast<const P*>(prepared)->workspace();
}

constexpr KernelEntry kKernels[] = {
    {"conv2d", onednn::all_float32, run_forward, PreparedWithWeights::forward, workspace<PreparedWithWeights>},
    {"conv2d_backward_data", onednn::all_float32, run<PreparedWithWeights>, PreparedWithWeights::backward_data,
     workspace<PreparedWithWeights>},
    {"conv2d_backward_weights", onednn::all_float32, run<PreparedWeightGradient>, PreparedWeightGradient::make,
     workspace<PreparedWeightGradient>},
};

}  // namespace

std::span<const KernelEntry> convolution_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
