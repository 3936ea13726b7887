#include "kernels/cuda/plugin/convolution.h"

#include <cuda_runtime_api.h>

#include <array>
#include <memory>
#include <span>
#include <stdexcept>

#include "kernels/cuda/families.h"
#include "kernels/cuda/plugin/cuda_check.h"
#include "kernels/cuda/plugin/pieces.h"
#include "kernels/cuda/plugin/tuned_convolution.h"

namespace trivet::kernels::cuda {
namespace {

// Runs a kernel of our own on buffers of this one.
void run_own(const char* op, std::span<const View> in, const View& out, void* stream) {
  KernelArgs args;
  args.in = in;
  args.out = {&out, 1};
  args.stream = stream;
  find(op)->run(args);
}

void copy_middle(const EvenPads& pads, const View& x, void* large, bool into, cudaStream_t stream) {
  for (const cudaMemcpy3DParms& copy : middle_copies(pads, x, x.data, large, into)) {
    check(cudaMemcpy3DAsync(&copy, stream), "cudaMemcpy3DAsync");
  }
}

// x of a convolution whose pads differ between the sides of an axis lies in the workspace with some of them.
class PaddedInput {
 public:
  PaddedInput(const EvenPads& pads, Pieces& pieces) : pads_(pads) {
    if (pads_.needed) offset_ = pieces.add(pads_.padded.bytes());
  }
  void* data(const View& x, const KernelArgs& args) const { return pads_.needed ? at(args, offset_) : x.data; }
  void fill(const View& x, const KernelArgs& args) const {
    if (!pads_.needed) return;
    const auto stream = static_cast<cudaStream_t>(args.stream);
    check(cudaMemsetAsync(at(args, offset_), 0, pads_.padded.bytes(), stream), "cudaMemsetAsync");
    copy_middle(pads_, x, at(args, offset_), true, stream);
  }
  void take_out(const View& x, const KernelArgs& args) const {
    if (!pads_.needed) return;
    copy_middle(pads_, x, at(args, offset_), false, static_cast<cudaStream_t>(args.stream));
  }

 private:
  EvenPads pads_;
  std::size_t offset_ = 0;
};

// (x, w, bias) -> y.
class Forward final : public PiecewiseKernel {
 public:
  explicit Forward(const KernelSpec& spec) : Forward(spec, forward_task(spec)) {}

  void run(const KernelArgs& args) const override {
    const View& y = args.out[0];
    x_.fill(args.in[0], args);
    void* const w = weights_.ready(args.in[1], args);
    void* const bias = has_bias_ ? bias_.ready(args.in[2], args) : nullptr;
    product_->run({x_.data(args.in[0], args), w, y.data, fused_ ? bias : nullptr}, at(args, scratch_), args.stream);
    if (has_bias_ && !fused_) {
      View b = args.in[2];
      b.dtype = y.dtype;
      b.data = bias;
      run_own("add", std::array{y, b}, y, args.stream);
    }
    if (relu_ && !fused_) run_own("relu", std::array{y}, y, args.stream);
  }

 private:
  Forward(const KernelSpec& spec, const ConvTask& task) : x_(task.x, pieces) {
    const DType type = spec.out[0].dtype;
    weights_ = Rounded::of(spec.in[1], type, pieces);
    relu_ = spec.attributes<ConvAttrs>().activation == Activation::relu;
    ConvShape shape = task.shape;
    has_bias_ = shape.bias.has_value();
    if (has_bias_) {
      bias_ = Rounded::of(spec.in[2], type, pieces);
      product_ = TunedConvolution::make(shape);
      fused_ = product_ != nullptr;
      shape.bias.reset();
      shape.relu = false;
    }
    if (!product_) product_ = TunedConvolution::require(shape);
    scratch_ = pieces.add(product_->workspace());
  }

  PaddedInput x_;
  Rounded weights_, bias_;
  bool has_bias_ = false, relu_ = false;
  bool fused_ = false;  // bias and relu are part of the product
  std::unique_ptr<TunedConvolution> product_;
  std::size_t scratch_ = 0;
};

// (dy, w) -> dx, or (x, w, bias) -> y of a transposed convolution, which is the same and adds the bias.
template <class Attrs>
class InputGradient final : public PiecewiseKernel {
 public:
  explicit InputGradient(const KernelSpec& spec)
      : InputGradient(spec, input_gradient_task(spec, spec.attributes<Attrs>())) {}

