// The gradients of a convolution's weights and bias. oneDNN would share the batch among the threads and so sum in
// another order for each number of threads. Here the batch is cut into shards by its size alone, each is one thread's
// work, and the sum has one order.
#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/epilogue.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;

std::int64_t floats(const memory::desc& desc) { return static_cast<std::int64_t>(desc.get_size() / sizeof(float)); }

// The sum of `count` arrays of n floats that lie one behind the other, in their order, in the first of them.
void sum_in_order(float* arrays, std::int64_t count, std::int64_t n, int threads) {
  for (std::int64_t i = 1; i < count; ++i) epilogue().add(arrays, arrays + i * n, n, threads);
}

// Equal shards of a batch, each with gradients of its own in the layout that the primitive wants, in f32.
class GradientShards {
 public:
  GradientShards(const ConvProblem& p, const TensorDesc& y, bool bias, std::int64_t shards, int threads,
                 onednn::WorkspaceLayout& layout)
      : shards_(shards),
        x_bytes_(p.x.get_size()),
        y_bytes_(p.y.get_size()),
        y_type_(y.dtype),
        pixels_(bias ? y.elements() / y.dim(-1) : 0),
        channels_(bias ? y.dim(-1) : 0),
        launches_(static_cast<std::size_t>(threads)) {
    const dnnl::convolution_backward_weights::desc wanted(dnnl::algorithm::convolution_direct, p.x,
                                                          onednn::any_layout(p.w.dims(), DType::f32), memory::desc(),
                                                          p.y, p.strides, p.dilations, p.pads_before, p.pads_after);
    const dnnl::convolution_backward_weights::primitive_desc desc(wanted, onednn::attributes(), onednn::engine(),
                                                                  conv_forward_desc(p, memory::desc()));
    packed_floats_ = floats(desc.diff_weights_desc());
    packed_offset_ = layout.add(static_cast<std::size_t>(shards * packed_floats_) * sizeof(float));
    bias_offset_ = layout.add(static_cast<std::size_t>(shards * channels_) * sizeof(float));
    for (Shard& shard : launches_) {
      shard.launch.set(dnnl::convolution_backward_weights(desc));
      shard.x = shard.launch.bind(DNNL_ARG_SRC, p.x);
      shard.y = shard.launch.bind(DNNL_ARG_DIFF_DST, p.y);
      shard.w = shard.launch.bind(DNNL_ARG_DIFF_WEIGHTS, desc.diff_weights_desc());
      shard.scratch = shard.launch.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
      shard.scratch_offset = layout.add(desc.scratchpad_desc().get_size());
      shard.partial_offset =
          layout.add(static_cast<std::size_t>(column_sum_floats(pixels_, channels_)) * sizeof(float));
    }
    unpack_.prepare(desc.diff_weights_desc(), p.w, layout);
  }

  // The gradients of one shard, by the given thread.
  void run(std::byte* workspace, std::byte* x, std::byte* y, std::int64_t shard, int thread) {
    Shard& s = launches_[static_cast<std::size_t>(thread)];
    s.launch.data(s.x, x + static_cast<std::size_t>(shard) * x_bytes_);
    s.launch.data(s.y, y + static_cast<std::size_t>(shard) * y_bytes_);
    s.launch.data(s.w, packed(workspace) + shard * packed_floats_);
    s.launch.data(s.scratch, workspace + s.scratch_offset);
    s.launch.run();
    if (channels_ == 0) return;
    // oneDNN's own gradient of the bias takes two to three times as long.
    auto* partial = reinterpret_cast<float*>(workspace + s.partial_offset);
    epilogue().column_sums(y_type_, y + static_cast<std::size_t>(shard) * y_bytes_, pixels_, channels_, partial,
                           bias(workspace) + shard * channels_, 1);
  }

  // The sums of all shards: w's as (O, spatial axes, C / groups) of its type; the bias's in f32, where bias() says.
  void sum(std::byte* workspace, void* w, int threads) {
    sum_in_order(packed(workspace), shards_, packed_floats_, threads);
    unpack_.run(workspace, packed(workspace), w);
    sum_in_order(bias(workspace), shards_, channels_, 1);
  }

  float* bias(std::byte* workspace) const { return reinterpret_cast<float*>(workspace + bias_offset_); }

 private:
  struct Shard {
    onednn::Launch launch;
    std::size_t x = 0, y = 0, w = 0, scratch = 0, scratch_offset = 0, partial_offset = 0;
  };

  float* packed(std::byte* workspace) const { return reinterpret_cast<float*>(workspace + packed_offset_); }

