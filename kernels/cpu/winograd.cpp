// 3 x 3 convolutions with fixed weights through Winograd's minimal filtering F(4 x 4, 3 x 3): a quarter of the
// multiplications, at the cost of transforms (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
// 2016). oneDNN has it for blocked layouts only, so activations are brought there and back, which the saved products
// pay for. Where weights change from run to run their transform costs more than is saved; and on several threads the
// order of its sums depends on their number, so it is for tiles alone.
#include <memory>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/epilogue.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;
using onednn::Runnable;

// Fewer channels do not pay for the transforms (one thread of Zen 4, direct against Winograd with its copies, GFLOP/s:
// 16 -> 16 112 against 97, 32 -> 32 119 against 180, 64 -> 64 133 against 240).
constexpr memory::dim kLeastChannels = 32;
constexpr memory::dim kBlock = 16;  // of channels

class WinogradKernel final : public Runnable {
 public:
  WinogradKernel(const ConvProblem& p, const dnnl::convolution_forward::primitive_desc& desc, Activation activation)
      : relu_(activation == Activation::relu) {
    launch_.set(dnnl::convolution_forward(desc));
    in_ = launch_.bind(DNNL_ARG_SRC, desc.src_desc());
    out_ = launch_.bind(DNNL_ARG_DST, desc.dst_desc());
    weights_ = launch_.bind(DNNL_ARG_WEIGHTS, desc.weights_desc());
    scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
    has_bias_ = desc.bias_desc().get_size() > 0;
    if (has_bias_) bias_ = launch_.bind(DNNL_ARG_BIAS, desc.bias_desc());
    to_blocks_.prepare(p.x, desc.src_desc(), layout_);
    from_blocks_.prepare(desc.dst_desc(), p.y, layout_);
    const memory::desc plain(p.w.dims(), p.w.data_type(), memory::format_tag::oihw);
    to_plain_.prepare(p.w, plain, layout_);
    plain_offset_ = layout_.add(plain.get_size());
    transform_.prepare(plain, desc.weights_desc(), layout_);
    scratch_offset_ = layout_.add(desc.scratchpad_desc().get_size());
    in_offset_ = layout_.add(desc.src_desc().get_size());
    out_offset_ = layout_.add(desc.dst_desc().get_size());
    packed_bytes_ = desc.weights_desc().get_size();
  }

  std::size_t workspace() const override { return layout_.size(); }
  std::size_t packed() const override { return packed_bytes_; }

  void pack(const KernelArgs& args) override {
    const onednn::ThreadScope scope(1);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    to_plain_.run(workspace, args.in[kWeights].data, workspace + plain_offset_);
    transform_.run(workspace, workspace + plain_offset_, args.packed);
  }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(1);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const View& out = args.out[0];
    to_blocks_.run(workspace, args.in[0].data, workspace + in_offset_);
    launch_.data(in_, workspace + in_offset_);
    launch_.data(out_, workspace + out_offset_);
    launch_.data(weights_, args.packed);
    launch_.data(scratch_, workspace + scratch_offset_);
    if (has_bias_) launch_.data(bias_, args.in[2].data);
    launch_.run();
    from_blocks_.run(workspace, workspace + out_offset_, out.data);
    if (relu_) epilogue().relu(out.dtype, out.data, out.elements(), 1);
  }

 private:
  onednn::WorkspaceLayout layout_;
  onednn::Launch launch_;
  onednn::Reorder to_blocks_, from_blocks_;
  onednn::Reorder to_plain_, transform_;  // of weights: oneDNN transforms them from (O, C, height, width) alone
  std::size_t in_ = 0, out_ = 0, weights_ = 0, bias_ = 0, scratch_ = 0;
  std::size_t in_offset_ = 0, out_offset_ = 0, plain_offset_ = 0, scratch_offset_ = 0, packed_bytes_ = 0;
  bool relu_;
  bool has_bias_ = false;
};

bool all_are(const memory::dims& values, memory::dim wanted) {
  return std::all_of(values.begin(), values.end(), [wanted](memory::dim v) { return v == wanted; });
}

}  // namespace

std::unique_ptr<Runnable> make_winograd(const KernelSpec& spec, Activation activation) {
  const auto& window = spec.attributes<ConvAttrs>();
  const TensorDesc& x = spec.in[0];
  const TensorDesc& w = spec.in[1];
  if (!spec.fixed_weights || !spec.tile || !onednn::has_avx512()) return nullptr;
  if (x.rank != 4 || window.groups != 1 || w.shape[1] != 3 || w.shape[2] != 3) return nullptr;
  for (const TensorDesc* t : {&x, &w, &spec.out[0]}) {
    if (t->dtype != DType::f32) return nullptr;
  }
  const bool has_bias = spec.in.size() > 2 && spec.in[2].rank == 1;
  if (has_bias && spec.in[2].dtype != DType::f32) return nullptr;
  const ConvProblem p = conv_problem(x, w, spec.out[0], window);
  if (!all_are(p.strides, 1) || !all_are(p.dilations, 0)) return nullptr;
  if (std::min(p.depth, p.channels) < kLeastChannels || p.depth % kBlock != 0 || p.channels % kBlock != 0) {
    return nullptr;
  }
  const onednn::ThreadScope scope(1);
  const memory::desc bias = has_bias ? onednn::strided({spec.in[2].shape[0]}, {1}) : memory::desc();
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_winograd, onednn::any_layout(p.x.dims()),
      p.w_any, bias, onednn::any_layout(p.y.dims()), p.strides, p.dilations, p.pads_before, p.pads_after);
  try {
    return std::make_unique<WinogradKernel>(
        p, dnnl::convolution_forward::primitive_desc(desc, onednn::attributes(), onednn::engine()), activation);
  } catch (const dnnl::error&) {  // sizes that it has no Winograd kernel for
    return nullptr;
  }
}

}  // namespace trivet::kernels::cpu
