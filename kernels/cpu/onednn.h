// oneDNN as the matrix and convolution kernels use it: primitives and memory objects are made when the plan is
// compiled, all memory is the plan's, and a run only sets pointers.
#pragma once

#include <omp.h>

#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <exception>
#include <memory>
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

// f32, bf16, i32, u8 and i8.
dnnl::memory::data_type data_type(DType type);

// A tensor of these sizes; the strides count elements.
dnnl::memory::desc strided(const dnnl::memory::dims& sizes, const dnnl::memory::dims& strides, DType type = DType::f32);
// In the layout that the primitive likes best.
dnnl::memory::desc any_layout(const dnnl::memory::dims& sizes, DType type = DType::f32);

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

// Copies a tensor into another layout or type.
class Reorder {
 public:
  void prepare(const dnnl::memory::desc& from, const dnnl::memory::desc& to, WorkspaceLayout& layout);
  void run(std::byte* workspace, void* from, void* to);

 private:
  Launch launch_;
  std::size_t from_ = 0, to_ = 0, scratch_ = 0, scratch_offset_ = 0;
};

// What the kernels of this folder prepare. A run sets pointers in memory objects that belong to the object: it is never
// run by two threads at once.
class Runnable : public Prepared {
 public:
  virtual std::size_t workspace() const = 0;
  virtual void run(const KernelArgs& args) = 0;
  virtual std::size_t packed() const { return 0; }
  virtual void pack(const KernelArgs&) {}
};

using Make = std::unique_ptr<Runnable> (*)(const KernelSpec&);

bool has_avx512();
// False where the processor has no instructions for products of bf16; oneDNN then refuses them, or is slow.
bool has_bf16();
// False where the processor adds products of 8-bit integers in 16 bits first, where they may overflow.
bool has_exact_int8();

// What `make` makes. A spec with bf16 on a processor without it becomes one in f32, and operands and results are
// converted in each run.
std::unique_ptr<Prepared> prepare(const KernelSpec& spec, Make make);

// An entry of the kernel table for f32 and bf16.
template <Make make>
constexpr KernelEntry entry(const char* op) {
  return {
      op,
      [](const KernelSpec& spec) {
        for (const TensorDesc& t : spec.in) {
          if (t.dtype != DType::f32 && t.dtype != DType::bf16) return false;
        }
        for (const TensorDesc& t : spec.out) {
          if (t.dtype != DType::f32 && t.dtype != DType::bf16) return false;
        }
        return true;
      },
      [](const KernelArgs& args) { const_cast<Runnable*>(static_cast<const Runnable*>(args.prepared))->run(args); },
      [](const KernelSpec& spec) { return prepare(spec, make); },
      [](const KernelSpec&, const Prepared* prepared) { return static_cast<const Runnable*>(prepared)->workspace(); },
      [](const KernelSpec&, const Prepared* prepared) { return static_cast<const Runnable*>(prepared)->packed(); },
      [](const KernelArgs& args) { const_cast<Runnable*>(static_cast<const Runnable*>(args.prepared))->pack(args); }};
}

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

}  // namespace trivet::kernels::cpu::onednn
