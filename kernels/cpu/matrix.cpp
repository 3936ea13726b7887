// matmul, linear and its gradients through oneDNN.
#include "kernels/cpu/matrix.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/product.h"
#include "trivet/kernels/attrs_matrix.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;
using onednn::Runnable;

// out[0] = activation(in[0] in[1] + in[2]).
class ProductKernel final : public Runnable {
 public:
  ProductKernel(const Product& product, Activation activation, int threads)
      : product_(product, threads, layout_), relu_(activation == Activation::relu) {}

  std::size_t workspace() const override { return layout_.size(); }
  std::size_t packed() const override { return product_.packed_bytes(); }

  void pack(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    product_.pack(args.in[kWeights].as<std::byte>(), static_cast<std::byte*>(args.workspace),
                  static_cast<std::byte*>(args.packed));
  }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    auto* bias = args.in.size() > 2 ? args.in[2].as<std::byte>() : nullptr;
    const View& out = args.out[0];
    product_.run({args.in[0].as<std::byte>(), args.in[1].as<std::byte>(), bias, out.as<std::byte>()},
                 static_cast<std::byte*>(args.workspace), args.threads, static_cast<std::byte*>(args.packed));
    if (relu_) epilogue().relu(out.dtype, out.data, out.elements(), args.threads);
  }

 private:
  onednn::WorkspaceLayout layout_;
  PreparedProduct product_;
  bool relu_;
};

// (x, dy) -> dw = dy^T x, and the sums of dy's rows as the gradient of the bias if there is a second output.
class WeightGradientKernel final : public Runnable {
 public:
  WeightGradientKernel(const Product& product, const KernelSpec& spec) : product_(product, spec.threads, layout_) {
    if (spec.out.size() < 2) return;
    columns_ = spec.out[1].shape[0];
    rows_ = spec.in[1].elements() / columns_;
    partial_offset_ = layout_.add(sizeof(float) * static_cast<std::size_t>(column_sum_floats(rows_, columns_)));
    sums_offset_ = layout_.add(sizeof(float) * static_cast<std::size_t>(columns_));
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    const onednn::ThreadScope scope(args.threads);
    auto* workspace = static_cast<std::byte*>(args.workspace);
    const View& dy = args.in[1];
    product_.run({dy.as<std::byte>(), args.in[0].as<std::byte>(), nullptr, args.out[0].as<std::byte>()}, workspace,
                 args.threads);
    if (args.out.size() < 2) return;
    auto* partial = reinterpret_cast<float*>(workspace + partial_offset_);
    auto* sums = reinterpret_cast<float*>(workspace + sums_offset_);
    epilogue().column_sums(dy.dtype, dy.data, rows_, columns_, partial, sums, args.threads);
    epilogue().convert(DType::f32, sums, args.out[1].dtype, args.out[1].data, columns_, 1);
  }

 private:
  onednn::WorkspaceLayout layout_;
  PreparedProduct product_;
  std::int64_t rows_ = 0, columns_ = 0;
  std::size_t partial_offset_ = 0, sums_offset_ = 0;
};

// The sizes of `matrix` with `rank` axes: ones in front, and the last two as op() leaves them.
memory::dims sizes_of(const TensorDesc& matrix, int rank, bool transpose) {
  memory::dims sizes(static_cast<std::size_t>(rank - matrix.rank), 1);
  sizes.insert(sizes.end(), matrix.shape, matrix.shape + matrix.rank);
  if (transpose) std::swap(sizes[sizes.size() - 1], sizes[sizes.size() - 2]);
  return sizes;
}

// Makes one axis of all but the last two.
void merge_batches(memory::dims& sizes) {
  memory::dim batches = 1;
  for (std::size_t i = 0; i + 2 < sizes.size(); ++i) batches *= sizes[i];
  sizes = {batches, sizes[sizes.size() - 2], sizes.back()};
}

void set_types(Product& p, const TensorDesc& a, const TensorDesc& b, const TensorDesc& c) {
  p.type = a.dtype;
  p.b_type = b.dtype;
  p.c_type = c.dtype;
}

