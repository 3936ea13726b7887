// Convolutions and their gradients through oneDNN: activations stay (N, spatial axes, C); weights are brought into the
// layout and type that the primitive wants in the workspace, which costs a few microseconds beside the product.
#include "kernels/cpu/convolution.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/families.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;
using onednn::Runnable;

memory::desc channels_last(const TensorDesc& t) {
  const auto rank = static_cast<std::size_t>(t.rank);
  memory::dims sizes(rank), steps(rank);
  memory::dim step = 1;
  for (std::size_t i = rank; i-- > 0;) {
    const std::size_t at = i == 0 ? 0 : i == rank - 1 ? 1 : i + 1;
    sizes[at] = t.shape[i];
    steps[at] = step;
    step *= t.shape[i];
  }
  return onednn::strided(sizes, steps, t.dtype);
}

bool is_integer(DType type) { return type == DType::u8 || type == DType::i8; }

// oneDNN's convolutions by matrix products, which it uses for unusual shapes without AVX-512, divide sums among the
// threads.
template <class Desc>
bool divides_sums(const Desc& desc) {
  return !onednn::has_avx512() && std::string_view(desc.impl_info_str()).find("gemm") != std::string_view::npos;
}

TensorDesc one_image(TensorDesc t) {
  t.shape[0] = 1;
  return t;
}

// y = conv(x, w) or dx = conv^T(dy, w): the second input is w.
class KernelWithWeights final : public Runnable {
 public:
  static std::unique_ptr<Runnable> forward(const KernelSpec& spec) {
    return activated(spec, spec.attributes<ConvAttrs>().activation);
  }

  static std::unique_ptr<Runnable> activated(const KernelSpec& spec, Activation activation) {
    if (auto winograd = make_winograd(spec, activation)) return winograd;
    auto kernel = std::make_unique<KernelWithWeights>();
    kernel->relu_ = activation == Activation::relu;
    kernel->binds_bias_ = has_bias(spec);
    kernel->keeps_packed_ = spec.fixed_weights;
    const auto prepare = [&](const TensorDesc& x, const TensorDesc& y, int lanes) {
      const ConvProblem p = conv_problem(x, spec.in[1], y, spec.attributes<ConvAttrs>());
      const memory::desc bias =
          has_bias(spec) ? onednn::strided({spec.in[2].shape[0]}, {1}, spec.in[2].dtype) : memory::desc();
      const auto desc = conv_forward_desc(p, bias);
      if (lanes == 0 && divides_sums(desc)) return false;
      kernel->bind(dnnl::convolution_forward(desc), {DNNL_ARG_SRC, p.x}, {DNNL_ARG_DST, p.y}, bias, lanes,
                   desc.scratchpad_desc(), desc.weights_desc());
      kernel->bind_weights(p.w, desc.weights_desc());
      return true;
    };
    kernel->prepare_lanes(spec, prepare);
    return kernel;
  }

  static std::unique_ptr<Runnable> backward_data(const KernelSpec& spec) {
    return transposed(spec, spec.attributes<ConvBackwardDataAttrs>());
  }

  static std::unique_ptr<Runnable> transpose(const KernelSpec& spec) {
    return transposed(spec, spec.attributes<ConvTransposeAttrs>());
  }

  std::size_t workspace() const override { return layout_.size(); }
  std::size_t packed() const override { return packs_ && keeps_packed_ ? packed_bytes_ : 0; }

  void pack(const KernelArgs& args) override {
    const onednn::ThreadScope scope(images_ > 0 ? 1 : args.threads);
    pack_.run(static_cast<std::byte*>(args.workspace), args.in[kWeights].data, args.packed);
  }

  void run(const KernelArgs& args) override {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const View& out = args.out[0];
    const View* bias = args.in.size() > 2 && args.in[2].data != nullptr ? &args.in[2] : nullptr;
    std::byte* const sums = keeps_sums_ ? workspace + sums_offset_ : out.as<std::byte>();
    {
      const onednn::ThreadScope scope(images_ > 0 ? 1 : args.threads);
      std::byte* weights = args.in[1].as<std::byte>();
      if (packs_ && keeps_packed_) {
        weights = static_cast<std::byte*>(args.packed);
      } else if (packs_) {
        weights = workspace + packed_offset_;
        pack_.run(workspace, args.in[1].data, weights);
      }
      for (Lane& lane : lanes_) {
        lane.launch.data(lane.weights, weights);
        lane.launch.data(lane.scratch, workspace + lane.scratch_offset);
        if (binds_bias_) lane.launch.data(lane.bias, bias->data);
      }
      if (images_ == 0) {
        run_image(0, lanes_[0], args.in[0].as<std::byte>(), sums);
      } else {
        onednn::parallel_tasks(images_, args.threads, [&](std::int64_t image, int thread) {
          run_image(image, lanes_[static_cast<std::size_t>(thread)], args.in[0].as<std::byte>(), sums);
        });
      }
    }
    const std::int64_t channels = out.dim(-1);
    if (keeps_sums_) {
      epilogue().add_bias(reinterpret_cast<const float*>(sums), bias->dtype, bias->data, out.dtype, out.data,
                          out.elements() / channels, channels, args.threads);
    }
    if (relu_) epilogue().relu(out.dtype, out.data, out.elements(), args.threads);
  }

