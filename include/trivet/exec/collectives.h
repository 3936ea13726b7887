// What a session needs of the other ranks while it runs a plan: sums that go on while the plan's next steps run.
#pragma once

#include <span>

#include "trivet/kernels/view.h"

namespace trivet {

class Collectives {
 public:
  virtual ~Collectives() = default;
  // Begins to add the views to those of the other ranks, in place; all have one dtype. `number` is the same on all
  // ranks, and its sums are begun in the same order on all.
  virtual void start_sum(int number, std::span<const kernels::View> views) = 0;
  // Returns when they are done. Throws what went wrong meanwhile.
  virtual void wait(int number) = 0;
};

}  // namespace trivet
