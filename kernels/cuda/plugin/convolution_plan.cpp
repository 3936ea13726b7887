#include "kernels/cuda/plugin/convolution_plan.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

namespace trivet::kernels::cuda {
namespace {

using Sizes = std::vector<std::int64_t>;

// Of the tensors of a graph.
enum Uid : std::int64_t { kX = 1, kW, kY, kBias, kSums, kBiased };

constexpr std::int64_t kAlignment = 64;  // of every buffer of a plan
constexpr std::size_t kMostOffered = 64;
constexpr std::size_t kMostKnobs = CUDNN_KNOB_TYPE_COUNTS;

cudnnDataType_t data_type(DType type) {
  if (type == DType::bf16) return CUDNN_DATA_BFLOAT16;
  return type == DType::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

// Dense, channels last, in the library's order: (N, C, spatial axes).
Descriptor tensor(std::int64_t uid, const Sizes& ours, DType type, bool is_virtual = false) {
  const std::size_t rank = ours.size();
  Sizes sizes(rank), steps(rank);
  std::int64_t step = 1;
  for (std::size_t i = rank; i-- > 0;) {
    const std::size_t at = i == 0 ? 0 : i == rank - 1 ? 1 : i + 1;
    sizes[at] = ours[i];
    steps[at] = step;
    step *= ours[i];
  }
  Descriptor result(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  result.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
  result.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, data_type(type));
  result.set(CUDNN_ATTR_TENSOR_DIMENSIONS, sizes);
  result.set(CUDNN_ATTR_TENSOR_STRIDES, steps);
  result.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment);
  result.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual);
  result.finalize("cuDNN does not accept a tensor of the convolution");
  return result;
}

Descriptor window(const ConvShape& shape) {
  Descriptor result(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  result.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  result.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  result.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, static_cast<std::int64_t>(shape.strides.size()));
  result.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, shape.strides);
  result.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, shape.dilations);
  result.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, shape.pads);
  result.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, shape.pads);
  result.finalize("cuDNN does not accept the window of the convolution");
  return result;
}

// The names of an operation's attributes.
struct OperationNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t window, x, w, y, alpha, beta;
};

OperationNames names(ConvProduct product) {
  switch (product) {
    case ConvProduct::backward_data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case ConvProduct::backward_weights:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    case ConvProduct::forward:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
}

Descriptor convolution(const ConvShape& shape, const Descriptor& moves, const Descriptor& x, const Descriptor& w,
                       const Descriptor& y) {
  const OperationNames n = names(shape.product);
  Descriptor result(n.type);
  result.set(n.window, moves);
  result.set(n.x, x);
  result.set(n.w, w);
  result.set(n.y, y);
  result.set(n.alpha, CUDNN_TYPE_FLOAT, 1.0F);
  result.set(n.beta, CUDNN_TYPE_FLOAT, 0.0F);
  result.finalize("cuDNN does not accept the convolution");
  return result;
}

Descriptor pointwise_kind(cudnnPointwiseMode_t mode) {
  Descriptor result(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  result.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  result.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (mode == CUDNN_POINTWISE_RELU_FWD) {
    result.set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, CUDNN_PROPAGATE_NAN);
  }
  result.finalize("cuDNN does not accept an operation beside the convolution");
  return result;
}

// y = x + b, or the function of x alone if b is null.
Descriptor pointwise(const Descriptor& kind, const Descriptor& x, const Descriptor* b, const Descriptor& y) {
  Descriptor result(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  result.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
  result.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b) result.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  result.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
  result.finalize("cuDNN does not accept an operation beside the convolution");
  return result;
}

void append(std::string& text, std::int64_t number) {
  if (!text.empty()) text += ',';
  text += std::to_string(number);
}

// "17:2=3,14=5": the engine's number, then its knobs in the order of their numbers.
std::string text_of(const Descriptor& engine, const Descriptor& config) {
  std::string text = std::to_string(engine.number(CUDNN_ATTR_ENGINE_GLOBAL_INDEX)) + ":";
  std::vector<Descriptor> choices;
  std::vector<cudnnBackendDescriptor_t> own;
  for (std::size_t i = 0; i < kMostKnobs; ++i) {
    own.push_back(choices.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR).own());
  }
  const std::int64_t count = config.get(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                        static_cast<std::int64_t>(kMostKnobs), own.data());
  std::vector<std::pair<int, std::int64_t>> knobs;
  for (std::int64_t i = 0; i < count; ++i) {
    const Descriptor& choice = choices[static_cast<std::size_t>(i)];
    cudnnBackendKnobType_t type{};
    choice.get(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
    knobs.emplace_back(static_cast<int>(type), choice.number(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
  }
  std::sort(knobs.begin(), knobs.end());
  for (const auto& [type, value] : knobs) {
    if (text.back() != ':') text += ',';
    text += std::to_string(type) + "=" + std::to_string(value);
  }
  return text;
}

// The number at the front of `text`, which is cut off with the separator behind it.
std::optional<std::int64_t> take_number(std::string_view& text, char separator) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.empty()) return value;
  if (text.front() != separator) return std::nullopt;
  text.remove_prefix(1);
  return value;
}

// Of x with even pads.
ConvShape conv_shape(ConvProduct product, const TensorDesc& x, const TensorDesc& w, const TensorDesc& y,
                     const ConvWindow& window) {
  ConvShape result;
  result.product = product;
  result.type = result.result = product == ConvProduct::backward_data ? y.dtype : x.dtype;
  const auto sizes = [](const TensorDesc& t) {
    Sizes list(t.shape, t.shape + t.rank);
    if (t.rank == 3) list.insert(list.begin() + 1, 1);
    return list;
  };
  result.x = sizes(x);
  result.w = sizes(w);
  result.y = sizes(y);
  if (x.rank == 3) {
    result.strides = result.dilations = {1};
    result.pads = {0};
  }
  for (int i = 0; i < x.rank - 2; ++i) {
    result.strides.push_back(window.stride(i));
    result.dilations.push_back(window.dilation(i));
    result.pads.push_back(window.pad_before(i));
  }
  return result;
}

}  // namespace

