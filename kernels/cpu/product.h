// One matrix product through oneDNN, with bits that do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/onednn.h"

namespace trivet::kernels::cpu {

// c = op(a) op(b) + bias: the last two axes of each are the matrices, the others broadcast.
struct Product {
  dnnl::memory::dims a, b, c;  // sizes after op(), equal ranks
  bool transpose_a = false;
  bool transpose_b = false;
  bool bias = false;
  bool fixed_b = false;       // b may be packed once for many runs
  DType type = DType::f32;    // of a and b
  DType b_type = DType::f32;  // as b lies in its buffer: an f32 b beside a bf16 a is rounded in each run
  DType c_type = DType::f32;
  DType bias_type = DType::f32;
};

// Where the operands of a product lie.
struct ProductData {
  std::byte* a = nullptr;
  std::byte* b = nullptr;
  std::byte* bias = nullptr;
  std::byte* c = nullptr;
};

// A product with its memory objects, which a run changes: never run by two threads at once. Made and run in a
// ThreadScope of `threads`.
class PreparedProduct {
 public:
  PreparedProduct(const Product& product, int threads, onednn::WorkspaceLayout& layout);
  // `packed`: what pack() wrote, if packed_bytes() is not 0; then b is not read.
  void run(ProductData data, std::byte* workspace, int threads, std::byte* packed = nullptr);
  std::size_t packed_bytes() const { return packs_ ? packed_.get_size() : 0; }
  void pack(std::byte* b, std::byte* workspace, std::byte* packed) { pack_.run(workspace, b, packed); }

 private:
  struct Descs {
    dnnl::memory::desc a, b, bias, c;
  };
  // One primitive. In a run it does the pieces from `first` on, `repeats` of them, each a step further in the operands.
  struct Piece {
    onednn::Launch launch;
    std::size_t a = 0, b = 0, c = 0, bias = 0, scratch = 0;
    std::size_t first = 0, repeats = 1;
  };
  struct Steps {
    std::size_t a = 0, b = 0, bias = 0, c = 0;  // bytes from piece to piece
  };

  void prepare_packed(const Descs& whole, const Product& product, onednn::WorkspaceLayout& layout);
  void prepare_inner_product(const Descs& whole);
  void prepare_parts(Descs whole, DType type, onednn::WorkspaceLayout& layout);
  void prepare_tiles(const Descs& whole, int threads);
  Piece& add_matmul(const Descs& descs, bool adds);
  Piece& bind(const dnnl::primitive& primitive, const Descs& descs, const dnnl::memory::desc& scratch);
  void run_piece(Piece& piece, std::size_t at, const ProductData& data, std::byte* scratch) const;

  std::int64_t b_elements_ = 1, c_elements_ = 1;
  DType c_type_;
  bool rounds_b_ = false;
  std::size_t rounded_offset_ = 0;
  bool packs_ = false;
  dnnl::memory::desc packed_;
  onednn::Reorder pack_;
  onednn::Reorder transpose_;
  bool transposes_b_ = false;
  std::size_t transposed_offset_ = 0;
  bool keeps_sums_ = false;  // in f32 until the last part is added
  std::size_t sums_offset_ = 0;
  std::vector<Piece> pieces_;
  Steps steps_;
  std::size_t scratch_bytes_ = 0, scratch_offset_ = 0;  // of one piece
  bool tiled_ = false;     // pieces_ are one for each thread, and perhaps one for a smaller last tile
  std::size_t tiles_ = 0;  // of equal size
};

}  // namespace trivet::kernels::cpu
