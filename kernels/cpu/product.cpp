#include "kernels/cpu/product.h"

#include <algorithm>

#include "kernels/cpu/epilogue.h"

namespace trivet::kernels::cpu {

namespace {

using dnnl::memory;

// Below this many rows, x w^T is faster in the product that reads w as it lies, without packing it (measured at
// 256 x 784: 48 against 16 GFLOP/s at 1 row, 102 against 70 at 8; equal at 16).
constexpr std::int64_t kUnpackedRows = 16;

// oneDNN's kernels for AVX-512 divide long sums among the threads when a is transposed, and those of x w^T for few rows
// of bf16, so that their bits depend on the number of threads. They leave sums of this length alone (measured: from
// 2,048 on they are divided).
constexpr memory::dim kUndividedDepth = 1024;

// The matrices of one operand: sizes after op() and the strides of its buffer.
memory::desc matrix(const memory::dims& sizes, bool transposed, DType type) {
  const std::size_t rank = sizes.size();
  memory::dims strides(rank);
  strides[rank - 1] = transposed ? sizes[rank - 2] : 1;
  strides[rank - 2] = transposed ? 1 : sizes[rank - 1];
  memory::dim step = sizes[rank - 1] * sizes[rank - 2];
  for (std::size_t i = rank - 2; i-- > 0;) {
    strides[i] = step;
    step *= sizes[i];
  }
  return onednn::strided(sizes, strides, type);
}

const dnnl_dim_t* strides(const memory::desc& desc) { return desc.data.format_desc.blocking.strides; }

std::size_t element_bytes(const memory::desc& desc) { return memory::data_type_size(desc.data_type()); }

// Bytes from one element to the one `count` further along an axis.
std::size_t step(const memory::desc& desc, std::size_t axis, memory::dim count) {
  return static_cast<std::size_t>(count * strides(desc)[axis]) * element_bytes(desc);
}

// `desc` with another size along an axis.
memory::desc part(const memory::desc& desc, std::size_t axis, memory::dim size) {
  memory::dims sizes = desc.dims();
  sizes[axis] = size;
  return {sizes, desc.data_type(), memory::dims(strides(desc), strides(desc) + sizes.size())};
}

}  // namespace

PreparedProduct::PreparedProduct(const Product& p, int threads, onednn::WorkspaceLayout& layout)
    : c_type_(p.c_type), packs_(p.fixed_b && !p.transpose_a && onednn::has_avx512()) {
  for (const memory::dim size : p.b) b_elements_ *= size;
  for (const memory::dim size : p.c) c_elements_ *= size;
  rounds_b_ = p.type != p.b_type && !packs_;
  if (rounds_b_) rounded_offset_ = layout.add(static_cast<std::size_t>(b_elements_) * dtype_size(p.type));
  const std::size_t rank = p.c.size();
  Descs whole = {
      matrix(p.a, p.transpose_a, p.type), matrix(p.b, p.transpose_b, p.type), {}, matrix(p.c, false, p.c_type)};
  if (p.bias) {
    memory::dims sizes(rank, 1);
    sizes.back() = p.c.back();
    whole.bias = matrix(sizes, false, p.bias_type);
  }
  const bool deep = p.a.back() > kUndividedDepth;
  const bool by_rows_of_w = rank == 2 && !p.transpose_a && p.transpose_b && p.c[0] < kUnpackedRows;
  if (packs_) {
    prepare_packed(whole, p, layout);
  } else if (!onednn::has_avx512()) {
    prepare_tiles(whole, threads);
  } else if (by_rows_of_w && (!deep || p.c[0] == 1 || p.type == DType::f32)) {
    prepare_inner_product(whole);
  } else if (deep && p.transpose_a && !p.bias) {
    transposes_b_ = p.transpose_b;
    prepare_parts(whole, p.type, layout);
  } else {
    add_matmul(whole, false);
  }
  scratch_offset_ = layout.add(scratch_bytes_ * (tiled_ ? pieces_.size() : 1));
}

void PreparedProduct::run(ProductData data, std::byte* workspace, int threads, std::byte* packed) {
  if (packs_) data.b = packed;
  if (rounds_b_) {
    epilogue().convert(DType::f32, data.b, DType::bf16, workspace + rounded_offset_, b_elements_, threads);
    data.b = workspace + rounded_offset_;
  }
  if (transposes_b_) {
    transpose_.run(workspace, data.b, workspace + transposed_offset_);
    data.b = workspace + transposed_offset_;
  }
  std::byte* const result = data.c;
  if (keeps_sums_) data.c = workspace + sums_offset_;
  std::byte* const scratch = workspace + scratch_offset_;
  if (tiled_) {
    const onednn::ThreadScope scope(1);
    onednn::parallel_tasks(static_cast<std::int64_t>(tiles_), threads, [&](std::int64_t tile, int thread) {
      const auto lane = static_cast<std::size_t>(thread);
      run_piece(pieces_[lane], static_cast<std::size_t>(tile), data, scratch + lane * scratch_bytes_);
    });
    if (pieces_.back().first == tiles_) run_piece(pieces_.back(), tiles_, data, scratch);
  } else {
    for (Piece& piece : pieces_) {
      for (std::size_t i = 0; i < piece.repeats; ++i) run_piece(piece, piece.first + i, data, scratch);
    }
  }
  if (keeps_sums_) epilogue().convert(DType::f32, data.c, c_type_, result, c_elements_, threads);
}

void PreparedProduct::run_piece(Piece& piece, std::size_t at, const ProductData& data, std::byte* scratch) const {
  piece.launch.data(piece.a, data.a + at * steps_.a);
  piece.launch.data(piece.b, data.b + at * steps_.b);
  piece.launch.data(piece.c, data.c + at * steps_.c);
  piece.launch.data(piece.scratch, scratch);
  if (data.bias != nullptr) piece.launch.data(piece.bias, data.bias + at * steps_.bias);
  piece.launch.run();
}

// Sums of parts of kUndividedDepth, added one after the other.
void PreparedProduct::prepare_parts(Descs whole, DType type, onednn::WorkspaceLayout& layout) {
  const auto rank = static_cast<std::size_t>(whole.c.data.ndims);
  const memory::dims sizes = whole.b.dims();
  if (transposes_b_) {  // sums of two transposed operands are divided at any length
    const memory::desc plain = matrix(sizes, false, type);
    transpose_.prepare(whole.b, plain, layout);
    transposed_offset_ = layout.add(plain.get_size());
    whole.b = plain;
  }
  keeps_sums_ = c_type_ != DType::f32;
  if (keeps_sums_) {
    whole.c = matrix(whole.c.dims(), false, DType::f32);
    sums_offset_ = layout.add(whole.c.get_size());
  }
  const memory::dim depth = sizes[rank - 2];
  const memory::dim count = depth / kUndividedDepth;
  steps_.a = step(whole.a, rank - 1, kUndividedDepth);
  steps_.b = step(whole.b, rank - 2, kUndividedDepth);
  const auto add = [&](memory::dim size, memory::dim first, memory::dim repeats) {
    if (size == 0 || repeats == 0) return;
    Descs descs = whole;
    descs.a = part(whole.a, rank - 1, size);
    descs.b = part(whole.b, rank - 2, size);
    Piece& piece = add_matmul(descs, first > 0);
    piece.first = static_cast<std::size_t>(first);
    piece.repeats = static_cast<std::size_t>(repeats);
  };
  add(kUndividedDepth, 0, 1);
  add(kUndividedDepth, 1, count - 1);
  add(depth - count * kUndividedDepth, count, 1);
}

// Without AVX-512 oneDNN's product divides sums as it likes: tiles of c that depend on its size alone, each the work of
// one thread. They are matrices of a batch, rows or columns.
void PreparedProduct::prepare_tiles(const Descs& whole, int threads) {
  constexpr memory::dim kMostTiles = 32;
  constexpr memory::dim kLeastSize = 16;  // rows or columns
  const onednn::ThreadScope scope(1);
  const memory::dims c = whole.c.dims();
  const std::size_t rank = c.size();
  const bool batch = rank > 2 && c[0] > 1;
  const std::size_t axis = batch ? 0 : c[rank - 2] >= c[rank - 1] ? rank - 2 : rank - 1;
  memory::dim size = (c[axis] + kMostTiles - 1) / kMostTiles;
  if (!batch) size = (size + kLeastSize - 1) / kLeastSize * kLeastSize;
  size = std::min(size, c[axis]);
  // Whether an operand has an axis that is cut, or serves all tiles as it is.
  const bool cuts_a = batch ? whole.a.dims()[0] > 1 : axis == rank - 2;
  const bool cuts_b = batch ? whole.b.dims()[0] > 1 : axis == rank - 1;
  const bool cuts_bias = whole.bias.get_size() > 0 && axis == rank - 1;
  const auto tile = [&](memory::dim of_size) {
    Descs descs = whole;
    if (cuts_a) descs.a = part(whole.a, axis, of_size);
    if (cuts_b) descs.b = part(whole.b, axis, of_size);
    if (cuts_bias) descs.bias = part(whole.bias, axis, of_size);
    descs.c = part(whole.c, axis, of_size);
    return descs;
  };
  tiled_ = true;
  tiles_ = static_cast<std::size_t>(c[axis] / size);
  if (cuts_a) steps_.a = step(whole.a, axis, size);
  if (cuts_b) steps_.b = step(whole.b, axis, size);
  if (cuts_bias) steps_.bias = step(whole.bias, axis, size);
  steps_.c = step(whole.c, axis, size);
  for (int lane = 0; lane < threads; ++lane) add_matmul(tile(size), false);
  if (const memory::dim rest = c[axis] % size; rest > 0) add_matmul(tile(rest), false).first = tiles_;
}

// c = a b + bias, or c += a b.
PreparedProduct::Piece& PreparedProduct::add_matmul(const Descs& descs, bool adds) {
  dnnl::primitive_attr attr = onednn::attributes();
  if (adds) {
    dnnl::post_ops sum;
    sum.append_sum();
    attr.set_post_ops(sum);
  }
  const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(descs.a, descs.b, descs.bias, descs.c), attr,
                                          onednn::engine());
  return bind(dnnl::matmul(desc), descs, desc.scratchpad_desc());
}

