#include "kernels/cpu/onednn.h"

#include <algorithm>

#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu::onednn {

namespace {

// Calls f(begin, end) for pieces of [0, n), on the calling thread alone where a parallel region costs more than it
// saves.
template <class F>
void for_each_range(std::int64_t n, int threads, const F& f) {
  constexpr std::int64_t kPiece = 16 * 1024;
  if (threads <= 1 || n <= kPiece) {
    f(0, n);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t begin = 0; begin < n; begin += kPiece) f(begin, std::min(n, begin + kPiece));
}

}  // namespace

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) { set_threads(threads); }

ThreadScope::~ThreadScope() {
  if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
}

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

dnnl::memory::desc strided(const dnnl::memory::dims& sizes, const dnnl::memory::dims& strides) {
  return {sizes, dnnl::memory::data_type::f32, strides};
}

dnnl::memory::desc any_layout(const dnnl::memory::dims& sizes) {
  return {sizes, dnnl::memory::data_type::f32, dnnl::memory::format_tag::any};
}

std::size_t WorkspaceLayout::add(std::size_t bytes) {
  const std::size_t offset = size_;
  size_ += (bytes + 63) / 64 * 64;
  return offset;
}

std::size_t Launch::bind(int argument, const dnnl::memory::desc& desc) {
  memories_.push_back(dnnl::memory(desc, engine(), DNNL_MEMORY_NONE));
  pointers_.push_back(nullptr);
  arguments_.push_back({argument, memories_.back().get()});
  return memories_.size() - 1;
}

void Launch::data(std::size_t number, void* pointer) {
  if (pointers_[number] == pointer) return;
  memories_[number].set_data_handle(pointer);
  pointers_[number] = pointer;
}

// The C call takes the arguments as they are; the C++ one would build a map at each run.
void Launch::run() {
  dnnl::error::wrap_c_api(
      dnnl_primitive_execute(primitive_.get(), stream_.get(), static_cast<int>(arguments_.size()), arguments_.data()),
      "oneDNN refused to run a primitive");
}

void relu(float* y, std::int64_t n, int threads) {
  for_each_range(n, threads, [y](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = y[i] < 0.0F ? 0.0F : y[i];
  });
}

void add(float* sum, const float* term, std::int64_t n, int threads) {
  for_each_range(n, threads, [sum, term](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) sum[i] += term[i];
  });
}

bool all_float32(const KernelSpec& spec) {
  for (const TensorDesc& in : spec.in) {
    if (in.dtype != DType::f32) return false;
  }
  for (const TensorDesc& out : spec.out) {
    if (out.dtype != DType::f32) return false;
  }
  return true;
}

}  // namespace trivet::kernels::cpu::onednn
