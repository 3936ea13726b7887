// One function for each file of op declarations; registry.cpp gathers them.
#pragma once

#include <vector>

#include "trivet/graph/op.h"

namespace trivet {

std::vector<OpDef> elementwise_ops();
std::vector<OpDef> reduction_ops();
std::vector<OpDef> shape_ops();
std::vector<OpDef> padding_ops();
std::vector<OpDef> matrix_ops();
std::vector<OpDef> convolution_ops();
std::vector<OpDef> pooling_ops();
std::vector<OpDef> normalization_ops();
std::vector<OpDef> row_normalization_ops();
std::vector<OpDef> softmax_ops();
std::vector<OpDef> loss_ops();
std::vector<OpDef> pointwise_loss_ops();
std::vector<OpDef> random_ops();
std::vector<OpDef> optimizer_ops();
std::vector<OpDef> unary_ops();
std::vector<OpDef> activation_ops();
std::vector<OpDef> indexing_ops();
std::vector<OpDef> sorting_ops();
std::vector<OpDef> resize_ops();
std::vector<OpDef> recurrent_ops();
std::vector<OpDef> attention_ops();
std::vector<OpDef> quantization_ops();
std::vector<OpDef> ranks_ops();

}  // namespace trivet
