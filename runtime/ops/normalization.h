// What the shape and gradient rules of the normalization ops share.
#pragma once

#include "trivet/base/error.h"
#include "trivet/ops/grad_context.h"

namespace trivet {

void require_epsilon(const OpContext& context, double epsilon);

// The saved statistics feed the backward op only; a loss on them has no gradient rule.
void require_first_output_only(const GradContext& context, int outputs, const char* op);

}  // namespace trivet