std::unique_ptr<Runnable> make_matmul(const KernelSpec& spec) {
  const onednn::ThreadScope scope(spec.threads);
  const auto& attrs = spec.attributes<MatmulAttrs>();
  const int rank = spec.out[0].rank;
  Product p;
  set_types(p, spec.in[0], spec.in[1], spec.out[0]);
  p.transpose_a = attrs.transpose_a;
  p.transpose_b = attrs.transpose_b;
  p.a = sizes_of(spec.in[0], rank, attrs.transpose_a);
  p.b = sizes_of(spec.in[1], rank, attrs.transpose_b);
  p.c = sizes_of(spec.out[0], rank, false);
  const auto same_batches = [rank](const memory::dims& x, const memory::dims& y) {
    return std::equal(x.begin(), x.begin() + (rank - 2), y.begin());
  };
  if (rank > 2 && same_batches(p.a, p.c) && same_batches(p.b, p.c)) {
    merge_batches(p.a);
    merge_batches(p.b);
    merge_batches(p.c);
  } else if (rank > 2 && same_batches(p.a, p.c) && !attrs.transpose_a &&
             spec.in[1].elements() == spec.in[1].dim(-1) * spec.in[1].dim(-2)) {
    // One matrix b for all: the rows of all matrices of a are one tall matrix.
    p.b = {p.b[p.b.size() - 2], p.b.back()};
    p.a = {spec.in[0].elements() / p.a.back(), p.a.back()};
    p.c = {p.a[0], p.c.back()};
  }
  p.fixed_b = spec.fixed_weights && p.b.size() == 2;
  return std::make_unique<ProductKernel>(p, Activation::none, spec.threads);
}

std::unique_ptr<Runnable> make_activated(const KernelSpec& spec, Activation activation) {
  const onednn::ThreadScope scope(spec.threads);
  const std::int64_t depth = spec.in[1].shape[1];
  const std::int64_t columns = spec.in[1].shape[0];
  const std::int64_t rows = spec.out[0].elements() / columns;
  Product p;
  set_types(p, spec.in[0], spec.in[1], spec.out[0]);
  p.a = {rows, depth};
  p.b = {depth, columns};
  p.c = {rows, columns};
  p.transpose_b = true;
  p.bias = spec.in.size() > 2 && spec.in[2].rank == 1;
  if (p.bias) p.bias_type = spec.in[2].dtype;
  p.fixed_b = spec.fixed_weights;
  return std::make_unique<ProductKernel>(p, activation, spec.threads);
}

std::unique_ptr<Runnable> make_linear(const KernelSpec& spec) {
  return make_activated(spec, spec.attributes<LinearAttrs>().activation);
}

// (dy, w) -> dx = dy w.
std::unique_ptr<Runnable> make_backward_data(const KernelSpec& spec) {
  const onednn::ThreadScope scope(spec.threads);
  const std::int64_t depth = spec.in[1].shape[1];
  const std::int64_t columns = spec.in[1].shape[0];
  const std::int64_t rows = spec.in[0].elements() / columns;
  Product p;
  set_types(p, spec.in[0], spec.in[1], spec.out[0]);
  p.a = {rows, columns};
  p.b = {columns, depth};
  p.c = {rows, depth};
  return std::make_unique<ProductKernel>(p, Activation::none, spec.threads);
}

std::unique_ptr<Runnable> make_backward_weights(const KernelSpec& spec) {
  const onednn::ThreadScope scope(spec.threads);
  const std::int64_t depth = spec.out[0].shape[1];
  const std::int64_t columns = spec.out[0].shape[0];
  const std::int64_t rows = spec.in[0].elements() / depth;
  Product p;
  set_types(p, spec.in[1], spec.in[0], spec.out[0]);
  p.a = {columns, rows};
  p.transpose_a = true;
  p.b = {rows, depth};
  p.c = {columns, depth};
  return std::make_unique<WeightGradientKernel>(p, spec);
}

constexpr KernelEntry kKernels[] = {
    onednn::entry<make_linear>("linear"),
    onednn::entry<make_backward_data>("linear_backward_data"),
    onednn::entry<make_backward_weights>("linear_backward_weights"),
    onednn::entry<make_matmul>("matmul"),
};

}  // namespace

std::unique_ptr<Runnable> make_linear_product(const KernelSpec& spec) { return make_activated(spec, Activation::none); }

std::span<const KernelEntry> matrix_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