 private:
  struct Argument {
    int number;
    memory::desc desc;
  };
  struct Lane {
    onednn::Launch launch;
    std::size_t in = 0, weights = 0, out = 0, bias = 0, scratch = 0, scratch_offset = 0;
  };

  static bool has_bias(const KernelSpec& spec) { return spec.in.size() > 2 && spec.in[2].rank == 1; }

  static std::unique_ptr<Runnable> transposed(const KernelSpec& spec, const ConvWindow& window) {
    auto kernel = std::make_unique<KernelWithWeights>();
    kernel->keeps_sums_ = has_bias(spec);
    kernel->keeps_packed_ = spec.fixed_weights;
    const auto prepare = [&](const TensorDesc& dy, TensorDesc dx, int lanes) {
      const auto forward = conv_forward_desc(conv_problem(dx, spec.in[1], dy, window), memory::desc());
      if (kernel->keeps_sums_) dx.dtype = DType::f32;  // the bias is added before they are rounded
      const ConvProblem p = conv_problem(dx, spec.in[1], dy, window);
      const memory::desc any = onednn::any_layout(p.w.dims(), dy.dtype);
      const dnnl::convolution_backward_data::desc wanted(dnnl::algorithm::convolution_direct, p.x, any, p.y, p.strides,
                                                         p.dilations, p.pads_before, p.pads_after);
      const dnnl::convolution_backward_data::primitive_desc desc(wanted, onednn::attributes(), onednn::engine(),
                                                                 forward);
      if (lanes == 0 && divides_sums(desc)) return false;
      kernel->bind(dnnl::convolution_backward_data(desc), {DNNL_ARG_DIFF_DST, p.y}, {DNNL_ARG_DIFF_SRC, p.x},
                   memory::desc(), lanes, desc.scratchpad_desc(), desc.weights_desc());
      kernel->bind_weights(p.w, desc.weights_desc());
      return true;
    };
    kernel->prepare_lanes(spec, prepare);
    if (kernel->keeps_sums_) {
      kernel->sums_offset_ = kernel->layout_.add(static_cast<std::size_t>(spec.out[0].elements()) * sizeof(float));
    }
    return kernel;
  }

  // One primitive for all threads; or one for each thread, which takes image after image, where that one would have
  // bits that depend on their number. prepare(in, out, lanes) refuses to make it for 0 lanes.
  template <class Prepare>
  void prepare_lanes(const KernelSpec& spec, const Prepare& prepare) {
    const onednn::ThreadScope scope(spec.threads);
    if (prepare(spec.in[0], spec.out[0], 0)) return;
    const onednn::ThreadScope alone(1);
    images_ = spec.in[0].shape[0];
    prepare(one_image(spec.in[0]), one_image(spec.out[0]), spec.threads);
  }

  void bind(const dnnl::primitive& primitive, const Argument& in, const Argument& out, const memory::desc& bias,
            int lanes, const memory::desc& scratch, const memory::desc& weights) {
    lanes_.resize(static_cast<std::size_t>(std::max(lanes, 1)));
    in_bytes_ = in.desc.get_size();
    out_bytes_ = out.desc.get_size();
    for (Lane& lane : lanes_) {
      lane.launch.set(primitive);
      lane.in = lane.launch.bind(in.number, in.desc);
      lane.out = lane.launch.bind(out.number, out.desc);
      lane.weights = lane.launch.bind(DNNL_ARG_WEIGHTS, weights);
      lane.scratch = lane.launch.bind(DNNL_ARG_SCRATCHPAD, scratch);
      lane.scratch_offset = layout_.add(scratch.get_size());
      if (bias.get_size() > 0) lane.bias = lane.launch.bind(DNNL_ARG_BIAS, bias);
    }
  }