// b in the layout that the product likes best.
void PreparedProduct::prepare_packed(const Descs& whole, const Product& p, onednn::WorkspaceLayout& layout) {
  Descs descs = whole;
  descs.b = onednn::any_layout(whole.b.dims(), p.type);
  const dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(descs.a, descs.b, descs.bias, descs.c),
                                          onednn::attributes(), onednn::engine());
  packed_ = descs.b = desc.weights_desc();
  pack_.prepare(matrix(p.b, p.transpose_b, p.b_type), packed_, layout);
  bind(dnnl::matmul(desc), descs, desc.scratchpad_desc());
}

// The same product with the weights as (N, K).
void PreparedProduct::prepare_inner_product(const Descs& whole) {
  const memory::dims b = whole.b.dims();
  Descs descs = whole;
  descs.b = {{b[1], b[0]}, whole.b.data_type(), memory::dims{b[0], 1}};
  if (whole.bias.get_size() > 0) descs.bias = {{b[1]}, whole.bias.data_type(), memory::dims{1}};
  const dnnl::inner_product_forward::primitive_desc desc(
      dnnl::inner_product_forward::desc(dnnl::prop_kind::forward_inference, descs.a, descs.b, descs.bias, descs.c),
      onednn::attributes(), onednn::engine());
  bind(dnnl::inner_product_forward(desc), descs, desc.scratchpad_desc());
}

PreparedProduct::Piece& PreparedProduct::bind(const dnnl::primitive& primitive, const Descs& descs,
                                              const memory::desc& scratch) {
  Piece& piece = pieces_.emplace_back();
  piece.launch.set(primitive);
  piece.a = piece.launch.bind(DNNL_ARG_SRC, descs.a);
  piece.b = piece.launch.bind(DNNL_ARG_WEIGHTS, descs.b);
  piece.c = piece.launch.bind(DNNL_ARG_DST, descs.c);
  piece.scratch = piece.launch.bind(DNNL_ARG_SCRATCHPAD, scratch);
  if (descs.bias.get_size() > 0) piece.bias = piece.launch.bind(DNNL_ARG_BIAS, descs.bias);
  scratch_bytes_ = std::max(scratch_bytes_, (scratch.get_size() + 63) / 64 * 64);
  return piece;
}

}  // namespace trivet::kernels::cpu
