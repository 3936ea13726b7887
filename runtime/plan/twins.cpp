#include "trivet/plan/plan.h"

namespace trivet {
namespace {

std::vector<kernels::TensorDesc> descs(const Plan& plan, const std::vector<int>& values) {
  std::vector<kernels::TensorDesc> result;
  for (const int v : values) {
    result.push_back(v < 0 ? kernels::TensorDesc{} : plan.values[static_cast<std::size_t>(v)].type.desc());
  }
  return result;
}

// What a kernel prepared holds pointers of one run, so each twin has its own.
void prepare_again(PlannedStep& step, const Plan& plan) {
  if (!step.kernel->prepare) return;
  std::vector<kernels::TensorDesc> in = descs(plan, step.inputs);
  if (step.packed_bytes > 0) in[step.kernel->weights] = step.weights;
  const std::vector<kernels::TensorDesc> out = descs(plan, step.outputs);
  step.prepared =
      step.kernel->prepare({in, out, step.attrs.data(), plan.threads, step.packed_bytes > 0, true, step.kernel});
}

}  // namespace

std::vector<std::shared_ptr<const Plan>> with_twins(const std::shared_ptr<const Plan>& plan, int count,
                                                    const Target& target) {
  std::vector<std::shared_ptr<const Plan>> result = {plan};
  target.enter();
  const std::size_t alignment = target.alignment();
  const std::size_t distance = (plan->transient_bytes + alignment - 1) / alignment * alignment;
  for (int i = 1; i < count; ++i) {
    auto twin = std::make_shared<Plan>(*plan);
    twin->twin_of = plan;
    twin->transient_offset = static_cast<std::size_t>(i) * distance;
    for (std::size_t s = plan->first_repeated; s < twin->steps.size(); ++s) prepare_again(twin->steps[s], *plan);
    result.push_back(std::move(twin));
  }
  return result;
}

}  // namespace trivet
