// Products of 8-bit integers through oneDNN, with sums of 32 bits that our own pass turns into results: the sums are
// exact, so results are those of the definition up to its last rounding. Scales and zero points are read in each run.
#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cpu/convolution.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/matrix.h"
#include "trivet/kernels/attrs_quantization.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;
using onednn::Runnable;

enum Input { kX, kXScale, kXZeroPoint, kW, kWScale, kBias, kYScale, kYZeroPoint };

std::int32_t integer(const View& view) {
  return view.dtype == DType::u8 ? *view.as<std::uint8_t>() : *view.as<std::int8_t>();
}

const View* optional(const KernelArgs& args, std::size_t input) {
  return args.in.size() > input && args.in[input].data != nullptr ? &args.in[input] : nullptr;
}

// What the sums' results are made of, with one number for each of `channels` in the workspace.
class Results {
 public:
  Results(std::int64_t channels, Activation activation, onednn::WorkspaceLayout& layout)
      : channels_(channels),
        relu_(activation == Activation::relu),
        scale_offset_(layout.add(static_cast<std::size_t>(channels) * sizeof(float))) {}

  Int8Result prepare(const KernelArgs& args, std::byte* workspace) const {
    auto* scale = reinterpret_cast<float*>(workspace + scale_offset_);
    const View& w_scale = args.in[kWScale];
    const float x_scale = *args.in[kXScale].as<float>();
    for (std::int64_t c = 0; c < channels_; ++c) scale[c] = x_scale * w_scale.as<float>()[w_scale.rank == 0 ? 0 : c];
    Int8Result result;
    result.scale = scale;
    result.relu = relu_;
    result.type = args.out[0].dtype;
    if (const View* bias = optional(args, kBias)) result.bias = bias->as<float>();
    if (const View* y_scale = optional(args, kYScale)) {
      result.y_scale = *y_scale->as<float>();
      result.zero_point = integer(args.in[kYZeroPoint]);
    }
    return result;
  }

 private:
  std::int64_t channels_;
  bool relu_;
  std::size_t scale_offset_;
};

// (x - zero point) w^T = x w^T - zero point * sums of w's rows.
class LinearInt8 final : public Runnable {
 public:
  static std::unique_ptr<Runnable> make(const KernelSpec& spec) { return std::make_unique<LinearInt8>(spec); }

  explicit LinearInt8(const KernelSpec& spec)
      : depth_(spec.in[kW].shape[1]),
        channels_(spec.in[kW].shape[0]),
        rows_(spec.in[kX].elements() / depth_),
        results_(channels_, spec.attributes<LinearAttrs>().activation, layout_) {
    const onednn::ThreadScope scope(spec.threads);
    const memory::desc a = onednn::strided({rows_, depth_}, {depth_, 1}, spec.in[kX].dtype);
    const memory::desc b = onednn::strided({depth_, channels_}, {1, depth_}, DType::i8);
    const memory::desc c = onednn::strided({rows_, channels_}, {channels_, 1}, DType::i32);
    const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(a, b, c), onednn::attributes(), onednn::engine());
    launch_.set(dnnl::matmul(desc));
    a_ = launch_.bind(DNNL_ARG_SRC, a);
    b_ = launch_.bind(DNNL_ARG_WEIGHTS, b);
    c_ = launch_.bind(DNNL_ARG_DST, c);
    scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
    scratch_offset_ = layout_.add(desc.scratchpad_desc().get_size());
    sums_offset_ = layout_.add(c.get_size());
    offsets_offset_ = layout_.add(static_cast<std::size_t>(channels_) * sizeof(std::int32_t));
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    Int8Result result = results_.prepare(args, workspace);
    if (const std::int32_t zero_point = integer(args.in[kXZeroPoint]); zero_point != 0) {
      auto* offset = reinterpret_cast<std::int32_t*>(workspace + offsets_offset_);
      epilogue().row_sums(args.in[kW].as<std::int8_t>(), channels_, depth_, offset, args.threads);
      for (std::int64_t c = 0; c < channels_; ++c) offset[c] *= zero_point;
      result.offset = offset;
    }
    launch_.data(a_, args.in[kX].data);
    launch_.data(b_, args.in[kW].data);
    launch_.data(c_, workspace + sums_offset_);
    launch_.data(scratch_, workspace + scratch_offset_);
    launch_.run();
    epilogue().int8_result(result, workspace + sums_offset_, args.out[0].data, rows_, channels_, args.threads);
  }

 private:
  onednn::WorkspaceLayout layout_;
  std::int64_t depth_, channels_, rows_;
  Results results_;
  onednn::Launch launch_;
  std::size_t a_ = 0, b_ = 0, c_ = 0, scratch_ = 0;
  std::size_t scratch_offset_ = 0, sums_offset_ = 0, offsets_offset_ = 0;
};

