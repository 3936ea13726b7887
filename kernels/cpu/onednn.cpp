#include "kernels/cpu/onednn.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/cpu/epilogue.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu::onednn {

namespace {

bool is_bf16(const TensorDesc& t) { return t.dtype == DType::bf16; }

bool has_bf16_operand(const KernelSpec& spec) {
  return std::any_of(spec.in.begin(), spec.in.end(), is_bf16) || std::any_of(spec.out.begin(), spec.out.end(), is_bf16);
}

// A kernel for f32 with copies of its bf16 operands and results.
class Converted final : public Runnable {
 public:
  Converted(const KernelSpec& spec, Make make) {
    const std::vector<TensorDesc> in = widened(spec.in);
    const std::vector<TensorDesc> out = widened(spec.out);
    inner_ = make(KernelSpec{in, out, spec.attrs, spec.threads});
    inner_offset_ = layout_.add(inner_->workspace());
    for (const TensorDesc& t : spec.in) in_offsets_.push_back(is_bf16(t) ? layout_.add(2 * t.bytes()) : 0);
    for (const TensorDesc& t : spec.out) out_offsets_.push_back(is_bf16(t) ? layout_.add(2 * t.bytes()) : 0);
    in_.resize(in.size());
    out_.resize(out.size());
  }

  std::size_t workspace() const override { return layout_.size(); }

  void run(const KernelArgs& args) override {
    auto* workspace = static_cast<std::byte*>(args.workspace);
    for (std::size_t i = 0; i < in_.size(); ++i) {
      in_[i] = args.in[i];
      if (args.in[i].data == nullptr || !is_bf16(args.in[i])) continue;
      use_copy(in_[i], workspace + in_offsets_[i]);
      epilogue().convert(DType::bf16, args.in[i].data, DType::f32, in_[i].data, in_[i].elements(), args.threads);
    }
    for (std::size_t i = 0; i < out_.size(); ++i) {
      out_[i] = args.out[i];
      if (is_bf16(args.out[i])) use_copy(out_[i], workspace + out_offsets_[i]);
    }
    inner_->run({in_, out_, workspace + inner_offset_, args.attrs, inner_.get(), args.threads, args.stream});
    for (std::size_t i = 0; i < out_.size(); ++i) {
      if (!is_bf16(args.out[i])) continue;
      epilogue().convert(DType::f32, out_[i].data, DType::bf16, args.out[i].data, out_[i].elements(), args.threads);
    }
  }

 private:
  static std::vector<TensorDesc> widened(std::span<const TensorDesc> tensors) {
    std::vector<TensorDesc> result(tensors.begin(), tensors.end());
    for (TensorDesc& t : result) t.dtype = DType::f32;
    return result;
  }
  static void use_copy(View& view, std::byte* data) {
    view.dtype = DType::f32;
    view.data = data;
  }

  std::unique_ptr<Runnable> inner_;
  WorkspaceLayout layout_;
  std::size_t inner_offset_ = 0;
  std::vector<std::size_t> in_offsets_, out_offsets_;
  std::vector<View> in_, out_;
};

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

dnnl::memory::data_type data_type(DType type) {
  using Type = dnnl::memory::data_type;
  switch (type) {
    case DType::f32:
      return Type::f32;
    case DType::bf16:
      return Type::bf16;
    case DType::i32:
      return Type::s32;
    case DType::u8:
      return Type::u8;
    case DType::i8:
      return Type::s8;
    default:
      throw std::invalid_argument("oneDNN has no such type");
  }
}

dnnl::memory::desc strided(const dnnl::memory::dims& sizes, const dnnl::memory::dims& strides, DType type) {
  return {sizes, data_type(type), strides};
}

dnnl::memory::desc any_layout(const dnnl::memory::dims& sizes, DType type) {
  return {sizes, data_type(type), dnnl::memory::format_tag::any};
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

void Reorder::prepare(const dnnl::memory::desc& from, const dnnl::memory::desc& to, WorkspaceLayout& layout) {
  const dnnl::reorder::primitive_desc desc(engine(), from, engine(), to, attributes());
  launch_.set(dnnl::reorder(desc));
  from_ = launch_.bind(DNNL_ARG_FROM, from);
  to_ = launch_.bind(DNNL_ARG_TO, to);
  scratch_ = launch_.bind(DNNL_ARG_SCRATCHPAD, desc.scratchpad_desc());
  scratch_offset_ = layout.add(desc.scratchpad_desc().get_size());
}

void Reorder::run(std::byte* workspace, void* from, void* to) {
  launch_.data(from_, from);
  launch_.data(to_, to);
  launch_.data(scratch_, workspace + scratch_offset_);
  launch_.run();
}

bool has_avx512() {
  static const bool wide = [] {
    const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
    return isa == dnnl::cpu_isa::avx512_core || isa == dnnl::cpu_isa::avx512_core_vnni || has_bf16();
  }();
  return wide;
}

bool has_bf16() {
  static const bool native = [] {
    const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
    return isa == dnnl::cpu_isa::avx512_core_bf16 || isa == dnnl::cpu_isa::avx512_core_amx;
  }();
  return native;
}

bool has_exact_int8() {
  static const bool exact = [] {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::avx512_core_vnni:
      case dnnl::cpu_isa::avx512_core_bf16:
      case dnnl::cpu_isa::avx512_core_amx:
      case dnnl::cpu_isa::avx2_vnni:
        return true;
      default:
        return false;
    }
  }();
  return exact;
}

std::unique_ptr<Prepared> prepare(const KernelSpec& spec, Make make) {
  if (has_bf16_operand(spec) && !has_bf16()) return std::make_unique<Converted>(spec, make);
  return make(spec);
}

}  // namespace trivet::kernels::cpu::onednn