  // In training weights change from step to step, so they are packed in each run.
  void bind_weights(const memory::desc& plain, const memory::desc& wanted) {
    packs_ = plain != wanted;
    if (!packs_) return;
    pack_.prepare(plain, wanted, layout_);
    packed_bytes_ = wanted.get_size();
    if (!keeps_packed_) packed_offset_ = layout_.add(packed_bytes_);
  }

  void run_image(std::int64_t image, Lane& lane, std::byte* in, std::byte* out) const {
    lane.launch.data(lane.in, in + static_cast<std::size_t>(image) * in_bytes_);
    lane.launch.data(lane.out, out + static_cast<std::size_t>(image) * out_bytes_);
    lane.launch.run();
  }

  onednn::WorkspaceLayout layout_;
  onednn::Reorder pack_;
  std::vector<Lane> lanes_;
  std::int64_t images_ = 0;                   // 0: one primitive for all of them
  std::size_t in_bytes_ = 0, out_bytes_ = 0;  // of what one launch reads and writes
  std::size_t packed_offset_ = 0, packed_bytes_ = 0, sums_offset_ = 0;
  bool packs_ = false;
  bool keeps_packed_ = false;  // from run to run
  bool binds_bias_ = false;
  bool keeps_sums_ = false;  // in f32, for a bias that oneDNN cannot add
  bool relu_ = false;
};

constexpr KernelEntry kKernels[] = {
    onednn::entry<KernelWithWeights::forward>("conv"),
    onednn::entry<KernelWithWeights::backward_data>("conv_backward_data"),
    onednn::entry<make_conv_backward_weights>("conv_backward_weights"),
    onednn::entry<KernelWithWeights::transpose>("conv_transpose"),
    onednn::entry<KernelWithWeights::forward>("conv2d"),
    onednn::entry<KernelWithWeights::backward_data>("conv2d_backward_data"),
    onednn::entry<make_conv_backward_weights>("conv2d_backward_weights"),
};

}  // namespace

ConvProblem conv_problem(const TensorDesc& x, const TensorDesc& w, const TensorDesc& y, const ConvWindow& window) {
  ConvProblem p;
  p.x = channels_last(x);
  p.y = channels_last(y);
  const int axes = x.rank - 2;
  p.depth = w.dim(-1);
  p.channels = w.shape[0] / window.groups;
  p.taps = w.elements() / (w.shape[0] * p.depth);
  memory::dims sizes = {p.channels, p.depth};
  memory::dims steps = {p.taps * p.depth, 1};
  memory::dim step = p.taps * p.depth;
  for (int i = 0; i < axes; ++i) {
    step /= w.shape[i + 1];
    sizes.push_back(w.shape[i + 1]);
    steps.push_back(step);
    p.strides.push_back(window.stride(i));
    p.dilations.push_back(window.dilation(i) - 1);  // oneDNN counts the skipped points
    p.pads_before.push_back(window.pad_before(i));
    p.pads_after.push_back(window.pad_after(i));
  }
  if (window.groups > 1) {
    sizes.insert(sizes.begin(), window.groups);
    steps.insert(steps.begin(), p.channels * p.taps * p.depth);
  }
  p.w = onednn::strided(sizes, steps, w.dtype);
  p.w_any = onednn::any_layout(sizes, is_integer(x.dtype) ? DType::i8 : x.dtype);
  return p;
}

dnnl::convolution_forward::primitive_desc conv_forward_desc(const ConvProblem& p, const memory::desc& bias,
                                                            const dnnl::primitive_attr& attr) {
  const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct,
                                             p.x, p.w_any, bias, p.y, p.strides, p.dilations, p.pads_before,
                                             p.pads_after);
  dnnl::convolution_forward::primitive_desc chosen(desc, attr, onednn::engine());
  // The batch-reduced kernels that oneDNN prefers pay only for few output channels (measured: 108 against 77 GFLOP/s
  // at 16 -> 16, but 112 against 124 at 32 -> 64 and 63 against 80 at 1 -> 32).
  // On bf16 with an odd number of channels they multiply the next pixel's first one by 0, which spreads infinities
  // and NaN.
  const bool spreads = p.x.data_type() == memory::data_type::bf16 && p.depth % 2 != 0;
  const bool batch_reduced_pays = !spreads && (p.taps == 1 || (p.channels <= 16 && p.depth >= 16));
  if (!batch_reduced_pays && std::string_view(chosen.impl_info_str()).starts_with("brgconv")) chosen.next_impl();
  return chosen;
}

std::unique_ptr<Runnable> make_conv_product(const KernelSpec& spec) {
  return KernelWithWeights::activated(spec, Activation::none);
}

std::span<const KernelEntry> convolution_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