// Groups of images whose sums stay in a core's cache until they are turned into results.
class Conv2dInt8 final : public Runnable {
 public:
  static std::unique_ptr<Runnable> make(const KernelSpec& spec) { return std::make_unique<Conv2dInt8>(spec); }

  explicit Conv2dInt8(const KernelSpec& spec)
      : channels_(spec.out[0].shape[3]), results_(channels_, spec.attributes<ConvAttrs>().activation, layout_) {
    choose_groups(spec);
    const int lanes = groups_ == 1 ? 1 : spec.threads;
    const onednn::ThreadScope scope(groups_ == 1 ? spec.threads : 1);
    TensorDesc x = spec.in[kX];
    TensorDesc sums = spec.out[0];
    sums.dtype = DType::i32;
    x.shape[0] = sums.shape[0] = images_;
    const ConvProblem p = conv_problem(x, spec.in[kW], sums, spec.attributes<ConvAttrs>());
    dnnl::primitive_attr attr = onednn::attributes();
    attr.set_zero_points(DNNL_ARG_SRC, 0, {DNNL_RUNTIME_S32_VAL});
    const auto desc = conv_forward_desc(p, memory::desc(), attr);
    pack_.prepare(p.w, desc.weights_desc(), layout_);
    packed_offset_ = layout_.add(desc.weights_desc().get_size());
    zero_offset_ = layout_.add(sizeof(std::int32_t));
    x_bytes_ = x.bytes();
    pixels_ = sums.elements() / channels_;
    lanes_.resize(static_cast<std::size_t>(lanes));
    for (Lane& lane : lanes_) {
      lane.launch.set(dnnl::convolution_forward(desc));
      lane.x = lane.launch.bind(DNNL_ARG_SRC, p.x);
      lane.w = lane.launch.bind(DNNL_ARG_WEIGHTS, desc.weights_desc());
      lane.y = lane.launch.bind(DNNL_ARG_DST, p.y);
      lane.zero = lane.launch.bind(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC,
                                   memory::desc({1}, memory::data_type::s32, memory::format_tag::x));
      lane.scratch = lane.launch.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
      lane.scratch_offset = layout_.add(desc.scratchpad_desc().get_size());
      lane.sums_offset = layout_.add(sums.bytes());
    }
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const Int8Result result = results_.prepare(args, workspace);
    *reinterpret_cast<std::int32_t*>(workspace + zero_offset_) = integer(args.in[kXZeroPoint]);
    const onednn::ThreadScope scope(groups_ == 1 ? args.threads : 1);
    pack_.run(workspace, args.in[kW].data, workspace + packed_offset_);
    if (groups_ == 1) {
      run_group(args, result, workspace, 0, lanes_[0], args.threads);
      return;
    }
    onednn::parallel_tasks(groups_, args.threads, [&](std::int64_t group, int thread) {
      run_group(args, result, workspace, group, lanes_[static_cast<std::size_t>(thread)], 1);
    });
  }

 private:
  struct Lane {
    onednn::Launch launch;
    std::size_t x = 0, w = 0, y = 0, zero = 0, scratch = 0, scratch_offset = 0, sums_offset = 0;
  };

  // Equal groups, of as many images as divide the batch and fit; one, shared by all threads, if there are fewer than
  // threads.
  void choose_groups(const KernelSpec& spec) {
    constexpr std::int64_t kSums = 64 * 1024;
    const std::int64_t batch = spec.out[0].shape[0];
    const std::int64_t of_image = spec.out[0].elements() / batch;
    images_ = std::clamp<std::int64_t>(kSums / of_image, 1, batch);
    while (batch % images_ != 0) --images_;
    groups_ = batch / images_;
    if (groups_ < spec.threads) {
      images_ = batch;
      groups_ = 1;
    }
  }