  void run(const KernelArgs& args) const override {
    const View& dx = args.out[0];
    void* const w = weights_.ready(args.in[1], args);
    product_->run({x_.data(dx, args), w, args.in[0].data, nullptr}, at(args, scratch_), args.stream);
    x_.take_out(dx, args);
    if (!has_bias_) return;
    View bias = args.in[2];
    bias.data = bias_.ready(bias, args);
    bias.dtype = dx.dtype;
    run_own("add", std::array{dx, bias}, dx, args.stream);
  }

 private:
  InputGradient(const KernelSpec& spec, const ConvTask& task) : x_(task.x, pieces) {
    const DType type = spec.out[0].dtype;
    weights_ = Rounded::of(spec.in[1], type, pieces);
    has_bias_ = spec.in.size() > 2 && spec.in[2].rank == 1;
    if (has_bias_) bias_ = Rounded::of(spec.in[2], type, pieces);
    product_ = TunedConvolution::require(task.shape);
    scratch_ = pieces.add(product_->workspace());
  }

  PaddedInput x_;
  Rounded weights_, bias_;
  bool has_bias_ = false;
  std::unique_ptr<TunedConvolution> product_;
  std::size_t scratch_ = 0;
};

// (x, dy) -> dw, and the sums of dy over all pixels if they are asked for.
class WeightGradient final : public PiecewiseKernel {
 public:
  explicit WeightGradient(const KernelSpec& spec) : WeightGradient(spec, weight_gradient_task(spec)) {}

  void run(const KernelArgs& args) const override {
    const View &dy = args.in[1], &dw = args.out[0];
    x_.fill(args.in[0], args);
    View product = dw;
    if (narrow_) {
      product.dtype = dy.dtype;
      product.data = at(args, result_);
    }
    product_->run({x_.data(args.in[0], args), product.data, dy.data, nullptr}, at(args, scratch_), args.stream);
    if (narrow_) run_own("cast", std::array{product}, dw, args.stream);
    if (args.out.size() < 2) return;
    const std::int64_t channels = dy.dim(-1);
    column_sums(dy, dy.elements() / channels, channels, at(args, partial_), args.out[1], args.stream);
  }

 private:
  WeightGradient(const KernelSpec& spec, const ConvTask& task) : x_(task.x, pieces) {
    const TensorDesc &dy = spec.in[1], &dw = spec.out[0];
    ConvShape shape = task.shape;
    product_ = TunedConvolution::make(shape);
    // Where no engine writes sums of bf16 products as f32, they are rounded to bf16 first.
    narrow_ = !product_ && dw.dtype != dy.dtype;
    if (narrow_) {
      shape.result = dy.dtype;
      result_ = pieces.add(static_cast<std::size_t>(dw.elements()) * dtype_size(dy.dtype));
    }
    if (!product_) product_ = TunedConvolution::require(shape);
    scratch_ = pieces.add(product_->workspace());
    if (spec.out.size() < 2) return;
    partial_ = pieces.add(column_sums_workspace(dy.elements() / dy.dim(-1), dy.dim(-1)));
  }

  PaddedInput x_;
  std::unique_ptr<TunedConvolution> product_;
  bool narrow_ = false;
  std::size_t result_ = 0, scratch_ = 0, partial_ = 0;
};

template <class Kernel>
std::unique_ptr<Prepared> make(const KernelSpec& spec) {
  return std::make_unique<Kernel>(spec);
}

constexpr KernelEntry kConvolutions[] = {
    piecewise_entry<make<Forward>>("conv2d"),
    piecewise_entry<make<InputGradient<ConvBackwardDataAttrs>>>("conv2d_backward_data"),
    piecewise_entry<make<WeightGradient>>("conv2d_backward_weights"),
    piecewise_entry<make<Forward>>("conv"),
    piecewise_entry<make<InputGradient<ConvBackwardDataAttrs>>>("conv_backward_data"),
    piecewise_entry<make<WeightGradient>>("conv_backward_weights"),
    piecewise_entry<make<InputGradient<ConvTransposeAttrs>>>("conv_transpose"),
};

}  // namespace

const KernelEntry* find_convolution(std::string_view op) {
  for (const KernelEntry& entry : kConvolutions) {
    if (op == entry.op) return &entry;
  }
  return nullptr;
}

std::string convolutions_version() try {
  const std::size_t v = cudnn().get_version();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
} catch (const std::runtime_error&) {
  return "";
}

}  // namespace trivet::kernels::cuda
