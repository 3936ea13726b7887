// The one form in which every device offers its kernels: a table of KernelEntry, looked up by op name when
// a plan is compiled. It is plain enough to cross the border to a plug-in.
#pragma once

#include <memory>
#include <span>

#include "trivet/kernels/view.h"

namespace trivet::kernels {

struct KernelEntry;

// What is known when the plan is compiled. `attrs` points to the op's struct of trivet/kernels/attrs.h.
struct KernelSpec {
  std::span<const TensorDesc> in;
  std::span<const TensorDesc> out;
  const void* attrs = nullptr;
  int threads = 1;
  bool fixed_weights = false;  // in[entry.weights] has the same content in many runs: KernelEntry::pack may pay
  bool tile = false;           // of a plan for a part of a batch, which runs on one thread whatever the device has
  const KernelEntry* entry = nullptr;  // that is asked; a plug-in's entries share their functions

  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(attrs);
  }
};

// The input that most kernels of products may keep in a form of their own.
inline constexpr std::size_t kWeights = 1;

// What a kernel prepared when the plan was compiled (a oneDNN primitive, say); null for most.
struct Prepared {
  Prepared() = default;
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  virtual ~Prepared() = default;
};

// One launch. An optional input that the node does not have is a View with null data (and only there).
struct KernelArgs {
  std::span<const View> in;
  std::span<const View> out;
  void* workspace = nullptr;  // as many bytes as KernelEntry::workspace said, 64-byte aligned
  const void* attrs = nullptr;
  const Prepared* prepared = nullptr;
  int threads = 1;
  void* stream = nullptr;  // the device's own handle; the CPU has none
  void* packed = nullptr;  // as many bytes as KernelEntry::packed said, 64-byte aligned

  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(attrs);
  }
};

struct KernelEntry {
  const char* op;
  // False where this kernel cannot do these dtypes or shapes; the plan compiler then reports the node.
  bool (*supports)(const KernelSpec&);
  void (*run)(const KernelArgs&);
  // Both may be null. prepare may throw std::exception; the plan compiler adds the node to the message.
  std::unique_ptr<Prepared> (*prepare)(const KernelSpec&) = nullptr;
  std::size_t (*workspace)(const KernelSpec&, const Prepared*) = nullptr;
  // Both or neither. If packed() is not 0, pack() is called whenever the weights have changed: it reads in[weights]
  // alone and writes args.packed, which stays; run() then has no in[weights].
  std::size_t (*packed)(const KernelSpec&, const Prepared*) = nullptr;
  void (*pack)(const KernelArgs&) = nullptr;
  std::size_t weights = kWeights;
};

}  // namespace trivet::kernels
