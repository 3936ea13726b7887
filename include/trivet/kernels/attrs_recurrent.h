// Attributes of the recurrent layers.
#pragma once

#include "trivet/kernels/view.h"

namespace trivet::kernels {

enum class Direction { forward, reverse, bidirectional };

struct LstmAttrs {
  Direction direction = Direction::forward;
  bool training = true;  // keeps what the backward op needs
};

struct GruAttrs {
  Direction direction = Direction::forward;
  bool training = true;
  bool linear_before_reset = false;  // the reset gate scales the candidate's product, not the state before it
};

struct LstmBackwardAttrs {
  Direction direction = Direction::forward;
  bool input_gradient = true;  // also of x
};

struct GruBackwardAttrs {
  Direction direction = Direction::forward;
  bool linear_before_reset = false;
  bool input_gradient = true;
};

}  // namespace trivet::kernels
