// Products of 8-bit integers through oneDNN, with sums of 32 bits that our own pass turns into results: the sums are
// exact, so results are those of the definition up to its last roundings. Scales and zero points are read in each run.
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

// What the sums' results are made of, with two numbers for each of `channels` in the workspace. Results of 8 bits are
// computed in units of the output's scale, which spares a division for each of them.
class Results {
 public:
  Results(std::int64_t channels, Activation activation, onednn::WorkspaceLayout& layout)
      : channels_(static_cast<std::size_t>(channels)),
        relu_(activation == Activation::relu),
        scale_offset_(layout.add(channels_ * sizeof(float))),
        bias_offset_(layout.add(channels_ * sizeof(float))) {}

  Int8Result prepare(const KernelArgs& args, std::byte* workspace) const {
    const View* y_scale = optional(args, kYScale);
    const float unit = y_scale ? *y_scale->as<float>() : 1.0F;
    const View& w_scale = args.in[kWScale];
    const float* w = w_scale.as<float>();
    const std::size_t step = w_scale.rank == 0 ? 0 : 1;
    const float x_scale = *args.in[kXScale].as<float>();
    auto* scale = reinterpret_cast<float*>(workspace + scale_offset_);
    for (std::size_t c = 0; c < channels_; ++c) scale[c] = x_scale * w[c * step] / unit;
    Int8Result result;
    result.scale = scale;
    result.relu = relu_;
    result.type = args.out[0].dtype;
    if (const View* bias = optional(args, kBias)) {
      auto* shift = reinterpret_cast<float*>(workspace + bias_offset_);
      for (std::size_t c = 0; c < channels_; ++c) shift[c] = bias->as<float>()[c] / unit;
      result.bias = shift;
    }
    if (y_scale) result.zero_point = integer(args.in[kYZeroPoint]);
    return result;
  }

 private:
  std::size_t channels_;
  bool relu_;
  std::size_t scale_offset_, bias_offset_;
};

// (x - zero point) w^T = x w^T - zero point * sums of w's rows. Weights that are kept are packed, with these sums
// behind them.
class LinearInt8 final : public Runnable {
 public:
  explicit LinearInt8(const KernelSpec& spec)
      : depth_(spec.in[kW].shape[1]),
        channels_(spec.in[kW].shape[0]),
        rows_(spec.in[kX].elements() / depth_),
        keeps_packed_(spec.fixed_weights),
        results_(channels_, spec.attributes<LinearAttrs>().activation, layout_) {
    const onednn::ThreadScope scope(spec.threads);
    const memory::dims sizes = {depth_, channels_};
    const memory::desc w = onednn::strided(sizes, {1, depth_}, DType::i8);
    const memory::desc a = onednn::strided({rows_, depth_}, {depth_, 1}, spec.in[kX].dtype);
    const memory::desc c = onednn::strided({rows_, channels_}, {channels_, 1}, DType::i32);
    const dnnl::matmul::desc wanted(a, keeps_packed_ ? onednn::any_layout(sizes, DType::i8) : w, c);
    const dnnl::matmul::primitive_desc desc(wanted, onednn::attributes(), onednn::engine());
    launch_.set(dnnl::matmul(desc));
    a_ = launch_.bind(DNNL_ARG_SRC, a);
    b_ = launch_.bind(DNNL_ARG_WEIGHTS, desc.weights_desc());
    c_ = launch_.bind(DNNL_ARG_DST, c);
    scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
    scratch_offset_ = layout_.add(desc.scratchpad_desc().get_size());
    sums_offset_ = layout_.add(c.get_size());
    offsets_offset_ = layout_.add(row_sum_bytes());
    if (!keeps_packed_) return;
    pack_.prepare(w, desc.weights_desc(), layout_);
    packed_.add(desc.weights_desc().get_size());
    row_sums_offset_ = packed_.add(row_sum_bytes());
  }

  std::size_t workspace() const override { return layout_.size(); }
  std::size_t packed() const override { return packed_.size(); }

