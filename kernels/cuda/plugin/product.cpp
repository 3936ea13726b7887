#include "kernels/cuda/plugin/product.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "kernels/cuda/plugin/cuda_check.h"
#include "kernels/cuda/plugin/pieces.h"
#include "kernels/cuda/plugin/timing.h"
#include "kernels/cuda/plugin/tuning_cache.h"

namespace trivet::kernels::cuda {
namespace {

constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;  // what the library's guide recommends for sm_90
constexpr unsigned kAlignment = 64;                            // of every buffer of a plan

void check_lt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw std::bad_alloc();
  throw std::runtime_error(std::string(call) + ": " + cublasLtGetStatusString(status));
}

// One for each device, made when first needed, never destroyed: at the end of a program CUDA may be gone before.
cublasLtHandle_t handle() {
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;
  const std::lock_guard lock(mutex);
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  cublasLtHandle_t& result = handles[device];
  if (!result) check_lt(cublasLtCreate(&result), "cublasLtCreate");
  return result;
}

cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

cublasLtEpilogue_t lt_epilogue(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::relu:
      return CUBLASLT_EPILOGUE_RELU;
    case Epilogue::relu_bias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case Epilogue::bias_gradient:
      return CUBLASLT_EPILOGUE_BGRADB;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// The words of an algorithm in hexadecimal, for the cache.
constexpr std::size_t kWords = sizeof(cublasLtMatmulAlgo_t::data) / sizeof(std::uint64_t);

std::string text_of(const cublasLtMatmulAlgo_t& algorithm) {
  std::ostringstream text;
  text << std::hex;
  for (std::size_t i = 0; i < kWords; ++i) text << (i > 0 ? " " : "") << algorithm.data[i];
  return text.str();
}

std::optional<cublasLtMatmulAlgo_t> algorithm_of(const std::string& text) {
  std::istringstream words(text);
  words >> std::hex;
  cublasLtMatmulAlgo_t algorithm{};
  for (std::size_t i = 0; i < kWords; ++i) words >> algorithm.data[i];
  if (!words) return std::nullopt;
  return algorithm;
}

}  // namespace

std::string ProductShape::key() const {
  std::string text;
  for (const std::int64_t part :
       {static_cast<std::int64_t>(a_type), static_cast<std::int64_t>(b_type), static_cast<std::int64_t>(c_type), rows,
        columns, depth, std::int64_t{transpose_a}, std::int64_t{transpose_b}, batch, a_stride, b_stride, c_stride,
        static_cast<std::int64_t>(epilogue)}) {
    if (!text.empty()) text += ',';
    text += std::to_string(part);
  }
  return text;
}

// The library is column-major: a row-major matrix is its transpose there. So c^T = op(b)^T op(a)^T is what it computes:
// its A is our b, its B is our a, and its rows are our columns.
struct Product::Descriptors {
  explicit Descriptors(const ProductShape& s) {
    check_lt(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, lt_epilogue(s.epilogue));
    if (s.epilogue != Epilogue::none && s.epilogue != Epilogue::relu) {
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(data_type(s.c_type)));
    }
    a = matrix(s.b_type, s.transpose_b ? s.depth : s.columns, s.transpose_b ? s.columns : s.depth, s.batch, s.b_stride);
    b = matrix(s.a_type, s.transpose_a ? s.rows : s.depth, s.transpose_a ? s.depth : s.rows, s.batch, s.a_stride);
    c = matrix(s.c_type, s.columns, s.rows, s.batch, s.c_stride);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    for (const cublasLtMatrixLayout_t layout : {a, b, c}) {
      if (layout) cublasLtMatrixLayoutDestroy(layout);
    }
    if (operation) cublasLtMatmulDescDestroy(operation);
  }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_lt(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value),
             "cublasLtMatmulDescSetAttribute");
  }

  // Column-major, without gaps between columns.
  static cublasLtMatrixLayout_t matrix(DType type, std::int64_t rows, std::int64_t columns, std::int64_t batch,
                                       std::int64_t stride) {
    cublasLtMatrixLayout_t layout = nullptr;
    check_lt(cublasLtMatrixLayoutCreate(&layout, data_type(type), static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), rows),
             "cublasLtMatrixLayoutCreate");
    const auto count = static_cast<std::int32_t>(batch);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    return layout;
  }

  std::vector<cublasLtMatmulHeuristicResult_t> candidates() const {
    cublasLtMatmulPreference_t preference = nullptr;
    check_lt(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace);
    // Sums of a split depth are made in a fixed order, never by whichever block comes first.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      prefer(attribute, std::uint32_t{kAlignment});
    }
    std::vector<cublasLtMatmulHeuristicResult_t> results(kCandidates);
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle(), operation, a, b, c, c, preference,
                                                                 kCandidates, results.data(), &found);
    cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_lt(status, "cublasLtMatmulAlgoGetHeuristic");
    results.resize(static_cast<std::size_t>(found));
    std::erase_if(results, [](const auto& r) { return r.state != CUBLAS_STATUS_SUCCESS; });
    return results;
  }

  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
};

