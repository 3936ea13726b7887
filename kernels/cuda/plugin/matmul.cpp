#include "kernels/cuda/plugin/matmul.h"

#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/plugin/pieces.h"
#include "kernels/cuda/plugin/product.h"
#include "trivet/kernels/attrs_matrix.h"

namespace trivet::kernels::cuda {
namespace {

// linear and linear_backward_data: (x, w, bias) with w (N, K).
class LinearKernel final : public PiecewiseKernel {
 public:
  LinearKernel(const KernelSpec& spec, bool backward) {
    const TensorDesc& x = spec.in[0];
    const TensorDesc& w = spec.in[1];
    ProductShape shape;
    shape.a_type = shape.b_type = x.dtype;
    shape.c_type = spec.out[0].dtype;
    shape.depth = x.dim(-1);
    shape.rows = x.elements() / shape.depth;
    shape.columns = backward ? w.shape[1] : w.shape[0];
    shape.transpose_b = !backward;
    weights_ = Rounded::of(w, x.dtype, pieces);
    if (!backward) {
      const bool bias = spec.in.size() > 2 && spec.in[2].rank == 1;
      const bool relu = spec.attributes<LinearAttrs>().activation == Activation::relu;
      shape.epilogue = bias ? (relu ? Epilogue::relu_bias : Epilogue::bias) : relu ? Epilogue::relu : Epilogue::none;
      if (bias) bias_ = Rounded::of(spec.in[2], shape.c_type, pieces);
    }
    product_.emplace(shape);
    scratch_ = pieces.add(product_->workspace());
  }

  void run(const KernelArgs& args) const override {
    void* const w = weights_.ready(args.in[1], args);
    void* const bias = args.in.size() > 2 && args.in[2].data ? bias_.ready(args.in[2], args) : nullptr;
    product_->run(args.in[0].data, w, args.out[0].data, bias, at(args, scratch_), args.stream);
  }

 private:
  Rounded weights_, bias_;
  std::optional<Product> product_;
  std::size_t scratch_ = 0;
};

// (x (..., K), dy (..., N)) -> dw (N, K) = dy^T x, and the sums of dy's rows if they are asked for.
class WeightGradientKernel final : public PiecewiseKernel {
 public:
  explicit WeightGradientKernel(const KernelSpec& spec) {
    ProductShape shape;
    shape.a_type = shape.b_type = spec.in[0].dtype;
    shape.c_type = spec.out[0].dtype;
    shape.rows = spec.out[0].shape[0];
    shape.columns = spec.out[0].shape[1];
    shape.depth = spec.in[0].elements() / shape.columns;
    shape.transpose_a = true;
    if (spec.out.size() > 1) {
      shape.epilogue = Epilogue::bias_gradient;
      // Where the library cannot make the sums beside the product, a kernel of our own does.
      fused_ = Product::possible(shape);
      if (!fused_) {
        shape.epilogue = Epilogue::none;
        depth_ = shape.depth;
        partial_ = pieces.add(column_sums_workspace(shape.depth, shape.rows));
      }
    }
    product_.emplace(shape);
    scratch_ = pieces.add(product_->workspace());
  }

  void run(const KernelArgs& args) const override {
    const View& dy = args.in[1];
    product_->run(dy.data, args.in[0].data, args.out[0].data, fused_ ? args.out[1].data : nullptr, at(args, scratch_),
                  args.stream);
    if (depth_ > 0) column_sums(dy, depth_, args.out[1].shape[0], at(args, partial_), args.out[1], args.stream);
  }

