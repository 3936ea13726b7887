// What the gradient rules of the losses share.
#pragma once

#include "trivet/ops/grad_context.h"

namespace trivet {

// Error(graph) if a gradient with respect to this input is asked for: a target, say, that depends on a parameter.
void refuse_gradient(const GradContext& context, int input, const char* op, const char* name);

}  // namespace trivet