std::string ConvShape::key() const {
  std::string text;
  for (const std::int64_t part :
       {static_cast<std::int64_t>(product), static_cast<std::int64_t>(type), static_cast<std::int64_t>(result),
        bias ? static_cast<std::int64_t>(*bias) : std::int64_t{-1}, std::int64_t{relu}}) {
    append(text, part);
  }
  for (const Sizes& list : {x, w, y, strides, dilations, pads}) {
    for (const std::int64_t size : list) append(text, size);
  }
  return "conv," + text;
}

std::string ConvShape::text() const {
  const auto list = [](const Sizes& sizes) {
    std::string numbers;
    for (const std::int64_t size : sizes) numbers += (numbers.empty() ? "" : ", ") + std::to_string(size);
    return "(" + numbers + ")";
  };
  const char* const kind = product == ConvProduct::forward         ? "convolution"
                           : product == ConvProduct::backward_data ? "input gradient of a convolution"
                                                                   : "weight gradient of a convolution";
  const char* const of = type == DType::f32 ? "f32" : type == DType::bf16 ? "bf16" : "f16";
  return std::string(kind) + " of " + of + " with x " + list(x) + ", w " + list(w) + ", y " + list(y) + ", strides " +
         list(strides) + ", pads " + list(pads) + ", dilations " + list(dilations);
}

ConvTask forward_task(const KernelSpec& spec) {
  ConvAttrs attrs = spec.attributes<ConvAttrs>();
  const EvenPads x = even_pads(spec.in[0], attrs);
  ConvTask result = {x, conv_shape(ConvProduct::forward, x.padded, spec.in[1], spec.out[0], attrs)};
  if (spec.in.size() > 2 && spec.in[2].rank == 1) {
    // Of y's type: there are no engines for bf16 with a bias of f32.
    result.shape.bias = spec.out[0].dtype;
    result.shape.relu = attrs.activation == Activation::relu;
  }
  return result;
}

ConvTask input_gradient_task(const KernelSpec& spec, ConvWindow window) {
  const EvenPads x = even_pads(spec.out[0], window);
  return {x, conv_shape(ConvProduct::backward_data, x.padded, spec.in[1], spec.in[0], window)};
}

ConvTask weight_gradient_task(const KernelSpec& spec) {
  ConvWindow window = spec.attributes<ConvBackwardWeightsAttrs>();
  const EvenPads x = even_pads(spec.in[0], window);
  ConvTask result = {x, conv_shape(ConvProduct::backward_weights, x.padded, spec.out[0], spec.in[1], window)};
  result.shape.result = spec.out[0].dtype;
  return result;
}

std::size_t most_workspace(const ConvShape& shape) {
  constexpr std::size_t kBeside = std::size_t{256} << 20;
  std::size_t result = kBeside;
  for (const Sizes& sizes : {shape.x, shape.w, shape.y}) {
    std::size_t bytes = std::max(dtype_size(shape.type), dtype_size(shape.result));
    for (const std::int64_t size : sizes) bytes *= static_cast<std::size_t>(size);
    result += bytes;
  }
  return result;
}

ConvGraph::ConvGraph(const ConvShape& shape, const ConvTarget& target)
    : target_(target), is_f32_(shape.type == DType::f32), graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
  const auto keep = [&](Descriptor part) -> const Descriptor& { return parts_.emplace_back(std::move(part)); };
  const auto type_in = [&](ConvProduct product) { return shape.product == product ? shape.result : shape.type; };
  std::vector<cudnnBackendDescriptor_t> operations;
  const Descriptor& x = keep(tensor(kX, shape.x, type_in(ConvProduct::backward_data)));
  const Descriptor& w = keep(tensor(kW, shape.w, type_in(ConvProduct::backward_weights)));
  const Descriptor& y = keep(tensor(kY, shape.y, type_in(ConvProduct::forward)));
  const Descriptor* sums = &y;
  if (shape.bias) sums = &keep(tensor(kSums, shape.y, DType::f32, true));
  operations.push_back(keep(convolution(shape, keep(window(shape)), x, w, *sums)).own());
  if (shape.bias) {
    Sizes sizes(shape.y.size(), 1);
    sizes.back() = shape.y.back();
    const Descriptor& bias = keep(tensor(kBias, sizes, *shape.bias));
    const Descriptor& biased = shape.relu ? keep(tensor(kBiased, shape.y, DType::f32, true)) : y;
    operations.push_back(keep(pointwise(keep(pointwise_kind(CUDNN_POINTWISE_ADD)), *sums, &bias, biased)).own());
    if (shape.relu) {
      operations.push_back(keep(pointwise(keep(pointwise_kind(CUDNN_POINTWISE_RELU_FWD)), biased, nullptr, y)).own());
    }
  }
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(operations.size()),
             operations.data());
  if (target_.handle) graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target_.handle);
  graph_.finalize("cuDNN does not accept the graph of the convolution");
}

