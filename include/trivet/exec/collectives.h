// What a session needs of the other ranks while it runs a plan: sums and broadcasts that go on while the plan's next
// steps run.
//
// They are numbered from 0 in each run, the same on all ranks, and are made in the order of their numbers, in whichever
// order a rank starts them. A rank may wait for one when it has started all that come before.
#pragma once

#include <span>

#include "trivet/kernels/view.h"

namespace trivet {

class Stream;

class Collectives {
 public:
  virtual ~Collectives() = default;
  // Begins to add the views to those of the other ranks, in place; all have one dtype. Here and below they are taken as
  // they are when `stream` has come to this place.
  virtual void start_sum(int number, std::span<const kernels::View> views, Stream& stream) = 0;
  // The same for rank `root` alone; what the views of the others hold afterwards is not defined.
  virtual void start_reduce(int number, int root, std::span<const kernels::View> views, Stream& stream) = 0;
  // Begins to give the views of rank `root` to the others, in the place of theirs.
  virtual void start_broadcast(int number, int root, std::span<const kernels::View> views, Stream& stream) = 0;
  // What is put on the stream from now on finds that sum done. Throws what went wrong meanwhile.
  virtual void wait(int number, Stream& stream) = 0;
  // At the end of a run: the same for all that was started, and counts from 0 again.
  virtual void finish(Stream& stream) = 0;
  // Before the host waits for a stream: returns when nothing that was started can hold it up any more. Error(rank) if
  // another rank keeps it from being done within the deadline.
  virtual void settle() = 0;
};

}  // namespace trivet