 private:
  bool fused_ = false;
  std::int64_t depth_ = 0;  // not 0: the sums are made apart
  std::optional<Product> product_;
  std::size_t partial_ = 0, scratch_ = 0;
};

std::int64_t matrices(const TensorDesc& t) { return t.elements() / (t.dim(-1) * t.dim(-2)); }

// Whether all axes before the last two are those of `out`, so that the matrices of both go together one by one.
bool same_batch(const TensorDesc& t, const TensorDesc& out) {
  if (matrices(t) != matrices(out)) return false;
  for (int i = 3; i <= out.rank; ++i) {
    if ((i <= t.rank ? t.dim(-i) : 1) != out.dim(-i)) return false;
  }
  return true;
}

// The number of the matrix of `t` that goes with matrix `index` of `out`, by the rules of broadcasting.
std::int64_t broadcast_index(const TensorDesc& t, const TensorDesc& out, std::int64_t index) {
  std::int64_t result = 0, step = 1;
  for (int i = 3; i <= out.rank; ++i) {
    const std::int64_t here = index % out.dim(-i);
    index /= out.dim(-i);
    if (i > t.rank) continue;
    if (t.dim(-i) > 1) result += here * step;
    step *= t.dim(-i);
  }
  return result;
}

class MatmulKernel final : public PiecewiseKernel {
 public:
  explicit MatmulKernel(const KernelSpec& spec) {
    const auto& attrs = spec.attributes<MatmulAttrs>();
    const TensorDesc &a = spec.in[0], &b = spec.in[1], &c = spec.out[0];
    ProductShape shape;
    shape.a_type = a.dtype;
    shape.b_type = b.dtype;
    shape.c_type = c.dtype;
    shape.transpose_a = attrs.transpose_a;
    shape.transpose_b = attrs.transpose_b;
    shape.rows = c.dim(-2);
    shape.columns = c.dim(-1);
    shape.depth = attrs.transpose_a ? a.dim(-2) : a.dim(-1);
    const std::int64_t batch = matrices(c);
    const bool one_a = matrices(a) == 1, one_b = matrices(b) == 1;
    if (batch > 1 && one_b && !attrs.transpose_a && same_batch(a, c)) {
      shape.rows *= batch;  // the rows of all matrices of a are one tall matrix
    } else if ((one_a || same_batch(a, c)) && (one_b || same_batch(b, c))) {
      shape.batch = batch;
      shape.a_stride = one_a ? 0 : a.dim(-1) * a.dim(-2);
      shape.b_stride = one_b ? 0 : b.dim(-1) * b.dim(-2);
      shape.c_stride = shape.rows * shape.columns;
    } else {
      add_places(a, b, c);
    }
    product_.emplace(shape);
    scratch_ = pieces.add(product_->workspace());
  }

  void run(const KernelArgs& args) const override {
    for (const Places& p : places_) {
      product_->run(args.in[0].as<std::byte>() + p.a, args.in[1].as<std::byte>() + p.b,
                    args.out[0].as<std::byte>() + p.c, nullptr, at(args, scratch_), args.stream);
    }
  }

 private:
  struct Places {
    std::size_t a = 0, b = 0, c = 0;  // in bytes
  };

  // A batch whose strides are not regular is so many launches.
  void add_places(const TensorDesc& a, const TensorDesc& b, const TensorDesc& c) {
    const auto bytes = [](const TensorDesc& t) {
      return static_cast<std::size_t>(t.dim(-1) * t.dim(-2)) * dtype_size(t.dtype);
    };
    places_.clear();
    for (std::int64_t i = 0; i < matrices(c); ++i) {
      places_.push_back({static_cast<std::size_t>(broadcast_index(a, c, i)) * bytes(a),
                         static_cast<std::size_t>(broadcast_index(b, c, i)) * bytes(b),
                         static_cast<std::size_t>(i) * bytes(c)});
    }
  }

  std::vector<Places> places_ = {{}};
  std::optional<Product> product_;
  std::size_t scratch_ = 0;
};

std::unique_ptr<Prepared> make_linear(const KernelSpec& spec) { return std::make_unique<LinearKernel>(spec, false); }
std::unique_ptr<Prepared> make_backward_data(const KernelSpec& spec) {
  return std::make_unique<LinearKernel>(spec, true);
}
std::unique_ptr<Prepared> make_backward_weights(const KernelSpec& spec) {
  return std::make_unique<WeightGradientKernel>(spec);
}
std::unique_ptr<Prepared> make_matmul(const KernelSpec& spec) { return std::make_unique<MatmulKernel>(spec); }

constexpr KernelEntry kProducts[] = {
    piecewise_entry<make_linear>("linear"),
    piecewise_entry<make_backward_data>("linear_backward_data"),
    piecewise_entry<make_backward_weights>("linear_backward_weights"),
    piecewise_entry<make_matmul>("matmul"),
};

}  // namespace

const KernelEntry* find_product(std::string_view op) {
  for (const KernelEntry& entry : kProducts) {
    if (op == entry.op) return &entry;
  }
  return nullptr;
}

std::string products_version() {
  const std::size_t v = cublasLtGetVersion();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

}  // namespace trivet::kernels::cuda
