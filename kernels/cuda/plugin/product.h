// Matrix products through cuBLASLt: descriptors, and the algorithm that is fastest on the device for their sizes.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <string>

#include "trivet/kernels/view.h"

namespace trivet::kernels::cuda {

// What is done with the sums before they are stored.
enum class Epilogue { none, bias, relu, relu_bias, bias_gradient };

// c = epilogue(op(a) op(b)), row-major: op(a) (rows, depth), op(b) (depth, columns), for each of a batch. A stride, in
// elements, of 0 means one matrix for the whole batch. Sums are f32.
struct ProductShape {
  DType a_type = DType::f32, b_type = DType::f32, c_type = DType::f32;
  std::int64_t rows = 0, columns = 0, depth = 0;
  bool transpose_a = false, transpose_b = false;
  std::int64_t batch = 1;
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  // bias: a vector of c's type, added to each row. bias_gradient: the sum of each row of op(a) is written to a vector.
  Epilogue epilogue = Epilogue::none;

  std::string key() const;  // text by which an algorithm is remembered
};

class Product {
 public:
  // Takes at least 8 of the library's candidates, as far as it has so many, and times them on the current device,
  // unless that was done before on this kind of device with this version of the library. Throws std::runtime_error if
  // the library has none.
  explicit Product(const ProductShape& shape);
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product();

  // Whether the library has an algorithm for it at all.
  static bool possible(const ProductShape& shape);

  std::size_t workspace() const;
  void run(const void* a, const void* b, void* c, void* bias, void* workspace, void* stream) const;

 private:
  struct Descriptors;
  void choose(const ProductShape& shape);

  std::unique_ptr<Descriptors> descriptors_;
  cublasLtMatmulAlgo_t algorithm_{};
  std::size_t workspace_ = 0;
};

}  // namespace trivet::kernels::cuda