  void pack(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    pack_.run(static_cast<std::byte*>(args.workspace), args.in[kW].data, args.packed);
    sum_rows(args, static_cast<std::byte*>(args.packed) + row_sums_offset_);
  }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    Int8Result result = results_.prepare(args, workspace);
    if (const std::int32_t zero_point = integer(args.in[kXZeroPoint]); zero_point != 0) {
      std::byte* const place = workspace + offsets_offset_;
      if (!keeps_packed_) sum_rows(args, place);
      const std::byte* const row_sums =
          keeps_packed_ ? static_cast<const std::byte*>(args.packed) + row_sums_offset_ : place;
      auto* offset = reinterpret_cast<std::int32_t*>(place);
      for (std::int64_t c = 0; c < channels_; ++c) {
        offset[c] = reinterpret_cast<const std::int32_t*>(row_sums)[c] * zero_point;
      }
      result.offset = offset;
    }
    launch_.data(a_, args.in[kX].data);
    launch_.data(b_, keeps_packed_ ? args.packed : args.in[kW].data);
    launch_.data(c_, workspace + sums_offset_);
    launch_.data(scratch_, workspace + scratch_offset_);
    launch_.run();
    epilogue().int8_result(result, workspace + sums_offset_, args.out[0].data, rows_, channels_, args.threads);
  }

 private:
  std::size_t row_sum_bytes() const { return static_cast<std::size_t>(channels_) * sizeof(std::int32_t); }

  void sum_rows(const KernelArgs& args, std::byte* sums) const {
    epilogue().row_sums(args.in[kW].as<std::int8_t>(), channels_, depth_, reinterpret_cast<std::int32_t*>(sums),
                        args.threads);
  }

  onednn::WorkspaceLayout layout_, packed_;
  std::int64_t depth_, channels_, rows_;
  bool keeps_packed_;
  Results results_;
  onednn::Launch launch_;
  onednn::Reorder pack_;
  std::size_t a_ = 0, b_ = 0, c_ = 0, scratch_ = 0;
  std::size_t scratch_offset_ = 0, sums_offset_ = 0, offsets_offset_ = 0, row_sums_offset_ = 0;
};

// The packed weights without the sums that a zero point needs, which stand behind them.
memory::desc without_sums_for_zero_point(memory::desc weights) {
  weights.data.extra.flags &= ~static_cast<std::uint64_t>(dnnl_memory_extra_flag_compensation_conv_asymmetric_src);
  return weights;
}

// Groups of images whose sums stay in a core's cache until they are turned into results.
class Conv2dInt8 final : public Runnable {
 public:
  explicit Conv2dInt8(const KernelSpec& spec)
      : channels_(spec.out[0].shape[3]),
        keeps_packed_(spec.fixed_weights),
        results_(channels_, spec.attributes<ConvAttrs>().activation, layout_) {
    choose_groups(spec);
    const onednn::ThreadScope scope(threads_of_group(spec.threads));
    TensorDesc x = spec.in[kX];
    TensorDesc sums = spec.out[0];
    sums.dtype = DType::i32;
    x.shape[0] = sums.shape[0] = images_;
    ConvProblem p = conv_problem(x, spec.in[kW], sums, spec.attributes<ConvAttrs>());
    x_bytes_ = x.bytes();
    pixels_ = sums.elements() / channels_;
    lanes_.resize(static_cast<std::size_t>(groups_ == 1 ? 1 : spec.threads));
    for (Lane& lane : lanes_) lane.sums_offset = layout_.add(sums.bytes());

    dnnl::primitive_attr attr = onednn::attributes();
    attr.set_zero_points(DNNL_ARG_SRC, 0, {DNNL_RUNTIME_S32_VAL});
    const auto desc = conv_forward_desc(p, memory::desc(), attr);
    pack_.prepare(p.w, desc.weights_desc(), layout_);
    packed_bytes_ = desc.weights_desc().get_size();
    if (!keeps_packed_) packed_offset_ = layout_.add(packed_bytes_);
    zero_offset_ = layout_.add(sizeof(std::int32_t));
    bind(desc, p, &Lane::moved);
    p.w_any = without_sums_for_zero_point(desc.weights_desc());
    bind(conv_forward_desc(p, memory::desc(), onednn::attributes()), p, &Lane::plain);
  }

  std::size_t workspace() const override { return layout_.size(); }
  std::size_t packed() const override { return keeps_packed_ ? packed_bytes_ : 0; }

  void pack(const KernelArgs& args) override { pack(args, args.packed); }