bool ConvGraph::allowed(const Descriptor& engine) const {
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT] = {};
  const std::int64_t count =
      engine.get(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes);
  return std::none_of(notes, notes + count, [&](cudnnBackendNumericalNote_t note) {
    switch (note) {
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:  // tf32
        return is_f32_;
      case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
        return false;
      default:
        return true;
    }
  });
}

void ConvGraph::add_engines(cudnnBackendHeurMode_t mode, std::size_t most, std::vector<ConvEngine>& engines) const {
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (target_.described) heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target_.described);
  if (cudnn().finalize(heuristic.own()) != CUDNN_STATUS_SUCCESS) return;  // this mode has none for the graph
  std::vector<Descriptor> configs;
  std::vector<cudnnBackendDescriptor_t> own;
  for (std::size_t i = 0; i < kMostOffered; ++i) {
    own.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).own());
  }
  const std::int64_t count = heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                           static_cast<std::int64_t>(kMostOffered), own.data());
  for (std::int64_t i = 0; i < count && engines.size() < most; ++i) {
    Descriptor& config = configs[static_cast<std::size_t>(i)];
    Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t place = engine.own();
    config.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &place);
    if (!allowed(engine)) continue;
    std::string text = text_of(engine, config);
    if (std::any_of(engines.begin(), engines.end(), [&](const ConvEngine& e) { return e.text == text; })) continue;
    ConvEngine& added = engines.emplace_back(ConvEngine{std::move(config), std::move(text)});
    added.parts.push_back(std::move(engine));
  }
}

std::vector<ConvEngine> ConvGraph::engines(std::size_t most) const {
  std::vector<ConvEngine> result;
  add_engines(CUDNN_HEUR_MODE_A, most, result);
  if (result.size() < most) add_engines(CUDNN_HEUR_MODE_FALLBACK, most, result);
  return result;
}

std::optional<ConvEngine> ConvGraph::engine(const std::string& text) const try {
  std::string_view rest = text;
  const std::optional<std::int64_t> index = take_number(rest, ':');
  if (!index) return std::nullopt;
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_);
  engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, *index);
  if (target_.described) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, *target_.described);
  engine.finalize("cuDNN does not have the engine");
  if (!allowed(engine)) return std::nullopt;
  std::vector<Descriptor> choices;
  std::vector<cudnnBackendDescriptor_t> own;
  while (!rest.empty()) {
    const std::optional<std::int64_t> type = take_number(rest, '=');
    const std::optional<std::int64_t> value = take_number(rest, ',');
    if (!type || !value || choices.size() == kMostKnobs) return std::nullopt;
    Descriptor& choice = choices.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, static_cast<cudnnBackendKnobType_t>(*type));
    choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, *value);
    choice.finalize("cuDNN does not accept the engine's choice");
    own.push_back(choice.own());
  }
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!own.empty()) {
    config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(own.size()),
               own.data());
  }
  config.finalize("cuDNN does not accept the engine's choices");
  choices.push_back(std::move(engine));
  return ConvEngine{std::move(config), text, std::move(choices)};
} catch (const CudnnError&) {
  return std::nullopt;
}

ConvPlan ConvGraph::plan(const ConvEngine& engine) const {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine.config);
  if (target_.handle) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target_.handle);
  if (target_.described) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target_.described);
  plan.finalize("cuDNN cannot make the plan of the convolution");
  const std::int64_t workspace = plan.number(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  return ConvPlan(std::move(plan), workspace);
}

void ConvPlan::run(cudnnHandle_t handle, const ConvBuffers& buffers, void* workspace) {
  const std::array<const void*, 5> pointers = {buffers.x, buffers.w, buffers.y, buffers.bias, workspace};
  if (!pack_ || pointers != bound_) {
    // Set apart first: an error must not leave a pack that is for other buffers.
    pack_.reset();
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    const std::array<std::int64_t, 4> uids = {kX, kW, kY, kBias};
    const std::int64_t count = buffers.bias ? 4 : 3;
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    pack.finalize("cuDNN does not accept the buffers of the convolution");
    pack_ = std::move(pack);
    bound_ = pointers;
  }
  check_cudnn(cudnn().execute(handle, plan_.own(), pack_->own()), "cudnnBackendExecute");
}

}  // namespace trivet::kernels::cuda
