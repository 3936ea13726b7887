// matmul and linear through oneDNN.
#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/cpu/families.h"
#include "kernels/cpu/onednn.h"
#include "trivet/kernels/attrs_matrix.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;

// Below this many rows, x w^T is faster in the product that reads w as it lies, without packing it (measured at
// 256 x 784: 48 against 16 GFLOP/s at 1 row, 102 against 70 at 8; equal at 16).
constexpr std::int64_t kUnpackedRows = 16;

// c = op(a) op(b): the last two axes of each are the matrices, the others broadcast.
struct Product {
  memory::dims a, b, c;  // sizes after op(), equal ranks
  bool transpose_a = false;
  bool transpose_b = false;
  bool bias = false;
};

class PreparedProduct final : public Prepared {
 public:
  explicit PreparedProduct(const Product& product) {
    const bool plain = product.c.size() == 2 && !product.transpose_a && product.transpose_b;
    if (plain && product.c[0] < kUnpackedRows) {
      prepare_inner_product(product);
    } else {
      prepare_matmul(product);
    }
  }

  std::size_t workspace() const { return workspace_; }

  // Sets pointers in memory objects that belong to this object: a Prepared is never run by two threads at once.
  void run(const KernelArgs& args, void* bias) const {
    const onednn::ThreadScope scope(args.threads);
    launch_.data(a_, args.in[0].data);
    launch_.data(b_, args.in[1].data);
    launch_.data(c_, args.out[0].data);
    launch_.data(scratch_, args.workspace);
    if (bias != nullptr) launch_.data(bias_, bias);
    launch_.run();
  }

 private:
  static memory::desc matrix(const memory::dims& sizes, bool transposed) {
    const std::size_t rank = sizes.size();
    memory::dims strides(rank);
    strides[rank - 1] = transposed ? sizes[rank - 2] : 1;
    strides[rank - 2] = transposed ? 1 : sizes[rank - 1];
    memory::dim step = sizes[rank - 1] * sizes[rank - 2];
    for (std::size_t i = rank - 2; i-- > 0;) {
      strides[i] = step;
      step *= sizes[i];
    }
    return onednn::strided(sizes, strides);
  }

  void prepare_matmul(const Product& p) {
    const memory::desc a = matrix(p.a, p.transpose_a);
    const memory::desc b = matrix(p.b, p.transpose_b);
    const memory::desc c = matrix(p.c, false);
    memory::dims bias_sizes(p.c.size(), 1);
    bias_sizes.back() = p.c.back();
    const memory::desc bias = p.bias ? matrix(bias_sizes, false) : memory::desc();
    const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(a, b, bias, c), onednn::attributes(), onednn::engine());
    bind(dnnl::matmul(desc), a, b, bias, c, desc.scratchpad_desc());
  }

  // The same product with the weights as (N, K).
  void prepare_inner_product(const Product& p) {
    const memory::desc a = matrix(p.a, false);
    const memory::desc b = matrix({p.b[1], p.b[0]}, false);
    const memory::desc c = matrix(p.c, false);
    const memory::desc bias = p.bias ? onednn::strided({p.c[1]}, {1}) : memory::desc();
    const dnnl::inner_product_forward::primitive_desc desc(
        dnnl::inner_product_forward::desc(dnnl::prop_kind::forward_inference, a, b, bias, c), onednn::attributes(),
        onednn::engine());
    bind(dnnl::inner_product_forward(desc), a, b, bias, c, desc.scratchpad_desc());
  }

  void bind(const dnnl::primitive& primitive, const memory::desc& a, const memory::desc& b, const memory::desc& bias,
            const memory::desc& c, const memory::desc& scratch) {
    launch_.set(primitive);
    a_ = launch_.bind(DNNL_ARG_SRC, a);
    b_ = launch_.bind(DNNL_ARG_WEIGHTS, b);
    c_ = launch_.bind(DNNL_ARG_DST, c);
    scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, scratch);
    if (bias.get_size() > 0) bias_ = launch_.bind(DNNL_ARG_BIAS, bias);
    workspace_ = scratch.get_size();
  }

  mutable onednn::Launch launch_;
  std::size_t a_ = 0;
  std::size_t b_ = 0;
  std::size_t c_ = 0;
  std::size_t bias_ = 0;
  std::size_t scratch_ = 0;
  std::size_t workspace_ = 0;
};

std::size_t workspace(const KernelSpec&, const Prepared* prepared) {
  return static_cast<const PreparedProduct*>(prepared)->workspace();
}

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

Product matmul_product(const KernelSpec& spec) {
  const auto& attrs = spec.attributes<MatmulAttrs>();
  const int rank = spec.out[0].rank;
  Product p;
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
  return p;
}

Product linear_product(const KernelSpec& spec) {
  const std::int64_t depth = spec.in[1].shape[1];
  const std::int64_t columns = spec.in[1].shape[0];
  const std::int64_t rows = spec.out[0].elements() / columns;
  Product p;
  p.a = {rows, depth};
  p.b = {depth, columns};
  p.c = {rows, columns};
  p.transpose_b = true;
  p.bias = spec.in.size() > 2 && spec.in[2].rank == 1;
  return p;
}

template <Product (*product_of)(const KernelSpec&)>
std::unique_ptr<Prepared> prepare(const KernelSpec& spec) {
  const onednn::ThreadScope scope(spec.threads);
  return std::make_unique<PreparedProduct>(product_of(spec));
}

void run_matmul(const KernelArgs& args) { static_cast<const PreparedProduct*>(args.prepared)->run(args, nullptr); }

void run_linear(const KernelArgs& args) {
  void* bias = args.in.size() > 2 ? args.in[2].data : nullptr;
  static_cast<const PreparedProduct*>(args.prepared)->run(args, bias);
  if (args.attributes<LinearAttrs>().activation == Activation::relu) {
    onednn::relu(args.out[0].as<float>(), args.out[0].elements(), args.threads);
  }
}

constexpr KernelEntry kKernels[] = {
    {"linear", onednn::all_float32, run_linear, prepare<linear_product>, workspace},
    {"matmul", onednn::all_float32, run_matmul, prepare<matmul_product>, workspace},
};

}  // namespace

std::span<const KernelEntry> matrix_kernels() { return kKernels; }

}  // namespace trivet::kernels::cpu