Product::Product(const ProductShape& shape) : descriptors_(std::make_unique<Descriptors>(shape)) { choose(shape); }
Product::~Product() = default;

bool Product::possible(const ProductShape& shape) { return !Descriptors(shape).candidates().empty(); }

std::size_t Product::workspace() const { return workspace_ == 0 ? 0 : workspace_ + kLibraryAlignment; }

void Product::choose(const ProductShape& shape) {
  TuningCache& cache = TuningCache::of_this_device("cublaslt-" + std::to_string(cublasLtGetVersion()));
  const std::optional<std::string> kept = cache.find(shape.key());
  if (const auto known = kept ? algorithm_of(*kept) : std::nullopt) {
    cublasLtMatmulHeuristicResult_t checked{};
    const Descriptors& d = *descriptors_;
    if (cublasLtMatmulAlgoCheck(handle(), d.operation, d.a, d.b, d.c, d.c, &*known, &checked) ==
            CUBLAS_STATUS_SUCCESS &&
        checked.workspaceSize <= kMostWorkspace) {
      algorithm_ = *known;
      workspace_ = checked.workspaceSize;
      return;
    }
  }
  const std::vector<cublasLtMatmulHeuristicResult_t> candidates = descriptors_->candidates();
  if (candidates.empty()) throw std::runtime_error("cuBLASLt has no algorithm for the product " + shape.key());
  const auto take = [&](const cublasLtMatmulHeuristicResult_t& candidate) {
    algorithm_ = candidate.algo;
    workspace_ = candidate.workspaceSize;
  };
  take(candidates.front());
  const auto bytes = [&](std::int64_t elements, std::int64_t stride, DType type) {
    return static_cast<std::size_t>(stride == 0 ? elements : (shape.batch - 1) * stride + elements) * dtype_size(type);
  };
  const Scratch a(bytes(shape.rows * shape.depth, shape.a_stride, shape.a_type));
  const Scratch b(bytes(shape.depth * shape.columns, shape.b_stride, shape.b_type));
  const Scratch c(bytes(shape.rows * shape.columns, shape.c_stride, shape.c_type));
  const Scratch bias(static_cast<std::size_t>(std::max(shape.rows, shape.columns)) * sizeof(float));
  const Scratch workspace(kMostWorkspace + kLibraryAlignment);
  if (!a.data() || !b.data() || !c.data() || !bias.data() || !workspace.data()) return;
  Timer timer;
  float best = 1e30F;
  cublasLtMatmulHeuristicResult_t fastest = candidates.front();
  for (const auto& candidate : candidates) {
    take(candidate);
    try {
      const float ms =
          timer.shortest([&](cudaStream_t s) { run(a.data(), b.data(), c.data(), bias.data(), workspace.data(), s); });
      if (ms < best) {
        best = ms;
        fastest = candidate;
      }
    } catch (const std::runtime_error&) {
      // A candidate that the heuristic offers and the library then refuses.
    }
  }
  take(fastest);
  if (best < 1e30F) cache.remember(shape.key(), text_of(algorithm_));
}

void Product::run(const void* a, const void* b, void* c, void* bias, void* workspace, void* stream) const {
  const float one = 1, zero = 0;
  Descriptors& d = *descriptors_;
  workspace = aligned_workspace(workspace);
  if (bias) d.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  check_lt(cublasLtMatmul(handle(), d.operation, &one, b, d.a, a, d.b, &zero, c, d.c, c, d.c, &algorithm_, workspace,
                          workspace_, static_cast<cudaStream_t>(stream)),
           "cublasLtMatmul");
}

}  // namespace trivet::kernels::cuda
