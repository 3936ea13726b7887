// Attributes of the ops that make tensors larger by repeating their own elements or a constant.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

enum class PadMode {
  constant,
  reflect,  // mirrored at the outermost elements, which are not repeated
  edge,     // the outermost elements repeated
  wrap,     // from the other end, as often as needed
};

// As ONNX Pad.
struct PadAttrs {
  IntList pads;  // [before each of axes ..., after each of axes ...], at least 0
  IntList axes;  // empty: the first ones, as many as there are pairs
  PadMode mode = PadMode::constant;
  double value = 0;  // of mode constant
};

struct TileAttrs {
  IntList repeats;  // for each dimension, at least 1
};

}  // namespace trivet::kernels
