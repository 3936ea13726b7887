// The library in one include: graphs, gradients, plans, sessions. examples/cpp/circle.cpp shows it at work.
#pragma once

#include "trivet/base/error.h"
#include "trivet/exec/device.h"
#include "trivet/exec/session.h"
#include "trivet/formats/safetensors.h"
#include "trivet/graph/graph.h"
#include "trivet/nn/builder.h"
#include "trivet/ops/registry.h"
#include "trivet/passes/gradients.h"
#include "trivet/passes/passes.h"
#include "trivet/plan/plan.h"