  void run_group(const KernelArgs& args, const Int8Result& result, std::byte* workspace, std::int64_t group, Lane& lane,
                 int threads) const {
    const auto index = static_cast<std::size_t>(group);
    const View& out = args.out[0];
    std::byte* sums = workspace + lane.sums_offset;
    lane.launch.data(lane.x, args.in[kX].as<std::byte>() + index * x_bytes_);
    lane.launch.data(lane.w, workspace + packed_offset_);
    lane.launch.data(lane.y, sums);
    lane.launch.data(lane.zero, workspace + zero_offset_);
    lane.launch.data(lane.scratch, workspace + lane.scratch_offset);
    lane.launch.run();
    const auto size = static_cast<std::size_t>(pixels_ * channels_) * dtype_size(out.dtype);
    epilogue().int8_result(result, sums, out.as<std::byte>() + index * size, pixels_, channels_, threads);
  }

  onednn::WorkspaceLayout layout_;
  std::int64_t channels_;
  std::int64_t images_ = 1, groups_ = 1, pixels_ = 0;  // pixels of a group's result
  std::size_t x_bytes_ = 0;                            // of a group
  Results results_;
  onednn::Reorder pack_;
  std::size_t packed_offset_ = 0, zero_offset_ = 0;
  std::vector<Lane> lanes_;
};

// For processors that would add products in 16 bits: the same product in f32. Sums above 2^24 are rounded.
class InFloat final : public Runnable {
 public:
  InFloat(const KernelSpec& spec, onednn::Make make, Activation activation)
      : results_(spec.out[0].dim(-1), activation, layout_) {
    TensorDesc in[] = {spec.in[kX], spec.in[kW]};
    TensorDesc out = spec.out[0];
    in[0].dtype = in[1].dtype = out.dtype = DType::f32;
    product_ = make(KernelSpec{in, {&out, 1}, spec.attrs, spec.threads});
    product_offset_ = layout_.add(product_->workspace());
    x_offset_ = layout_.add(in[0].bytes());
    w_offset_ = layout_.add(in[1].bytes());
    sums_offset_ = layout_.add(out.bytes());
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    View in[] = {args.in[kX], args.in[kW]};
    View sums = args.out[0];
    in[0].data = workspace + x_offset_;
    in[1].data = workspace + w_offset_;
    sums.data = workspace + sums_offset_;
    in[0].dtype = in[1].dtype = sums.dtype = DType::f32;
    const Epilogue& passes = epilogue();
    const View& x = args.in[kX];
    passes.widen(x.dtype, x.data, integer(args.in[kXZeroPoint]), in[0].as<float>(), x.elements(), args.threads);
    passes.widen(DType::i8, args.in[kW].data, 0, in[1].as<float>(), in[1].elements(), args.threads);
    product_->run({in, {&sums, 1}, workspace + product_offset_, args.attrs, product_.get(), args.threads});
    Int8Result result = results_.prepare(args, workspace);
    result.sums_type = DType::f32;
    const std::int64_t channels = sums.dim(-1);
    passes.int8_result(result, sums.data, args.out[0].data, sums.elements() / channels, channels, args.threads);
  }

 private:
  onednn::WorkspaceLayout layout_;
  Results results_;
  std::unique_ptr<Runnable> product_;
  std::size_t product_offset_ = 0, x_offset_ = 0, w_offset_ = 0, sums_offset_ = 0;
};

std::unique_ptr<Prepared> prepare_linear(const KernelSpec& spec) {
  if (onednn::has_exact_int8()) return std::make_unique<LinearInt8>(spec);
  return std::make_unique<InFloat>(spec, make_linear_product, spec.attributes<LinearAttrs>().activation);
}

std::unique_ptr<Prepared> prepare_conv2d(const KernelSpec& spec) {
  if (onednn::has_exact_int8()) return std::make_unique<Conv2dInt8>(spec);
  return std::make_unique<InFloat>(spec, make_conv_product, spec.attributes<ConvAttrs>().activation);
}

bool supports(const KernelSpec& spec) {
  const DType x = spec.in[kX].dtype;
  const DType y = spec.out[0].dtype;
  return (x == DType::u8 || x == DType::i8) && spec.in[kW].dtype == DType::i8 &&
         (y == DType::f32 || y == DType::u8 || y == DType::i8);
}

void run(const KernelArgs& args) { const_cast<Runnable*>(static_cast<const Runnable*>(args.prepared))->run(args); }

std::size_t workspace(const KernelSpec&, const Prepared* prepared) {
  return static_cast<const Runnable*>(prepared)->workspace();
}

constexpr KernelEntry kKernels[] = {
    {"conv2d_int8", supports, run, prepare_conv2d, workspace},
    {"linear_int8", supports, run, prepare_linear, workspace},
};

}  // namespace

std::span<const KernelEntry> int8_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