  std::int64_t shards_ = 0;
  std::size_t x_bytes_ = 0, y_bytes_ = 0;  // of one shard
  DType y_type_;
  std::int64_t pixels_, channels_;  // of one shard's y; 0 if there is no bias
  std::int64_t packed_floats_ = 0;  // of one shard's gradient
  std::size_t packed_offset_ = 0, bias_offset_ = 0;
  std::vector<Shard> launches_;  // one for each thread
  onednn::Reorder unpack_;
};

class WeightGradient final : public onednn::Runnable {
 public:
  explicit WeightGradient(const KernelSpec& spec) {
    const onednn::ThreadScope scope(1);
    const TensorDesc& result = spec.out[0];
    const bool bias = spec.out.size() > 1;
    const std::int64_t images = spec.in[0].shape[0];
    const std::int64_t images_of_shard = shard_size(spec.in[1], result);
    whole_ = images / images_of_shard;
    const std::int64_t rest = images - whole_ * images_of_shard;
    TensorDesc x = spec.in[0];
    TensorDesc y = spec.in[1];
    TensorDesc w = result;
    if (rest > 0) w.dtype = DType::f32;  // two gradients are to be added
    const auto add_shards = [&](std::int64_t images_each, std::int64_t shards, int threads) {
      x.shape[0] = y.shape[0] = images_each;
      const ConvProblem p = conv_problem(x, w, y, spec.attributes<ConvBackwardWeightsAttrs>());
      return std::make_unique<GradientShards>(p, y, bias, shards, threads, layout_);
    };
    shards_ = add_shards(images_of_shard, whole_, spec.threads);
    if (rest == 0) return;
    rest_x_ = static_cast<std::size_t>(whole_) * x.bytes();
    rest_y_ = static_cast<std::size_t>(whole_) * y.bytes();
    rest_ = add_shards(rest, 1, 1);
    whole_offset_ = layout_.add(w.bytes());
    rest_offset_ = layout_.add(w.bytes());
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(1);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    auto* x = static_cast<std::byte*>(args.in[0].data);
    auto* y = static_cast<std::byte*>(args.in[1].data);
    onednn::parallel_tasks(whole_ + (rest_ ? 1 : 0), args.threads, [&](std::int64_t shard, int thread) {
      if (shard < whole_) {
        shards_->run(workspace, x, y, shard, thread);
      } else {
        rest_->run(workspace, x + rest_x_, y + rest_y_, 0, 0);
      }
    });
    const View& dw = args.out[0];
    if (rest_) {
      shards_->sum(workspace, workspace + whole_offset_, args.threads);
      rest_->sum(workspace, workspace + rest_offset_, args.threads);
      auto* sum = reinterpret_cast<float*>(workspace + whole_offset_);
      epilogue().add(sum, reinterpret_cast<float*>(workspace + rest_offset_), dw.elements(), args.threads);
      epilogue().convert(DType::f32, sum, dw.dtype, dw.data, dw.elements(), args.threads);
    } else {
      shards_->sum(workspace, dw.data, args.threads);
    }
    if (args.out.size() < 2) return;
    const View& db = args.out[1];
    float* sum = shards_->bias(workspace);
    if (rest_) epilogue().add(sum, rest_->bias(workspace), db.elements(), 1);
    epilogue().convert(DType::f32, sum, db.dtype, db.data, db.elements(), 1);
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
    const std::int64_t pixels = y.elements() / y.dim(-1);
    const double flops = 2.0 * static_cast<double>(y.elements()) * static_cast<double>(w.elements() / w.shape[0]);
    const std::int64_t limit =
        std::min({kMostShards, images, pixels / kLeastPixels, static_cast<std::int64_t>(flops / kLeastFlops),
                  std::max<std::int64_t>(kMostGradients / w.elements(), 8)});
    std::int64_t shards = 1;
    while (2 * shards <= limit) shards *= 2;
    return (images + shards - 1) / shards;
  }

  onednn::WorkspaceLayout layout_;
  std::int64_t whole_ = 0;                          // shards of equal size
  std::unique_ptr<GradientShards> shards_;          // those
  std::unique_ptr<GradientShards> rest_;            // the smaller last one, if any
  std::size_t rest_x_ = 0, rest_y_ = 0;             // where its images begin, in bytes
  std::size_t whole_offset_ = 0, rest_offset_ = 0;  // the gradients of both, if there is a rest
};

}  // namespace

std::unique_ptr<onednn::Runnable> make_conv_backward_weights(const KernelSpec& spec) {
  return std::make_unique<WeightGradient>(spec);
}

}  // namespace trivet::kernels::cpu
