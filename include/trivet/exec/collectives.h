// What a session needs of the other ranks while it runs a plan: sums and broadcasts that go on while the plan's next
// steps run.
//
// They are numbered from 0 in each run, the same on all ranks, and are made in the order of their numbers, in whichever
// order a rank starts them. A rank may wait for one when it has started all that come before.
#pragma once

#include <span>

#include "trivet/kernels/view.h"

namespace trivet {

class Collectives {
 public:
  virtual ~Collectives() = default;
  // Begins to add the views to those of the other ranks, in place; all have one dtype.
  virtual void start_sum(int number, std::span<const kernels::View> views) = 0;
  // The same for rank `root` alone; what the views of the others hold afterwards is not defined.
  virtual void start_reduce(int number, int root, std::span<const kernels::View> views) = 0;
  // Begins to give the views of rank `root` to the others, in the place of theirs.
  virtual void start_broadcast(int number, int root, std::span<const kernels::View> views) = 0;
  // Returns when the sum of that number is done. Throws what went wrong meanwhile.
  virtual void wait(int number) = 0;
  // At the end of a run: returns when all that was started is done, and counts from 0 again. Throws likewise.
  virtual void finish() = 0;
};

}  // namespace trivet
