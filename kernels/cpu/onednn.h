// oneDNN as the matrix and convolution kernels use it: primitives and memory objects are made when the plan is
// compiled, all memory is the plan's, and a run only sets pointers.
#pragma once

#include <omp.h>

#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <exception>
#include <utility>
#include <vector>

#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cpu::onednn {

const dnnl::engine& engine();

// The calling thread's parallel regions use `threads` threads while this lives. A primitive divides its work when it
// is made, so it must be made and run with the same number.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

// Attributes with scratch memory from the workspace.
dnnl::primitive_attr attributes();

// float32 of these sizes; the strides count elements.
dnnl::memory::desc strided(const dnnl::memory::dims& sizes, const dnnl::memory::dims& strides);
// float32 in the layout that the primitive likes best.
dnnl::memory::desc any_layout(const dnnl::memory::dims& sizes);

// Hands out 64-byte aligned pieces of a workspace.
class WorkspaceLayout {
 public:
  std::size_t add(std::size_t bytes);  // the piece's offset
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

// A primitive with its arguments. Not for use by two threads at once.
class Launch {
 public:
  void set(dnnl::primitive primitive) { primitive_ = std::move(primitive); }
  // Adds an argument (DNNL_ARG_...) without memory; its number is what data() takes.
  std::size_t bind(int argument, const dnnl::memory::desc& desc);
  void data(std::size_t number, void* pointer);
  void run();

 private:
  dnnl::primitive primitive_;
  dnnl::stream stream_{engine()};
  std::vector<dnnl::memory> memories_;
  std::vector<void*> pointers_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

// max(y, 0) in place, and NaN stays NaN. A pass of its own because oneDNN's fused ReLU makes 0 of NaN: a network whose
// weights or data hold a NaN would then train on with a finite loss.
void relu(float* y, std::int64_t n, int threads);

// sum += term, element by element.
void add(float* sum, const float* term, std::int64_t n, int threads);

// Calls f(task, thread) for each task from 0 to n - 1, shared among the threads. What one of them throws is thrown
// here.
template <class F>
void parallel_tasks(std::int64_t n, int threads, const F& f) {
  std::exception_ptr failure;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t task = 0; task < n; ++task) {
    try {
      f(task, omp_get_thread_num());
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// All inputs and outputs are float32.
bool all_float32(const KernelSpec& spec);

}  // namespace trivet::kernels::cpu::onednn
