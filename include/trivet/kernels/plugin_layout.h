// What both sides of a plug-in's border must agree on: the layout of views, and the sizes of all attribute structs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "trivet/kernels/attrs_activation.h"
#include "trivet/kernels/attrs_attention.h"
#include "trivet/kernels/attrs_convolution.h"
#include "trivet/kernels/attrs_elementwise.h"
#include "trivet/kernels/attrs_indexing.h"
#include "trivet/kernels/attrs_loss.h"
#include "trivet/kernels/attrs_matrix.h"
#include "trivet/kernels/attrs_normalization.h"
#include "trivet/kernels/attrs_optimizer.h"
#include "trivet/kernels/attrs_padding.h"
#include "trivet/kernels/attrs_pooling.h"
#include "trivet/kernels/attrs_quantization.h"
#include "trivet/kernels/attrs_random.h"
#include "trivet/kernels/attrs_ranks.h"
#include "trivet/kernels/attrs_recurrent.h"
#include "trivet/kernels/attrs_reduction.h"
#include "trivet/kernels/attrs_resize.h"
#include "trivet/kernels/attrs_shape.h"
#include "trivet/kernels/attrs_sorting.h"
#include "trivet/kernels/plugin.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels {

static_assert(sizeof(TrivetDesc) == sizeof(TensorDesc) && alignof(TrivetDesc) == alignof(TensorDesc));
static_assert(offsetof(TrivetDesc, dtype) == offsetof(TensorDesc, dtype));
static_assert(offsetof(TrivetDesc, rank) == offsetof(TensorDesc, rank));
static_assert(offsetof(TrivetDesc, shape) == offsetof(TensorDesc, shape));
// A View is its TensorDesc, then the pointer: there is no other place for it in so many bytes.
static_assert(sizeof(TrivetView) == sizeof(View) && alignof(TrivetView) == alignof(View));
static_assert(sizeof(View) == sizeof(TensorDesc) + sizeof(void*));
static_assert(TRIVET_MAX_RANK == kMaxRank && sizeof(DType) == 1);

// The attribute structs that cross the border.
template <class... Attrs>
constexpr std::uint64_t layout_of() {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const std::uint64_t size : {std::uint64_t{sizeof(Attrs)}...}) hash = (hash ^ size) * 1099511628211U;
  return hash;
}

// Differs where a struct has another size, so that a plug-in of another state of the sources is refused.
constexpr std::uint64_t plugin_layout() {
  return layout_of<GeluAttrs, HardSigmoidAttrs, LeakyReluAttrs, EluAttrs, SeluAttrs, CeluAttrs, ThresholdedReluAttrs,
                   AttentionAttrs, RotaryEmbeddingAttrs, ConvAttrs, ConvBackwardDataAttrs, ConvBackwardWeightsAttrs,
                   ConvTransposeAttrs, ClampAttrs, AffineAttrs, ModAttrs, IsInfAttrs, CastAttrs, EmbeddingBackwardAttrs,
                   GatherAttrs, GatherBackwardAttrs, GatherNdAttrs, ScatterElementsAttrs, ScatterNdAttrs, OneHotAttrs,
                   CrossEntropyAttrs, TopKCorrectAttrs, HuberLossAttrs, MatmulAttrs, LinearAttrs,
                   LinearBackwardWeightsAttrs, BatchNormAttrs, BatchNormTrainAttrs, BatchNormBackwardAttrs,
                   LayerNormAttrs, LayerNormBackwardAttrs, GroupNormAttrs, GroupNormBackwardAttrs, InstanceNormAttrs,
                   SoftmaxAttrs, SgdAttrs, AdamWAttrs, LionAttrs, AdafactorAttrs, AverageAttrs, ClipScaleAttrs,
                   PadAttrs, TileAttrs, MaxPoolAttrs, AveragePoolAttrs, AveragePoolBackwardAttrs, AdaptivePoolAttrs,
                   AdaptivePoolBackwardAttrs, QuantizeAttrs, DequantizeAttrs, DropoutAttrs, RandomUniformAttrs,
                   RandomNormalAttrs, SumRanksAttrs, RootedRanksAttrs, LstmAttrs, GruAttrs, LstmBackwardAttrs,
                   GruBackwardAttrs, ReduceAttrs, ResizeAttrs, ResizeBackwardAttrs, ReshapeAttrs, TransposeAttrs,
                   SliceAttrs, SliceBackwardAttrs, ConcatAttrs, SplitAttrs, ExpandAttrs, FullAttrs, DepthAttrs,
                   TriluAttrs, ArgmaxAttrs, TopKAttrs, SortAttrs, CumulativeSumAttrs>();
}

}  // namespace trivet::kernels