  void run(const KernelArgs& args) override {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const Int8Result result = results_.prepare(args, workspace);
    const std::int32_t zero_point = integer(args.in[kXZeroPoint]);
    *reinterpret_cast<std::int32_t*>(workspace + zero_offset_) = zero_point;
    void* const packed = keeps_packed_ ? args.packed : workspace + packed_offset_;
    if (!keeps_packed_) pack(args, packed);
    const onednn::ThreadScope scope(threads_of_group(args.threads));
    const auto run_on = [&](std::int64_t group, Lane& lane, int threads) {
      run_group(args, result, packed, group, lane, zero_point == 0 ? lane.plain : lane.moved, threads);
    };
    if (groups_ == 1) return run_on(0, lanes_[0], args.threads);
    onednn::parallel_tasks(groups_, args.threads, [&](std::int64_t group, int thread) {
      run_on(group, lanes_[static_cast<std::size_t>(thread)], 1);
    });
  }

 private:
  // A primitive with its arguments.
  struct Product {
    onednn::Launch launch;
    std::size_t x = 0, w = 0, y = 0, zero = 0, scratch = 0, scratch_offset = 0;
  };
  // `moved` by a zero point; `plain` where that is 0, as behind a ReLU, which is faster.
  struct Lane {
    Product moved, plain;
    std::size_t sums_offset = 0;
  };

  int threads_of_group(int threads) const { return groups_ == 1 ? threads : 1; }

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

  void bind(const dnnl::convolution_forward::primitive_desc& desc, const ConvProblem& p, Product Lane::*member) {
    const dnnl::convolution_forward primitive(desc);
    for (Lane& lane : lanes_) {
      Product& product = lane.*member;
      product.launch.set(primitive);
      product.x = product.launch.bind(DNNL_ARG_SRC, p.x);
      product.w = product.launch.bind(DNNL_ARG_WEIGHTS, desc.weights_desc());
      product.y = product.launch.bind(DNNL_ARG_DST, p.y);
      product.zero = product.launch.bind(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC,
                                         memory::desc({1}, memory::data_type::s32, memory::format_tag::x));
      product.scratch = product.launch.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
      product.scratch_offset = layout_.add(desc.scratchpad_desc().get_size());
    }
  }

  void pack(const KernelArgs& args, void* packed) {
    const onednn::ThreadScope scope(threads_of_group(args.threads));
    pack_.run(static_cast<std::byte*>(args.workspace), args.in[kW].data, packed);
  }

  void run_group(const KernelArgs& args, const Int8Result& result, void* packed, std::int64_t group, const Lane& lane,
                 Product& product, int threads) const {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const auto index = static_cast<std::size_t>(group);
    const View& out = args.out[0];
    std::byte* sums = workspace + lane.sums_offset;
    product.launch.data(product.x, args.in[kX].as<std::byte>() + index * x_bytes_);
    product.launch.data(product.w, packed);
    product.launch.data(product.y, sums);
    product.launch.data(product.zero, workspace + zero_offset_);
    product.launch.data(product.scratch, workspace + product.scratch_offset);
    product.launch.run();
    const auto size = static_cast<std::size_t>(pixels_ * channels_) * dtype_size(out.dtype);
    epilogue().int8_result(result, sums, out.as<std::byte>() + index * size, pixels_, channels_, threads);
  }

  onednn::WorkspaceLayout layout_;
  std::int64_t channels_;
  bool keeps_packed_;
  std::int64_t images_ = 1, groups_ = 1, pixels_ = 0;  // pixels of a group's result
  std::size_t x_bytes_ = 0;                            // of a group
  Results results_;
  onednn::Reorder pack_;
  std::size_t packed_bytes_ = 0, packed_offset_ = 0, zero_offset_ = 0;
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

Runnable& runnable(const KernelArgs& args) {
  return *const_cast<Runnable*>(static_cast<const Runnable*>(args.prepared));
}

void run(const KernelArgs& args) { runnable(args).run(args); }
void pack(const KernelArgs& args) { runnable(args).pack(args); }

std::size_t workspace(const KernelSpec&, const Prepared* prepared) {
  return static_cast<const Runnable*>(prepared)->workspace();
}

std::size_t packed(const KernelSpec&, const Prepared* prepared) {
  return static_cast<const Runnable*>(prepared)->packed();
}

constexpr KernelEntry kKernels[] = {
    {"conv2d_int8", supports, run, prepare_conv2d, workspace, packed, pack, kW},
    {"linear_int8", supports, run, prepare_linear, workspace, packed, pack, kW},
};

}  // namespace

std::span<const KernelEntry> int8_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
