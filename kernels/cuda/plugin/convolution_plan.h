// One product of a convolution as an operation graph of cuDNN: the engines that may compute it, and a plan of one.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/plugin/convolution_pads.h"
#include "kernels/cuda/plugin/cudnn.h"
#include "trivet/kernels/kernel.h"

namespace trivet::kernels::cuda {

enum class ConvProduct { forward, backward_data, backward_weights };

// Sizes are in the order of our tensors: x (N, spatial axes, C), w (O, spatial axes, C / groups), y (N, spatial axes,
// O). A sequence is an image of one row, since cuDNN has two or three axes.
struct ConvShape {
  ConvProduct product = ConvProduct::forward;
  DType type = DType::f32;    // of both operands
  DType result = DType::f32;  // of what is computed
  std::vector<std::int64_t> x, w, y;
  std::vector<std::int64_t> strides, dilations, pads;  // pads on both sides of an axis, all three with axes entries
  // Of forward: y = max(0, conv(x, w) + bias), computed in f32 and rounded once. No relu without a bias.
  std::optional<DType> bias;
  bool relu = false;

  std::string key() const;   // text by which an engine is remembered
  std::string text() const;  // for people
};

// What an op asks of the library: a product of x with even pads.
struct ConvTask {
  EvenPads x;
  ConvShape shape;
};
// conv and conv2d, with the bias and, if there is one, the activation.
ConvTask forward_task(const KernelSpec& spec);
// (dy, w) -> dx; and (x, w) -> y of a transposed convolution, without its bias.
ConvTask input_gradient_task(const KernelSpec& spec, ConvWindow window);
// (x, dy) -> dw, of dw's type.
ConvTask weight_gradient_task(const KernelSpec& spec);

// The workspace that an engine may have: 256 MiB beside a copy of each tensor, which engines for another layout make.
std::size_t most_workspace(const ConvShape& shape);

// For which device engines and plans are: the one of a handle, or a described one (no GPU is needed then, and nothing
// can be run).
struct ConvTarget {
  cudnnHandle_t handle = nullptr;
  const Descriptor* described = nullptr;
};

// An engine of the library with the choices that it leaves.
struct ConvEngine {
  Descriptor config;
  std::string text;                    // by which it is remembered: ConvGraph::engine()
  std::vector<Descriptor> parts = {};  // what the config refers to
};

// Each is the tensor or its gradient, as the product has it. `bias` is null if the shape has none.
struct ConvBuffers {
  const void *x = nullptr, *w = nullptr, *y = nullptr, *bias = nullptr;
};

// A plan that can be run, by one thread at a time. Must not outlive the engine and the graph that it is of.
class ConvPlan {
 public:
  ConvPlan(Descriptor plan, std::int64_t workspace) : plan_(std::move(plan)), workspace_(workspace) {}
  std::size_t workspace() const { return static_cast<std::size_t>(workspace_); }
  void run(cudnnHandle_t handle, const ConvBuffers& buffers, void* workspace);

 private:
  Descriptor plan_;
  std::int64_t workspace_;
  // Kept while the buffers stay where they are, as those of a plan of the program do.
  std::array<const void*, 5> bound_{};
  std::optional<Descriptor> pack_;
};

class ConvGraph {
 public:
  // Throws CudnnError if the library does not accept the sizes.
  ConvGraph(const ConvShape& shape, const ConvTarget& target);

  // Up to `most` engines, what the library thinks fastest first. All give the same bits in each run, multiply f32 as
  // f32 and add in f32, and neither Winograd's algorithm nor Fourier's is among them.
  std::vector<ConvEngine> engines(std::size_t most) const;
  // One that was remembered; none if the library no longer has it, or if it may not be used.
  std::optional<ConvEngine> engine(const std::string& text) const;
  // Throws CudnnError if the engine is offered, but does not work for these sizes.
  ConvPlan plan(const ConvEngine& engine) const;

 private:
  void add_engines(cudnnBackendHeurMode_t mode, std::size_t most, std::vector<ConvEngine>& engines) const;
  bool allowed(const Descriptor& engine) const;

  ConvTarget target_;
  bool is_f32_;
  std::deque<Descriptor> parts_;  // tensors and operations, which the graph refers to
  Descriptor graph_;
};

}  // namespace trivet::kernels::cuda
