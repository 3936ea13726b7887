#include "kernels/cuda/plugin/adapter.h"

#include "trivet/kernels/plugin_layout.h"

namespace trivet::kernels::plugin {
namespace {

const KernelEntry& entry_of(const TrivetKernel* kernel) { return *reinterpret_cast<const KernelEntry*>(kernel); }

KernelSpec kernel_spec(const KernelEntry& entry, const TrivetSpec& spec) {
  return {{reinterpret_cast<const TensorDesc*>(spec.in), spec.inputs},
          {reinterpret_cast<const TensorDesc*>(spec.out), spec.outputs},
          spec.attrs,
          spec.threads,
          spec.fixed_weights != 0,
          spec.tile != 0,
          &entry};
}

}  // namespace

KernelArgs kernel_args(const TrivetPrepared* prepared, const TrivetArgs& args) {
  return {{reinterpret_cast<const View*>(args.in), args.inputs},
          {reinterpret_cast<const View*>(args.out), args.outputs},
          args.workspace,
          args.attrs,
          kernel_of(prepared).own.get(),
          args.threads,
          args.stream,
          args.packed};
}

std::size_t kernel_weights(const TrivetKernel* kernel) { return entry_of(kernel).weights; }

std::int32_t kernel_supports(const TrivetKernel* kernel, const TrivetSpec* spec) {
  TrivetMessage unused;
  bool supported = false;
  const std::int32_t status = guarded(&unused, [&] {
    const KernelEntry& entry = entry_of(kernel);
    supported = entry.supports(kernel_spec(entry, *spec));
  });
  return status == TRIVET_OK && supported ? 1 : 0;
}

std::int32_t prepare(const TrivetKernel* kernel, const TrivetSpec* spec, TrivetPrepared** prepared,
                     std::size_t* workspace, std::size_t* packed, TrivetMessage* message) {
  return guarded(message, [&] {
    const KernelEntry& entry = entry_of(kernel);
    const KernelSpec own = kernel_spec(entry, *spec);
    auto result = std::make_unique<PreparedKernel>();
    result->entry = &entry;
    if (entry.prepare) result->own = entry.prepare(own);
    *workspace = entry.workspace ? entry.workspace(own, result->own.get()) : 0;
    *packed = own.fixed_weights && entry.packed ? entry.packed(own, result->own.get()) : 0;
    *prepared = reinterpret_cast<TrivetPrepared*>(result.release());
  });
}

void release_prepared(TrivetPrepared* prepared) { delete reinterpret_cast<PreparedKernel*>(prepared); }

std::int32_t run(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message) {
  return guarded(message, [&] { kernel_of(prepared).entry->run(kernel_args(prepared, *args)); });
}

std::int32_t pack(const TrivetPrepared* prepared, const TrivetArgs* args, TrivetMessage* message) {
  return guarded(message, [&] { kernel_of(prepared).entry->pack(kernel_args(prepared, *args)); });
}

}  // namespace trivet::kernels::plugin
