// Muon: momentum whose update is made (nearly) orthogonal. Composed of other ops, because its work is matrix products.
// Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
#pragma once

#include "trivet/graph/graph.h"

namespace trivet {

// The nearest semi-orthogonal matrix to `matrix` (R, C) f32, approximately: singular values are brought to between
// about 0.7 and 1.2 by `iterations` of the quintic Newton-Schulz iteration with the coefficients (3.4445, -4.7750,
// 2.0315) of that article. A zero matrix stays zero. Error(graph) if the value is not an f32 matrix with elements.
ValueId orthogonalize(Graph& graph, ValueId matrix, int iterations = 5);

struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0;  // decoupled: param shrinks by lr * weight_decay
};

struct MuonDirection {
  ValueId direction;  // sqrt(max(1, R / C)) * orthogonalize(buffer' or its Nesterov form), in f32
  ValueId buffer;     // buffer'
};

// What a step subtracts, before the learning rate and weight decay. Values as for muon_step.
MuonDirection muon_direction(Graph& graph, ValueId gradient, ValueId buffer, ValueId scale, const MuonOptions& options);

struct MuonStep {
  ValueId param;  // the new parameter and momentum buffer, to be given to Graph::set_update
  ValueId buffer;
};

// One step: buffer' = momentum * buffer + (1 - momentum) * gradient; param' = param - lr * (sqrt(max(1, R / C)) *
// orthogonalize(buffer' or its Nesterov form) + weight_decay * param). All f32 and of one shape of rank 2 or more;
// one of a higher rank, such as weights (O, H, W, I), is taken as the matrix (R = O, C = the rest). lr: f32 scalar.
// scale: optional f32 scalar, a factor for the gradient. Vectors want another optimizer.
MuonStep muon_step(Graph& graph, ValueId param, ValueId gradient, ValueId buffer, ValueId lr, ValueId scale,
                   const MuonOptions& options);

}  // namespace trivet
